"""Requests for devices at a server like Home Assistant, and answers that are none."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from support.conversation_api import ConversationApi
from support.generators import result_of
from support.machine import free_port

from agent.config.secrets import Secret
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.responders.echo import EchoResponder
from agent.pipeline.responders.intents.home_assistant import PATH, REFUSED, UNREACHABLE, Answer, HomeAssistant
from agent.pipeline.responders.intents.responder import IntentsResponder
from agent.pipeline.responders.settings import HomeAssistantSettings
from agent.pipeline.timers import Clock, Timers

TOKEN = "token-of-home-assistant"
LOST, OTHER = "I cannot reach Home Assistant.", "turn on the desk lamp"


@pytest.fixture
def api() -> Iterator[ConversationApi]:
    with ConversationApi(TOKEN) as running:
        yield running


def home(url: str, token: str = TOKEN, seconds: float = 20.0) -> HomeAssistant:
    return HomeAssistant(HomeAssistantSettings(url, Secret(value=token)), "en", timeout_seconds=seconds)


def ask(asked: HomeAssistant, text: str = OTHER) -> Answer:
    return result_of(asked.ask(text))


def responder(asked: HomeAssistant) -> IntentsResponder:
    control = DeviceControl(lambda event: None, Timers(Clock(lambda: 0.0)), lambda saved, done: done(True), lambda: 50)
    return IntentsResponder(EchoResponder(), control, "en", asked)


def reply(made: IntentsResponder, text: str) -> str:
    return "".join(made.reply(text, 1)).strip()


def test_requests_for_devices_are_answered_by_home_assistant(api: ConversationApi) -> None:
    made = responder(home(f"{api.url}/"))
    assert reply(made, "turn on the desk lamp") == "Turned on the light" and api.lamp
    assert reply(made, "repeat that") == "Turned on the light"
    assert reply(made, "is the desk lamp on") == "Yes"
    assert api.requests[0] == {"text": "turn on the desk lamp", "language": "en"}
    assert api.requests[1]["conversation_id"] == "conversation-1"
    assert reply(made, "lock the desk lamp") == "An unexpected error occurred"


def test_our_own_requests_and_other_texts_are_not_sent(api: ConversationApi) -> None:
    made = responder(home(api.url))
    assert reply(made, "set a timer for five minutes") == "5 minutes, starting now."
    assert reply(made, "what is the meaning of life") == "what is the meaning of life"
    assert api.requests == []


def test_request_for_an_unknown_device_goes_to_the_responder(api: ConversationApi) -> None:
    made = responder(home(api.url))
    assert reply(made, "turn on the moon") == "turn on the moon"
    assert reply(made, "play some jazz") == "play some jazz"
    assert len(api.requests) == 2


def test_refused_token_is_named_once_and_in_speech(api: ConversationApi, caplog: pytest.LogCaptureFixture) -> None:
    asked = home(api.url, "wrong")
    with caplog.at_level(logging.WARNING):
        assert reply(responder(asked), OTHER) == f"Home Assistant refuses my token.\n\n{OTHER}"
        assert ask(asked).problem == REFUSED
    (record,) = caplog.records
    assert "responder.intents.home_assistant.token" in record.message and "wrong" not in record.message


def test_unreachable_home_assistant_is_said_and_the_responder_answers() -> None:
    assert reply(responder(home(f"http://127.0.0.1:{free_port()}")), OTHER) == f"{LOST}\n\n{OTHER}"


JSON = "application/json"


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, JSON, b"x" * 1_100_000),
        (200, JSON, b"nonsense"),
        (200, JSON, b"[]"),
        (200, JSON, b"{}"),
        (200, JSON, b'{"response": "on"}'),
        (200, JSON, b'{"response": {"response_type": 5}}'),
        (200, JSON, b"\xff\xfe"),
        (200, JSON, b"[" * 100_000),
        (200, "text/html", b"<html>Log in</html>"),
        (200, "", b""),
        (400, JSON, b'{"message": "Message format incorrect"}'),
        (404, "text/plain", b"404: Not Found"),
        (500, "text/html", b"<html>500</html>"),
        (502, "text/html", b"<html>Bad Gateway</html>"),
    ],
)
def test_answer_that_is_none_is_unreachable(service: Any, status: int, kind: str, body: bytes) -> None:
    service.script = lambda handler: handler.reply(status, kind, body)
    assert ask(home(service.url)).problem == UNREACHABLE


def test_redirect_is_not_followed(service: Any) -> None:
    service.script = lambda handler: handler.reply(302, "text/plain", b"", Location=f"{service.url}/other")
    assert ask(home(service.url)).problem == UNREACHABLE
    assert [path for path, *_ in service.requests] == [PATH]


def test_slow_answer_ends_at_the_timeout(service: Any) -> None:
    service.script = lambda handler: handler.hold()
    assert ask(home(service.url, seconds=0.3)).problem == UNREACHABLE


def test_cancel_is_possible_while_the_answer_trickles_in(service: Any) -> None:
    service.script = lambda handler: handler.trickle(JSON, b" ")
    answers = home(service.url, seconds=5.0).ask(OTHER)
    for _ in range(40):
        next(answers)  # silence alone would be reported 20 times before the timeout
    answers.close()


@pytest.mark.parametrize("speech", [None, [], {"plain": "x"}, {"plain": {"speech": None}}, {"plain": {"speech": ""}}])
def test_answer_without_speech_is_silent(service: Any, speech: object) -> None:
    document = {"response": {"response_type": "action_done", "speech": speech}, "conversation_id": 5}
    service.script = lambda handler: handler.reply(200, JSON, json.dumps(document).encode())
    assert ask(home(service.url)) == Answer()
    assert reply(responder(home(service.url)), OTHER) == ""


def test_long_speech_and_broken_characters_are_bounded(service: Any) -> None:
    speech = {"plain": {"speech": "\ud800" + "x" * 9000}}
    document = {"response": {"response_type": "query_answer", "speech": speech}}
    service.script = lambda handler: handler.reply(200, JSON, json.dumps(document).encode())
    spoken = ask(home(service.url)).speech
    assert len(spoken) == 4000
    spoken.encode()
