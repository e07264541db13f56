"""The responder for Wyoming services that handle intents, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from support.wyoming_peer import WyomingPeer

from agent.errors import ServiceError
from agent.pipeline.responders.wyoming import Settings, WyomingResponder
from agent.services.protocols.wyoming_event import WyomingEvent, encode_event


def replies(*messages: bytes, closes: bool = False) -> Callable[[socket.socket, WyomingEvent], bool]:
    def answer(client: socket.socket, event: WyomingEvent) -> bool:
        client.sendall(b"".join(messages))
        return not closes

    return answer


def ask(url: str, timeout_seconds: float = 20.0) -> str:
    return "".join(WyomingResponder(Settings(url), timeout_seconds).reply("turn it off", 1))


@pytest.mark.parametrize(
    ("messages", "reply"),
    [
        ([encode_event("handled", {"text": "It is off."})], "It is off."),
        ([encode_event("not-handled", {"text": "What?"})], "What?"),
        ([encode_event("handled")], ""),
        (
            [
                encode_event("handled-start"),
                encode_event("handled-chunk", {"text": "It is "}),
                encode_event("handled-chunk", {"text": "off."}),
                encode_event("handled", {"text": "It is off."}),
                encode_event("handled-stop"),
            ],
            "It is off.",
        ),
    ],
)
def test_the_reply_is_the_text_of_the_service(messages: list[bytes], reply: str) -> None:
    with WyomingPeer(replies(*messages)) as peer:
        assert ask(peer.url) == reply
    assert [(event.type, dict(event.data)) for event in peer.received] == [("transcript", {"text": "turn it off"})]


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([encode_event("error", {"text": "no model"})], "no model"),
        ([b"HTTP/1.1 400\r\n"], "no event"),
        ([encode_event("handled", {"text": 5})], "expected a text"),
    ],
)
def test_anything_else_is_an_error(messages: list[bytes], why: str) -> None:
    with WyomingPeer(replies(*messages)) as peer, pytest.raises(ServiceError, match=why):
        ask(peer.url)


def test_a_service_that_closes_or_is_silent_is_an_error() -> None:
    with WyomingPeer(replies(closes=True)) as peer, pytest.raises(ServiceError, match="closed the connection"):
        ask(peer.url)
    with WyomingPeer(replies()) as peer, pytest.raises(ServiceError, match=r"no reply within 0\.2 s"):
        ask(peer.url, 0.2)


def test_the_wait_yields_empty_pieces_and_closing_it_disconnects() -> None:
    with WyomingPeer(replies()) as peer:
        pieces = WyomingResponder(Settings(peer.url)).reply("a", 1)
        assert next(pieces) == ""
        pieces.close()
        assert peer.is_closed_by_client.wait(10)
