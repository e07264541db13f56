from __future__ import annotations

from collections.abc import Callable

from support.conversation_api import ConversationApi
from support.machine import free_port

from agent.cli.doctor.config import used_keys
from agent.cli.doctor.home_assistant import check_home_assistant
from agent.cli.doctor.result import ERROR, OK
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]


def configured(loaded: Read, url: str, token: str = "right-token") -> Loaded:
    home = f"{{url: '{url}', token: {token}}}"
    return loaded(f"responder: {{intents: {{language: en, home_assistant: {home}}}}}\n")


def test_home_assistant_that_answers_is_ok(loaded: Read) -> None:
    with ConversationApi("right-token") as api:
        result = check_home_assistant(configured(loaded, api.url))
    assert (result.subject, result.verdict) == ("Home Assistant", OK)


def test_refused_token_names_where_to_store_the_right_one(loaded: Read) -> None:
    with ConversationApi("right-token") as api:
        result = check_home_assistant(configured(loaded, api.url, "wrong-token"))
    assert result.verdict == ERROR and "responder.intents.home_assistant.token" in result.saw
    assert "right key" in result.cure and "wrong-token" not in result.saw + result.cure


def test_home_assistant_that_is_off_names_its_address(loaded: Read) -> None:
    result = check_home_assistant(configured(loaded, f"http://127.0.0.1:{free_port()}"))
    assert result.verdict == ERROR and "cannot be reached" in result.saw
    assert "responder.intents.home_assistant.url" in result.cure


def test_token_is_checked_under_its_name(loaded: Read) -> None:
    config = configured(loaded, "http://127.0.0.1:1").config
    assert [key for key, _, _ in used_keys(config)][-1] == "responder.intents.home_assistant.token"
