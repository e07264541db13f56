"""PlayAI's authorisation against hosts that drip, break off and lie: an address or a sentence, always in time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from support.scripted import Peer, Scripted, mute

from agent.errors import ServiceError
from agent.services.protocols.playai_auth import Authorization
from agent.services.url_cache import UrlCache, fetch_url
from agent.system.threads import Deadline

GRANT = b'{"webSocketUrls": {"Play3.0-mini": "ws://127.0.0.1:9/path?fal_jwt_token=secret"}}'


def asks(server: Scripted) -> Authorization:
    return Authorization(f"http://127.0.0.1:{server.port}/api/v1/tts/websocket-auth", "k", "u", "Play3.0-mini")


def drips_its_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not peer.over.wait(0.1):
        peer.send(b" ")


def drips_its_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not peer.over.wait(0.1):
        peer.send(b"x")


@pytest.mark.parametrize("script", [drips_its_body, drips_its_head, mute])
def test_the_deadline_is_that_of_the_whole_authorisation(script: Callable[[Peer], None]) -> None:
    """Its time-out was that of each read: a host that sent a byte now and then kept the dial for ever."""
    with Scripted(script) as server:
        patience = Deadline(15.0)  # the drip goes on for longer than that, and would go on for ever
        with pytest.raises(ServiceError, match="did not answer the authorisation"):
            fetch_url(asks(server), Deadline(0.8))
        assert not patience.is_expired


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
    ids=["half a body", "broken chunks", "no gzip", "no HTTP", "nothing"],
)
def test_a_broken_answer_becomes_a_sentence(answer: bytes) -> None:
    """A body that broke off raised an error of urllib3, which the dial did not know and died of."""

    def breaks(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)

    with Scripted(breaks) as server, pytest.raises(ServiceError, match="^playai: 127.0.0.1 did not answer"):
        fetch_url(asks(server), Deadline(10.0))


def test_nobody_waits_for_an_answer_that_somebody_else_is_waiting_for() -> None:
    """One host that was mute for one dial held the next one as well, past that one's own deadline."""

    def grants(peer: Peer) -> None:
        peer.answer("200 OK", body=GRANT)

    with Scripted(mute, grants) as server:
        kept, failed = UrlCache(), threading.Event()

        def stuck() -> None:
            with pytest.raises(ServiceError):
                kept.url(asks(server), Deadline(60.0))
            failed.set()

        thread = threading.Thread(target=stuck)
        thread.start()
        assert server.arrived.acquire(timeout=10)
        assert kept.url(asks(server), Deadline(15.0)).startswith("ws://127.0.0.1:9/")
        assert not failed.is_set(), "the first is still waiting"
        server.over.set()
        thread.join(20)
        assert failed.is_set()
