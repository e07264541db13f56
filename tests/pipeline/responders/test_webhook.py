from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent.config.secrets import Secret
from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.webhook import Settings, WebhookResponder

Hear = Callable[..., list[str]]
KEY = "hook-0123456789"


def webhook(url: str, seconds: float = 20.0, key: str | None = KEY) -> WebhookResponder:
    return WebhookResponder(Settings(url=url, api_key=Secret(value=key)), seconds)


@pytest.mark.parametrize("text", ["$(reboot)", "; rm -rf /", "-rf", "a\0b", "\x1b[2J\n<0>", "größe", "x" * 1_000_000])
def test_transcript_is_posted_as_json(text: str, service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(200, "text/plain", b"Fine.")
    assert hear(webhook(f"{service.url}/ask"), text, 7) == ["Fine."]
    path, headers, body = service.requests[0]
    assert path == "/ask"
    assert json.loads(body) == {"text": text, "turn": 7}
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("text/plain; charset=utf-8", "Größe. Zwei.", ["Größe.", "Zwei."]),
        ("", "No type", ["No type"]),
        ("application/json", '{"text": "One. Two."}', ["One.", "Two."]),
        ("application/json", '{"texts": ["One", "Two"]}', ["One", "Two"]),
        ("application/json", '{"texts": []}', []),
        ("application/json", '{"text": ""}', []),
        ("application/json", "", []),
        ("text/plain", "", []),
    ],
)
def test_text_and_json_responses_are_accepted(kind: str, body: str, said: list[str], service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(200, kind, body.encode())
    assert hear(webhook(service.url)) == said


def test_cancel_is_possible_while_json_trickles_in(service: Any) -> None:
    service.script = lambda handler: handler.trickle("application/json", b" ")
    pieces = webhook(service.url, 5.0).reply("hello", 1)
    assert [next(pieces) for _ in range(40)] == [""] * 40  # silence alone would be reported 20 times before the timeout
    pieces.close()


def test_status_204_yields_nothing(service: Any, hear: Hear) -> None:
    assert hear(webhook(service.url)) == []


@pytest.mark.parametrize("chunked", [True, False])
def test_text_is_yielded_while_it_arrives(chunked: bool, service: Any) -> None:
    go_on = threading.Event()

    def script(handler: Any) -> None:
        if chunked:
            handler.begin("text/plain")
            handler.chunk(b"One. Tw")
            go_on.wait(20)
            handler.chunk(b"o.")
            handler.chunk(b"")
        else:
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nOne. Tw")
            go_on.wait(20)
            handler.wfile.write(b"o.")

    service.script = script
    answer = webhook(service.url).reply("x", 1)
    pieces = (piece for piece in answer if piece)
    before = next(pieces)
    go_on.set()
    assert before + "".join(pieces) == "One. Two."


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("text/html", b"<p>", "expected text/plain or application/json, got 'text/html'"),
        ("application/json", b"nonsense", "it is not JSON: <8 bytes"),
        ("application/json", b'["a"]', "no object"),
        ("application/json", b'{"text": 5}', r'expected \{"text": "..."\}'),
        ("application/json", b'{"texts": "a"}', r'expected \{"text": "..."\}'),
        ("application/json", b"{}", r'expected \{"text": "..."\}'),
        ("text/plain", b"x" * 1_100_000, "longer than 1024 KiB"),
    ],
)
def test_invalid_response_raises_service_error(kind: str, body: bytes, message: str, service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(200, kind, body)
    with pytest.raises(ServiceError, match=message):
        hear(webhook(service.url))


def test_short_response_raises_service_error(service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.wfile.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 50\r\n\r\nHalf"
    )
    with pytest.raises(ServiceError, match="before the response was complete"):
        hear(webhook(service.url))


def test_compressed_response_is_refused(service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.reply(200, "text/plain", b"x", Content_Encoding="gzip")
    with pytest.raises(ServiceError, match="compressed"):
        hear(webhook(service.url))


def test_response_without_http_raises_service_error(service: Any, hear: Hear) -> None:
    service.script = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    with pytest.raises(ServiceError, match="webhook: the connection"):
        hear(webhook(service.url))


@pytest.mark.parametrize("url", ["ftp://localhost/", "localhost", "http://me:pw@localhost/", "http://localhost/\n"])
def test_unusable_url_raises_config_error(url: str, hear: Hear) -> None:
    with pytest.raises(ConfigError, match="responder.webhook: the address") as caught:
        hear(webhook(url))
    assert "pw" not in str(caught.value)


def test_missing_url_raises_config_error() -> None:
    with pytest.raises(ConfigError, match=r"responder\.webhook\.url is empty"):
        webhook("")


def test_key_is_not_sent_unencrypted_to_a_public_address(hear: Hear) -> None:
    with pytest.raises(ConfigError, match="without encryption"):
        hear(webhook("http://example.com/"))


def test_non_ascii_key_is_refused_and_not_shown(service: Any, hear: Hear) -> None:
    with pytest.raises(ConfigError) as caught:
        hear(webhook(service.url, key="schlüssel"))
    assert "schl" not in str(caught.value)
