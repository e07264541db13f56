"""The methods about phrases: one at a time, without delaying other requests."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.audio.format import Format
from agent.frontends.api.api import Api, Caller
from agent.frontends.api.errors import FORBIDDEN, UNAVAILABLE
from agent.frontends.api.json_rpc import INTERNAL_ERROR, INVALID_PARAMS
from agent.frontends.api.phrase_access import PhraseAccess
from agent.pipeline.status import Status
from agent.pipeline.tts.phrase_cache import PhraseCache
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey

CALLER = Caller("test", True, True)
Call = Callable[..., Any]


@pytest.fixture
def cache(tmp_path: Path) -> PhraseCache:
    cache = PhraseCache(tmp_path, 1_000_000)
    for text in ("One.", "Two."):
        cache.store(Phrase(PhraseKey("local", "", text), "en", Format(16000), bytes(3200)))
    return cache


def warm(texts: Sequence[str], service: str | None) -> dict[str, object]:
    return {"kept": len(texts), "service": service}


def call(access: PhraseAccess | None, method: str, caller: Caller = CALLER, **params: object) -> Any:
    """Return the result of a method, or the error."""
    api = Api(lambda event: None)
    api.notify(Status("ready to speak", "idle", (), 80))
    api.phrases = access
    responses: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    api.call(json.dumps(request).encode(), caller, responses.put)
    response = json.loads(responses.get(timeout=30))
    return response.get("result") or response["error"]


def test_list_returns_the_texts_only_to_a_caller_that_may_read_them(cache: PhraseCache) -> None:
    access = PhraseAccess(lambda: cache, warm)
    result = call(access, "phrases.list")
    assert {phrase["text"] for phrase in result["phrases"]} == {"One.", "Two."}
    assert result["capacity_bytes"] == 1_000_000 and result["bytes"] > 0
    result = call(access, "phrases.list", CALLER._replace(may_read_texts=False))
    assert [phrase["text"] for phrase in result["phrases"]] == ["", ""]


def test_list_is_limited(cache: PhraseCache) -> None:
    cache.store(Phrase(PhraseKey("local", "", "x" * 5000), "en", Format(16000), bytes(3200)))
    result = call(PhraseAccess(lambda: cache, warm), "phrases.list", limit=1)
    assert [len(phrase["text"]) for phrase in result["phrases"]] == [100] and result["count"] == 3


def test_remove_clear_and_verify_change_the_directory(cache: PhraseCache) -> None:
    access = PhraseAccess(lambda: cache, warm)
    assert call(access, "phrases.remove", phrases=["Two."]) == {"removed": 1}
    (entry,) = cache.entries()
    entry.path.write_bytes(b"damaged")
    assert call(access, "phrases.verify") == {
        "checked": 1,
        "removed": [{"id": entry.id, "reason": "the checksum differs"}],
    }
    assert call(access, "phrases.clear") == {"removed": 0}


def test_warm_passes_the_texts_and_the_service(cache: PhraseCache) -> None:
    access = PhraseAccess(lambda: cache, warm)
    assert call(access, "phrases.warm", texts=["A.", "B."], service="fish") == {"kept": 2, "service": "fish"}


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("phrases.remove", {"phrases": ["Three."]}, INVALID_PARAMS),
        ("phrases.remove", {"phrases": [1]}, INVALID_PARAMS),
        ("phrases.remove", {}, INVALID_PARAMS),
        ("phrases.warm", {"texts": ["---"]}, INVALID_PARAMS),
        ("phrases.list", {"x": 1}, INVALID_PARAMS),
    ],
)
def test_wrong_parameters_are_an_error(cache: PhraseCache, method: str, params: dict[str, object], code: int) -> None:
    assert call(PhraseAccess(lambda: cache, warm), method, **params)["code"] == code
    assert len(list(cache.entries())) == 2


def test_a_caller_without_control_is_refused(cache: PhraseCache) -> None:
    caller = CALLER._replace(may_control=False)
    assert call(PhraseAccess(lambda: cache, warm), "phrases.clear", caller)["code"] == FORBIDDEN


def test_a_daemon_without_phrases_refuses_the_request() -> None:
    assert call(None, "phrases.list")["code"] == UNAVAILABLE


def test_a_second_request_is_refused_while_one_runs_and_a_failure_is_answered_and_logged(
    cache: PhraseCache, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go = threading.Event(), threading.Event()

    def fail(texts: Sequence[str], service: str | None) -> dict[str, object]:
        begun.set()
        go.wait(30)
        raise RuntimeError("broken")

    access = PhraseAccess(lambda: cache, fail)
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    first = threading.Thread(target=lambda: answers.put(call(access, "phrases.warm", texts=["A."])))
    first.start()
    assert begun.wait(30)
    assert call(access, "phrases.list")["code"] == UNAVAILABLE
    go.set()
    assert answers.get(timeout=30)["code"] == INTERNAL_ERROR
    assert [(each.getMessage(), bool(each.exc_info)) for each in caplog.records] == [
        ("api: a request failed, about=phrases, broken", True)
    ]
    first.join(30)
    assert len(call(access, "phrases.list")["phrases"]) == 2
