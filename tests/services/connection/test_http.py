"""CancellableSession: ends an HTTP exchange in any phase, and verifies certificates with the configured bundle."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.authority import Authority
from support.scripted import Peer, Scripted, mute

from agent.services.connection.http import CancellableSession, request_errors


def stalls_after_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    peer.wait()


def answers_hello(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize(("scheme", "script"), [("http", mute), ("http", stalls_after_head), ("https", mute)])
def test_cancel_ends_an_exchange_that_stalls(scheme: str, script: Callable[[Peer], None]) -> None:
    exchange = CancellableSession()
    started = threading.Event()

    def get(url: str) -> None:
        with contextlib.suppress(*request_errors()), exchange.session() as session:
            started.set()
            with session.get(url, timeout=120, stream=True) as response:
                response.raw.read(decode_content=False)

    with Scripted(script) as server:
        thread = threading.Thread(target=get, args=[f"{scheme}://127.0.0.1:{server.port}/"])
        thread.start()
        assert started.wait(20) and server.arrived.acquire(timeout=20)
        exchange.cancel()
        thread.join(20)
        assert not thread.is_alive()
    assert exchange.is_connected
    exchange.close()
    assert not exchange.is_connected


def test_cancel_before_the_request_ends_it_too() -> None:
    exchange = CancellableSession()
    exchange.cancel()
    with Scripted(mute) as server, exchange.session() as session, pytest.raises(request_errors()):
        session.get(f"http://127.0.0.1:{server.port}/", timeout=20)
    exchange.close()


def test_session_uses_the_ca_bundle_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    exchange = CancellableSession()
    with Scripted(answers_hello, tls=authority.good()) as server, exchange.session() as session:
        assert session.get(f"https://127.0.0.1:{server.port}/", timeout=20).content == b"hello"
    exchange.close()
