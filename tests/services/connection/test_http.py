"""CancellableSession: ends an HTTP exchange in any phase, and verifies certificates with the configured bundle."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import certifi
import pytest
from support.authority import Authority
from support.scripted import Peer, Scripted, mute

from agent.errors import NameLookupError, ServiceError
from agent.services.connection import resolve
from agent.services.connection.http import CancellableSession, describe_request_error, request_errors
from agent.services.connection.resolve import Address


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


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """An authority that SSL_CERT_FILE names."""
    it = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", it.ca_file)
    return it


def get(url: str, seconds: float = 20.0) -> bytes:
    exchange = CancellableSession()
    try:
        with exchange.session() as session:
            content: bytes = session.get(url, timeout=seconds).content
            return content
    finally:
        exchange.close()


def get_error(url: str, seconds: float = 20.0) -> ServiceError | None:
    with pytest.raises(request_errors()) as raised:
        get(url, seconds)
    return describe_request_error("plain", url, raised.value)


@pytest.mark.parametrize("bundle", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_https_trusts_the_store_of_the_websocket_connections(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    monkeypatch.setenv(bundle, certifi.where())
    with Scripted(answers_hello, tls=authority.good()) as server:
        assert get(f"https://127.0.0.1:{server.port}/") == b"hello"


@pytest.mark.parametrize(
    ("kind", "words", "permanent"),
    [
        ("stranger", "apt install ca-certificates", True),
        ("self_signed", "update-ca-certificates", True),
        ("expired", "expired", True),
        ("wrong_host", "another host", True),
        ("not_yet_valid", "clock", False),
    ],
)
def test_https_refuses_an_invalid_certificate_with_its_remedy(
    authority: Authority, kind: str, words: str, permanent: bool
) -> None:
    with Scripted(answers_hello, tls=getattr(authority, kind)()) as server:
        error = get_error(f"https://127.0.0.1:{server.port}/")
        assert error is not None and words in str(error) and error.permanent is permanent
        assert server.requests == [""]


def test_https_does_not_trust_the_bundle_of_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An authority that only the bundle of certifi has is not trusted: WSS would not trust it either."""
    authority = Authority(tmp_path)
    monkeypatch.setattr(certifi, "where", lambda: authority.ca_file)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", authority.ca_file)
    with Scripted(answers_hello, tls=authority.good()) as server:
        error = get_error(f"https://127.0.0.1:{server.port}/")
    assert error is not None and "cannot be trusted" in str(error)


@pytest.fixture
def black_hole() -> Iterator[Address]:
    """An address that drops SYNs, as one behind a broken IPv6 route does."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.2", 0))
        hole.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        yield Address(socket.AF_INET, hole.getsockname())


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_address_delays_a_request_by_the_stagger_only(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, black_hole: Address, scheme: str
) -> None:
    with Scripted(answers_hello, tls=authority.good() if scheme == "https" else None) as server:
        good = Address(socket.AF_INET, ("127.0.0.1", server.port))
        monkeypatch.setattr(resolve, "look_up", lambda host, port: [black_hole, good])
        began = time.monotonic()
        assert get(f"{scheme}://localhost:{server.port}/") == b"hello"
        assert time.monotonic() - began < 9, "the kernel gives up the first address after 10 seconds"


def test_a_request_to_an_ipv6_address_is_dialed() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        thread = threading.Thread(target=serve)
        thread.start()
        assert get(f"http://[::1]:{port}/") == b"hello"
        thread.join(20)


def test_a_request_without_an_answering_address_ends_at_its_timeout(
    monkeypatch: pytest.MonkeyPatch, black_hole: Address
) -> None:
    monkeypatch.setattr(resolve, "look_up", lambda host, port: [black_hole])
    error = get_error("http://api.example/", 0.3)
    assert error is not None and "api.example did not answer in time" in str(error) and not error.is_transient


def test_describe_request_error_names_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_AGAIN, "temporary failure")

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        error = get_error(f"http://127.0.0.1:{held.getsockname()[1]}/?key=s3cret")
        assert error is not None and "refused" in str(error) and "s3cret" not in str(error) and not error.is_transient
    with Scripted(lambda peer: peer.reset()) as server:
        error = get_error(f"http://127.0.0.1:{server.port}/")
        assert error is not None and "closed the connection" in str(error) and error.is_transient
    monkeypatch.setattr(resolve, "look_up", fails)
    error = get_error("http://api.example/")
    assert isinstance(error, NameLookupError) and error.is_transient and "api.example" in str(error)
    assert describe_request_error("plain", "http://api.example/", ValueError("x")) is None
    assert describe_request_error("plain", "http://api.example/", ssl.SSLError("x")) is None
