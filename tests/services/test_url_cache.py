"""Requests for a URL against hosts that answer slowly, partly or not at all."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from support.scripted import Peer, Scripted, mute

from agent.errors import ServiceError
from agent.services.protocols.playai_auth import Authorization
from agent.services.url_cache import UrlCache, fetch_url
from agent.system.threads import Deadline

RESPONSE = b'{"webSocketUrls": {"Play3.0-mini": "ws://127.0.0.1:9/path?fal_jwt_token=secret"}}'


def authorization(server: Scripted) -> Authorization:
    return Authorization(f"http://127.0.0.1:{server.port}/api/v1/tts/websocket-auth", "k", "u", "Play3.0-mini")


def drip_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not peer.over.wait(0.1):
        peer.send(b" ")


def drip_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not peer.over.wait(0.1):
        peer.send(b"x")


@pytest.mark.parametrize("script", [drip_body, drip_head, mute])
def test_fetch_url_limits_the_whole_exchange_by_its_deadline(script: Callable[[Peer], None]) -> None:
    with Scripted(script) as server:
        limit = Deadline(15.0)  # the drip has no end
        with pytest.raises(ServiceError, match="did not answer the authorization"):
            fetch_url(authorization(server), Deadline(0.8))
        assert not limit.is_expired


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"no HTTP at all\r\n\r\n",
        b"",
    ],
    ids=["partial body", "invalid chunk", "invalid gzip", "no HTTP", "empty"],
)
def test_fetch_url_raises_service_error_for_an_invalid_response(answer: bytes) -> None:
    def respond(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)

    with Scripted(respond) as server, pytest.raises(ServiceError, match="^playai: 127.0.0.1 did not answer"):
        fetch_url(authorization(server), Deadline(10.0))


def test_url_does_not_wait_for_the_response_to_another_request() -> None:
    def respond(peer: Peer) -> None:
        peer.answer("200 OK", body=RESPONSE)

    with Scripted(mute, respond) as server:
        cache, failed = UrlCache(), threading.Event()

        def request() -> None:
            with pytest.raises(ServiceError):
                cache.url(authorization(server), Deadline(60.0))
            failed.set()

        thread = threading.Thread(target=request)
        thread.start()
        assert server.arrived.acquire(timeout=10)
        assert cache.url(authorization(server), Deadline(15.0)).startswith("ws://127.0.0.1:9/")
        assert not failed.is_set(), "the first request still waits"
        server.over.set()
        thread.join(20)
        assert failed.is_set()


def test_fetch_url_without_a_limit_waits_for_the_response() -> None:
    def respond(peer: Peer) -> None:
        peer.over.wait(0.1)  # longer than the shortest timeout of a socket
        peer.answer("200 OK", body=RESPONSE)

    with Scripted(respond) as server:
        assert fetch_url(authorization(server), Deadline(None)).url.startswith("ws://127.0.0.1:9/")
