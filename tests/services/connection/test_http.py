"""An exchange over HTTP ends when somebody hangs up, whatever it is waiting for."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.authority import Authority
from support.scripted import Peer, Scripted, mute

from agent.services.connection.http import CancellableSession, request_errors


def mute_after_its_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    peer.over.wait()


@pytest.mark.parametrize(("scheme", "script"), [("http", mute), ("http", mute_after_its_head), ("https", mute)])
def test_a_cut_ends_an_exchange_that_nothing_comes_of(scheme: str, script: Callable[[Peer], None]) -> None:
    """A responder could not hang up on a host that was mute in the TLS handshake, and its thread stayed."""
    line = CancellableSession()
    begun = threading.Event()

    def ask(url: str) -> None:
        with contextlib.suppress(*request_errors()), line.session() as session:
            begun.set()
            with session.get(url, timeout=120, stream=True) as answer:
                answer.raw.read(decode_content=False)

    with Scripted(script) as server:
        thread = threading.Thread(target=ask, args=[f"{scheme}://127.0.0.1:{server.port}/"])
        thread.start()
        assert begun.wait(20) and server.arrived.acquire(timeout=20)
        line.cancel()
        thread.join(20)
        assert not thread.is_alive()
    assert line.is_connected
    line.close()
    assert not line.is_connected


def test_a_line_that_was_cut_before_it_was_opened_stays_cut() -> None:
    line = CancellableSession()
    line.cancel()
    with Scripted(mute) as server, line.session() as session, pytest.raises(request_errors()):
        session.get(f"http://127.0.0.1:{server.port}/", timeout=20)
    line.close()


def says_hello(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")


def test_a_line_trusts_the_authorities_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service with a certificate of the house's own spoke over wss, and was refused where its address is asked for
    over HTTPS."""
    authority = Authority(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    line = CancellableSession()
    with Scripted(says_hello, tls=authority.good()) as server, line.session() as session:
        assert session.get(f"https://127.0.0.1:{server.port}/", timeout=20).content == b"hello"
    line.close()
