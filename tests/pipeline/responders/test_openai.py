from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent.config.secrets import Secret
from agent.errors import ServiceError
from agent.pipeline.responders.openai import OpenAIResponder, Settings

Hear = Callable[..., list[str]]
KEY = "sk-0123456789"


def chat(url: str, seconds: float = 20.0, key: str | None = KEY, **more: Any) -> OpenAIResponder:
    return OpenAIResponder(Settings(base_url=f"{url}/v1", api_key=Secret(value=key), **more), seconds)


def event(content: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def says(*contents: str) -> Callable[[Any], None]:
    def script(handler: Any) -> None:
        handler.begin("text/event-stream; charset=utf-8")
        for content in contents:
            handler.chunk(event(content))
        handler.chunk(event(finish="stop"))
        handler.chunk(b"data: [DONE]\n\n")
        handler.chunk(b"")

    return script


def test_request_follows_chat_completions(service: Any, hear: Hear) -> None:
    service.script = says("Hi.")
    assert hear(chat(service.url, system="Be brief.", model="m", max_tokens=50), "What's up?") == ["Hi."]
    path, headers, body = service.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "model": "m",
        "stream": True,
        "max_tokens": 50,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What's up?"}],
    }


def test_forgotten_reply_leaves_the_history_as_it_was(service: Any, hear: Hear) -> None:
    responder = chat(service.url, history_turns=2, system="")
    for turn, word in enumerate(("one", "two", "three"), 1):
        service.script = says(f"{word}!")
        list(responder.reply(word, turn))
    responder.forget(3)
    responder.forget(3)
    list(responder.reply("four", 3))
    messages = json.loads(service.requests[-1][2])["messages"]
    assert [message["content"] for message in messages] == ["one", "one!", "two", "two!", "four"]


def test_history_holds_only_the_part_of_a_reply_that_was_heard(service: Any, hear: Hear) -> None:
    responder = chat(service.url, history_turns=3, system="")
    for turn, word in enumerate(("one", "two"), 1):
        service.script = says(f"{word}, and more.")
        list(responder.reply(word, turn))
    responder.correct(1, "")
    responder.correct(2, "two, and")
    list(responder.reply("three", 3))
    messages = json.loads(service.requests[-1][2])["messages"]
    assert [message["content"] for message in messages] == ["two", "two, and", "three"]


def test_request_without_a_key_has_no_authorization(
    service: Any, hear: Hear, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    service.script = says("Hi.")
    assert hear(chat(service.url, key=None)) == ["Hi."]
    assert "authorization" not in service.requests[0][1]


def test_text_is_yielded_while_the_rest_arrives(service: Any) -> None:
    written = threading.Event()

    def script(handler: Any) -> None:
        handler.begin("text/event-stream")
        handler.chunk(event("One is"))
        handler.chunk(event(" whole. Two"))
        written.wait(20)
        handler.chunk(event(" as well."))
        handler.chunk(b"data: [DONE]\n\n")
        handler.chunk(b"")

    service.script = script
    answer = chat(service.url).reply("x", 1)
    pieces = (piece for piece in answer if piece)
    assert [next(pieces), next(pieces)] == ["One is", " whole. Two"]
    written.set()
    assert list(pieces) == [" as well."]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_may_be_split_anywhere(size: int, service: Any, hear: Hear) -> None:
    whole = b": comment\r\n\r\nevent: message\r\n" + event("Größe 你好. ").replace(b"\n", b"\r\n") + event("Yes.")
    whole += b'data:{"choices":[],"usage":{"total_tokens":3}}\n\ndata: [DONE]\n\n'
    whole = whole.replace(json.dumps("Größe 你好. ").encode(), '"Größe 你好. "'.encode())

    def script(handler: Any) -> None:
        handler.begin("text/event-stream")
        for start in range(0, len(whole), size):
            handler.chunk(whole[start : start + size])
        handler.chunk(b"")

    service.script = script
    assert hear(chat(service.url)) == ["Größe 你好.", "Yes."]


def test_history_is_limited(service: Any, hear: Hear) -> None:
    responder = chat(service.url, history_turns=2, system="")
    for number in range(4):
        service.script = says(f"answer {number}")
        hear(responder, f"question {number}")
    messages = json.loads(service.requests[-1][2])["messages"]
    assert [message["content"] for message in messages] == [
        "question 1", "answer 1", "question 2", "answer 2", "question 3",
    ]  # fmt: skip
    responder.close()
    hear(responder, "new")
    assert len(json.loads(service.requests[-1][2])["messages"]) == 1


def test_history_keeps_cancelled_and_drops_failed_turns(service: Any, hear: Hear) -> None:
    responder = chat(service.url, system="")
    service.script = lambda handler: handler.reply(500)
    with pytest.raises(ServiceError):
        hear(responder, "lost")

    def script(handler: Any) -> None:
        handler.begin("text/event-stream")
        handler.chunk(event("The beginning. And"))
        handler.hold()

    service.script = script
    answer = responder.reply("broken off", 2)
    assert next(piece for piece in answer if piece) == "The beginning. And"
    answer.close()
    service.script = says("ok")
    hear(responder, "now")
    assert [message["content"] for message in json.loads(service.requests[-1][2])["messages"]] == [
        "broken off", "The beginning. And", "now",
    ]  # fmt: skip


def check_that_closing_hangs_up(service: Any, begin: Callable[[Any], object] = lambda handler: None) -> None:
    """Close a reply of which the service has sent what ``begin`` sends."""
    heard, hung_up = threading.Event(), threading.Event()

    def script(handler: Any) -> None:
        begin(handler)
        heard.set()
        if handler.hold():
            hung_up.set()

    service.script = script
    answer = chat(service.url, 100.0).reply("x", 1)  # its own end is far off
    for _ in answer:
        if heard.is_set():
            break
    answer.close()
    assert hung_up.wait(20)


def test_closing_the_reply_before_its_head_closes_the_connection(service: Any) -> None:
    check_that_closing_hangs_up(service)


def test_closing_the_reply_within_its_body_closes_the_connection(service: Any) -> None:
    def begin(handler: Any) -> None:
        handler.begin("text/event-stream")
        handler.chunk(event("Well"))

    check_that_closing_hangs_up(service, begin)


def test_single_json_response_is_accepted(service: Any, hear: Hear) -> None:
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "One. Two."}}]}).encode()
    service.script = lambda handler: handler.reply(200, "application/json", body)
    assert hear(chat(service.url)) == ["One.", "Two."]


@pytest.mark.parametrize(
    ("status", "message", "permanent"),
    [
        (401, r"the key is refused \(401\)", True),
        (403, r"the key is refused \(403\)", True),
        (404, r"model \(404\), response: '.*model'", True),
        (429, r"too many requests.*\(429\): wait 7 s", False),
        (400, r"refused \(400\)", False),
        (500, r"internal failure of the service \(500\)", False),
        (503, r"internal failure of the service \(503\)", False),
    ],
)
def test_error_status_raises_without_the_key(
    status: int, message: str, permanent: bool, service: Any, hear: Hear
) -> None:
    body = f"\x1b[31mkey {KEY}, model".encode()
    service.script = lambda handler: handler.reply(status, "application/json", body, Retry_After="7")
    with pytest.raises(ServiceError, match=message) as caught:
        hear(chat(service.url))
    assert KEY not in str(caught.value) and "\x1b" not in str(caught.value)
    assert (caught.value.permanent, caught.value.status) == (permanent, status)
    assert caught.value.retry_after_seconds == (7.0 if status in (429, 500, 503) else None)


def test_redirect_is_not_followed(service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(302, Location=f"{service.url}/elsewhere?token={KEY}")
    with pytest.raises(ServiceError, match=r"it redirects \(302\)") as caught:
        hear(chat(service.url))
    assert KEY not in str(caught.value)
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("text/event-stream", b"data: {\n\n", "it is not JSON"),
        ("text/event-stream", b"data: [1]\n\n", "no object"),
        ("text/event-stream", b'data: {"error": {"message": "\\u001b overloaded"}}\n\n', r"an error: '\\x1b overl"),
        ("text/event-stream", b"", "ended before the reply was complete"),
        ("text/event-stream", event("Half"), "ended before the reply was complete"),
        ("text/event-stream", b"data: " + b"x" * 400_000, "longer than 256 KiB"),
        ("text/event-stream", b": x\n" * 300_000, "longer than 1024 KiB"),
        ("application/json", b"[" * 100_000, "it is not JSON"),
        ("text/html", b"<html>", "expected an event stream or JSON, got 'text/html'"),
    ],
)
def test_invalid_response_raises_service_error(kind: str, body: bytes, message: str, service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(200, kind, body)
    with pytest.raises(ServiceError, match=message):
        hear(chat(service.url))


@pytest.mark.parametrize(
    "body",
    [b'data: {"choices": 5}', b'data: {"choices": [7]}', b'data: {"choices": [{"delta": {"content": 5}}]}', b"data"],
)
def test_unknown_events_are_ignored(body: bytes, service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(200, "text/event-stream", body + b"\n\ndata: [DONE]\n\n")
    assert hear(chat(service.url)) == []


def test_broken_connection_raises_service_error(service: Any, hear: Hear) -> None:
    def script(handler: Any) -> None:
        handler.begin("text/event-stream")
        handler.chunk(event("Half. Of"))

    service.script = script
    with pytest.raises(ServiceError, match="before the response was complete"):
        hear(chat(service.url))


def test_timeout_covers_silence_and_a_slow_response(service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.hold()
    with pytest.raises(ServiceError, match="no complete response within 0.5 s"):
        hear(chat(service.url, 0.5))

    def drip(handler: Any) -> None:
        handler.begin("text/event-stream")
        while not service.freed.wait(0.05):
            handler.chunk(b": still there\n")

    service.script = drip
    with pytest.raises(ServiceError, match="no complete response within 0.5 s"):
        hear(chat(service.url, 0.5))


def test_unreachable_service_raises_without_the_key(service: Any, hear: Hear) -> None:
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9 cannot be reached") as caught:
        hear(chat("http://127.0.0.1:9"))
    assert KEY not in str(caught.value)


def test_untrusted_certificate_is_refused(service: Any, hear: Hear) -> None:
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    service.encrypt(context)
    service.script = says("Hi.")
    with pytest.raises(ServiceError, match="certificate"):
        hear(chat(service.url))
    assert service.requests == []


def test_tls_connection_replies_and_closes(
    service: Any, hear: Hear, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    import trustme

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    service.encrypt(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    service.script = says("Hi.")
    assert hear(chat(service.url)) == ["Hi."]
    check_that_closing_hangs_up(service)


def test_reply_leaves_no_thread_or_descriptor(service: Any, hear: Hear) -> None:
    import os

    service.script = says("Hi.")
    hear(chat(service.url))
    before = len(os.listdir("/proc/self/fd"))
    service.script = lambda handler: handler.hold()
    for _ in range(3):
        answer = chat(service.url).reply("x", 1)
        next(answer)
        answer.close()
    for thread in threading.enumerate():
        if thread.name == "openai-post":
            thread.join(30)
            assert not thread.is_alive()
    service.close()
    assert len(os.listdir("/proc/self/fd")) <= before
