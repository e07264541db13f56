"""dial: hosts that refuse, stall, redirect or send too much. Rows refer to the fault matrix."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.authority import Authority
from support.proxy import Proxy, Toxics
from support.scripted import TEXT, Peer, Script, Scripted, drips, frame, mute, polite, refuses

from agent.errors import ServiceError
from agent.services.connection import resolve
from agent.services.connection.dial import CONNECT_SECONDS, MAX_HEAD_BYTES, dial
from agent.services.connection.resolve import Address
from agent.services.protocols.codec import Handshake
from agent.system.threads import Deadline

KEY = "s3cret"
FAR_SECONDS = 300.0
"""Longer than any test."""


class AfterTcp(Deadline):
    """A deadline that starts after DNS and TCP, at the first ``remaining``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(None)
        self._seconds = seconds

    def remaining(self) -> float | None:
        if self._at is None:
            super().__init__(self._seconds)
        return super().remaining()

    def within(self, seconds: float) -> Deadline:
        return Deadline(FAR_SECONDS)


@pytest.fixture(autouse=True)
def all_sockets_are_closed() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) <= before, "a socket is still open"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def dial_error(
    url: str,
    limit: float | Deadline = 30.0,
    headers: dict[str, str] | None = None,
    ca_file: str | None = None,
    connect_seconds: float = CONNECT_SECONDS,
) -> ServiceError:
    with pytest.raises(ServiceError) as raised:
        dial(
            Handshake(url, {"x-api-key": KEY} if headers is None else headers),
            "plain",
            limit if isinstance(limit, Deadline) else Deadline(limit),
            ca_file=ca_file,
            connect_seconds=connect_seconds,
        )
    assert KEY not in str(raised.value) and "\n" not in str(raised.value)
    return raised.value


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_request_has_the_headers_and_neither_origin_nor_extensions() -> None:
    with Scripted(polite) as server:
        dial(Handshake(server.url, {"x-api-key": KEY}), "plain", Deadline(30)).close()
        server.join()
        request = server.requests[0]
    assert request.startswith("GET /path?api_key=s3cret HTTP/1.1")
    assert f"x-api-key: {KEY}" in request
    assert "origin" not in request.lower() and "extensions" not in request.lower() and "cookie" not in request.lower()


def test_first_frame_stays_in_the_socket_when_it_arrives_with_the_response() -> None:
    def script(peer: Peer) -> None:
        peer.accept(then=frame(TEXT, b"early"))
        peer.read_all()

    with Scripted(script) as server:
        sock = dial(Handshake(server.url), "plain", Deadline(30))
        assert not sock.getblocking()
        sock.settimeout(30)
        assert sock.recv(100) == frame(TEXT, b"early")
        sock.close()


def test_socket_options_bound_unacknowledged_data() -> None:
    with Scripted(polite) as server:
        sock = dial(Handshake(server.url), "plain", Deadline(30))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        sock.close()


def test_row_01_refused_connection_is_a_temporary_error() -> None:
    error = dial_error(f"ws://127.0.0.1:{closed_port()}/")
    assert not error.permanent and "refused" in str(error).lower()


def test_row_02_address_that_drops_packets_is_given_up_at_the_deadline() -> None:
    # A full backlog drops SYNs, like a black hole.
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        start = time.monotonic()
        error = dial_error(f"ws://127.0.0.1:{port}/", 0.4, connect_seconds=FAR_SECONDS)
        assert 0.3 < time.monotonic() - start < 9 and not error.permanent, "the kernel itself gives up after 10 seconds"
    assert resolve.USER_TIMEOUT_SECONDS == 10


def test_connect_first_tries_the_next_address_in_parallel() -> None:
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind(("127.0.0.2", 0))
        hole.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        good = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        targets = [resolve.Address(socket.AF_INET, each.getsockname()) for each in (hole, good)]
        start = time.monotonic()
        sock = resolve.connect_first(targets, Deadline(60))
        assert sock.getpeername() == good.getsockname()
        assert time.monotonic() - start < 9, "the kernel gives up the first address after 10 seconds"
        sock.close()


def test_row_03_unknown_name_is_a_temporary_error() -> None:
    error = dial_error("ws://no-such-host.invalid/")
    assert "no-such-host.invalid" in str(error) and not error.permanent


def test_row_03_a_lookup_that_hangs_is_abandoned_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    # The system's resolver cannot be made to hang without changing the machine.
    release = threading.Event()
    monkeypatch.setattr(resolve, "look_up", lambda host, port: release.wait(60) and [])
    start = time.monotonic()
    error = dial_error("ws://hanging.example/", 0.2, connect_seconds=FAR_SECONDS)
    release.set()
    assert time.monotonic() - start < 30 and "not found in time" in str(error)


@pytest.mark.parametrize(
    ("kind", "words", "permanent"),
    [
        ("expired", "expired", True),
        ("wrong_host", "another host", True),
        ("self_signed", "self-signed", True),
        ("stranger", "unknown authority", True),
        ("not_yet_valid", "clock", False),
    ],
)
def test_row_04_invalid_certificate_is_refused_before_the_key_is_sent(
    authority: Authority, kind: str, words: str, permanent: bool
) -> None:
    with Scripted(polite, tls=getattr(authority, kind)()) as server:
        error = dial_error(server.url, ca_file=authority.ca_file)
        server.join()
        assert words in str(error) and error.permanent is permanent
        assert server.requests == [""], "no request was sent, and no second connection without TLS"


def test_valid_certificate_is_accepted(authority: Authority) -> None:
    with Scripted(polite, tls=authority.good()) as server:
        sock = dial(Handshake(server.url), "plain", Deadline(30), ca_file=authority.ca_file)
        sock.close()


def answers_without_tls(peer: Peer) -> None:
    peer.sock.recv(65536)
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("script", [answers_without_tls, polite])  # the second waits for the rest of a request
def test_tls_to_a_server_without_tls_is_a_tls_error(authority: Authority, script: Script) -> None:
    with Scripted(script) as server:
        error = dial_error(server.url.replace("ws://", "wss://"), AfterTcp(0.3), ca_file=authority.ca_file)
    assert "TLS" in str(error)


def test_session_keys_are_not_written_to_disk(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    with Scripted(polite, tls=authority.good()) as server:
        dial(Handshake(server.url), "plain", Deadline(30), ca_file=authority.ca_file).close()
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("limit", [0, 1, 5, 100, 700])
def test_row_05_stalled_tls_handshake_is_given_up_at_the_deadline(authority: Authority, limit: int) -> None:
    with Scripted(polite, tls=authority.good()) as server, Proxy(server.port) as proxy:
        proxy.down = Toxics(slice_bytes=max(limit, 1), black_hole=limit == 0, bytes_per_second=20)
        start = time.monotonic()
        error = dial_error(f"wss://127.0.0.1:{proxy.port}/", AfterTcp(0.3), ca_file=authority.ca_file)
        assert time.monotonic() - start < 15 and "TLS" in str(error)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 422])
def test_row_06_refusal_is_permanent(status: int) -> None:
    with Scripted(refuses(f"{status} No", body=b"your key s3cret is bad")) as server:
        error = dial_error(server.url)
    assert error.permanent and error.status == status and str(status) in str(error)


@pytest.mark.parametrize("status", [429, 503])
def test_row_07_retry_after_is_passed_on(status: int) -> None:
    with Scripted(refuses(f"{status} Later", "Retry-After: 17")) as server:
        error = dial_error(server.url)
    assert not error.permanent and error.retry_after_seconds == 17 and error.status == status


@pytest.mark.parametrize(("value", "seconds"), [("Sat, 21 Nov 2026 10:01:40 GMT", 100), ("9" * 5000, 3600)])
def test_row_07_retry_after_may_be_a_date_and_is_capped(value: str, seconds: float) -> None:
    with Scripted(refuses("503 Later", f"Retry-After: {value}", "Date: Sat, 21 Nov 2026 10:00:00 GMT")) as server:
        assert dial_error(server.url).retry_after_seconds == seconds


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_row_08_redirect_is_refused_and_the_key_reaches_no_other_host(status: int) -> None:
    with Scripted(polite) as second, Scripted(refuses(f"{status} Moved", f"Location: {second.url}")) as first:
        error = dial_error(first.url)
        assert error.permanent and error.status == status
        assert second.peers == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (200, "login page or a proxy in between"),
        (204, "login page or a proxy in between"),
        (302, "login page or a proxy in between"),
        (407, "proxy that requires a login"),
        (511, "login page"),
    ],
)
def test_answers_of_a_network_in_between_are_named(status: int, words: str) -> None:
    with Scripted(
        refuses(f"{status} Elsewhere", "Location: http://login.example/", body=b"<html>Log in</html>")
    ) as server:
        error = dial_error(server.url)
    assert words in str(error) and str(status) in str(error) and error.status == status
    assert error.permanent is (status == 302) and "login.example" not in str(error)


def test_row_08_plaintext_needs_a_private_address_or_allow_plaintext() -> None:
    error = dial_error("ws://192.0.2.7:9/")
    assert error.permanent and "allow_plaintext" in str(error)
    with pytest.raises(ServiceError) as raised:
        dial(Handshake("ws://192.0.2.7:9/"), "plain", Deadline(0.1), allow_plaintext=True)
    assert not raised.value.permanent


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.9.9",
        "169.254.1.1",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:10.0.0.1",
    ],
)
def test_address_of_a_local_network_is_private(ip: str) -> None:
    assert resolve.is_private_address(ip)


@pytest.mark.parametrize(
    "ip", ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2001:db8::1", "::ffff:8.8.8.8", "0.0.0.0", "name"]
)
def test_address_of_the_internet_is_public(ip: str) -> None:
    assert not resolve.is_private_address(ip)


@pytest.mark.parametrize(
    ("target", "issuer", "is_accepted"),
    [("127.0.0.1", "8.8.8.8", False), ("169.254.7.7", "8.8.8.8", False), ("192.168.1.1", "8.8.8.8", False),
     ("0.0.0.0", "8.8.8.8", False), ("127.0.0.1", None, False), ("127.0.0.1", "127.0.0.1", True),
     ("127.0.0.1", "10.0.0.7", True)],
)  # fmt: skip
def test_issued_url_must_not_resolve_to_a_private_address(
    monkeypatch: pytest.MonkeyPatch, target: str, issuer: str | None, is_accepted: bool
) -> None:
    look_up = resolve.look_up

    def stub(host: str, port: int) -> list[Address]:
        ip = {"issued.example": target, "auth.example": issuer}.get(host, host)
        if ip is None:
            raise OSError("no such name")
        return look_up(ip, port)

    monkeypatch.setattr(resolve, "look_up", stub)
    with Scripted(polite) as server:
        url = f"ws://issued.example:{server.port}/"
        try:
            dial(Handshake(url), "playai", Deadline(30), allow_plaintext=True, url_issuer="auth.example").close()
        except ServiceError as error:
            assert not is_accepted and error.permanent and "refers to issued.example" in str(error)
            assert server.peers == []
        else:
            assert is_accepted


def test_row_09_oversized_headers_are_refused_cheaply() -> None:
    filler = b"x-filler: " + b"y" * 4000 + b"\r\n"

    def long(peer: Peer) -> None:
        peer.accept(*[filler.decode().strip()] * 3)
        peer.read_all()

    def giant(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\n")
        while True:
            peer.send(filler)

    with Scripted(long, giant) as server:
        start = time.thread_time()
        dial(Handshake(server.url), "plain", Deadline(30)).close()
        usual = time.thread_time() - start
        start = time.thread_time()
        error = dial_error(server.url)
        assert time.thread_time() - start < 5 * max(usual, 0.2)  # a head without a limit never ends
    assert str(MAX_HEAD_BYTES) in str(error)


def test_row_09_body_of_a_refusal_is_not_read() -> None:
    with Scripted(refuses("403 No", body=b"z" * 3_000_000)) as server:
        error = dial_error(server.url)
    assert error.status == 403


def test_row_09_headers_that_drip_are_given_up_at_the_deadline() -> None:
    with Scripted(drips(b"HTTP/1.1 101 Switching Protocols\r\n" * 100, 0.02)) as server:
        start = time.monotonic()
        error = dial_error(server.url, AfterTcp(0.3))
        assert 0.2 < time.monotonic() - start < 15 and "in time" in str(error)


def test_silent_server_is_given_up_at_the_deadline() -> None:
    with Scripted(mute) as server:
        start = time.monotonic()
        error = dial_error(server.url, AfterTcp(0.3))
        assert 0.2 < time.monotonic() - start < 15 and not error.permanent


def test_deadline_that_expires_between_two_reads_is_a_timeout(authority: Authority) -> None:
    """A timeout of 0 makes the socket non-blocking, which would show as a failed TLS handshake."""

    class Late(AfterTcp):
        is_expired = False

    with Scripted(mute) as server:
        error = dial_error(server.url.replace("ws://", "wss://"), Late(0.0), ca_file=authority.ca_file)
    assert "in time" in str(error)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff\xfe\r\n\r\n", b"SSH-2.0-x\r\n\r\n",
     b"HTTP/1.1 101 Ok\r\n\r\n", b"HTTP/1.1 101 Ok\r\nno colon\r\n\r\n", b"HTTP/1.1 200 Ok\r\n\r\n",
     b"HTTP/1.1 403 \xff\r\nContent-Length: many\r\n\r\n", b"HTTP/1.1 101 Ok\r\n\x85\r\n\r\n", b"\x1c\r\n\xa0\r\n\r\n",
     b"HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n"],
)  # fmt: skip
def test_invalid_response_is_an_error(answer: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(answer)

    with Scripted(script) as server:
        dial_error(server.url)


_UPGRADE = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"


@pytest.mark.parametrize(
    "head",
    [
        _UPGRADE + "X-Via: one,\r\n\ttwo\r\nConnection:\r\n Upgrade\r\nSec-WebSocket-Accept:\r\n\t{accept}",
        _UPGRADE + "Set-Cookie: a=b;\r\n path=/\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}",
        _UPGRADE + "Connection: Upgrade\r\nConnection: keep-alive\r\nSec-WebSocket-Accept: {accept}",
        _UPGRADE + "Connection: Upgrade\r\nServer: \xe4\xf6\r\nSec-WebSocket-Accept: {accept}",
        "HTTP/1.1 101 ge\xe4ndert\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}",
        "HTTP/1.1 101\r\nuPGRADE:WebSocket\r\nCONNECTION:x, uPgRaDe \r\nsec-websocket-ACCEPT:\t{accept}\t\r\nX:",
        "HTTP/1.1 103 Early Hints\r\nUpgrade: h2c\r\n\r\n"
        + _UPGRADE
        + "Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}",
    ],
    ids=[
        "folded",
        "folded cookie",
        "two lines",
        "beyond ASCII",
        "status beyond ASCII",
        "odd case",
        "after an interim one",
    ],
)
def test_unusual_but_valid_upgrade_is_accepted(head: str) -> None:
    """All of them are valid HTTP; websocket-client 1.9.2 rejects most of them."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(head.format(accept=peer.accept_key()).encode("latin-1") + b"\r\n\r\n" + frame(TEXT, b"hello"))
        peer.read_all()

    with Scripted(script) as server, contextlib.closing(dial(Handshake(server.url), "plain", Deadline(20))) as sock:
        sock.settimeout(20)
        assert sock.recv(7, socket.MSG_WAITALL) == frame(TEXT, b"hello")


def test_interim_responses_are_bounded() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        while True:
            peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    with Scripted(script) as server:
        assert str(MAX_HEAD_BYTES) in str(dial_error(server.url))


def test_close_after_an_interim_response_has_no_status() -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")

    with Scripted(script) as server:
        error = dial_error(server.url)
    assert error.status is None and "closed the connection" in str(error)


def test_extension_that_was_not_offered_is_refused() -> None:
    def script(peer: Peer) -> None:
        peer.accept("Sec-WebSocket-Extensions: permessage-deflate")
        peer.read_all()

    with Scripted(script) as server:
        assert "extension" in str(dial_error(server.url))


def test_cookies_are_not_kept() -> None:
    def script(peer: Peer) -> None:
        peer.accept("Set-Cookie: a=b; Domain=127.0.0.1", "Set-Cookie: c=d; Domain=.0.1")
        peer.read_all()

    with Scripted(script) as server:
        for _ in range(2):
            dial(Handshake(server.url), "plain", Deadline(30)).close()
        server.join()
        assert all("cookie" not in request.lower() for request in server.requests)


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(polite) as proxy, Scripted(polite) as server:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        dial(Handshake(server.url), "plain", Deadline(30)).close()
        assert proxy.peers == []


@pytest.mark.parametrize("value", ["s3cret\n", "s3cret\r\nx-other: 1", "s3cret\0"])
def test_header_with_a_line_break_is_refused_before_dialing(value: str) -> None:
    with Scripted(polite) as server:
        error = dial_error(server.url, headers={"x-api-key": value})
        assert error.permanent and server.peers == []


@pytest.mark.parametrize(
    "url",
    ["", "http://127.0.0.1/", "ws://", "ws://h:99999999/", "ws://[::1/", "ws://h/a b", "ws://h/\r\nx", "ws://h:0/"],
)
def test_invalid_url_is_a_permanent_error(url: str) -> None:
    assert dial_error(url).permanent


def test_invalid_host_name_is_an_error() -> None:
    dial_error("ws://a..b/")
    dial_error("ws://" + "a" * 300 + ".example/")


def test_missing_ca_file_is_a_permanent_error() -> None:
    assert dial_error("wss://127.0.0.1:1/", ca_file="/nowhere/ca.pem").permanent


def test_dial_costs_two_round_trips_and_three_with_tls(authority: Authority) -> None:
    encrypted = authority.good()
    encrypted.num_tickets = 0  # tickets would count as another turn
    for tls, turns in ((None, 1), (encrypted, 2)):
        with Scripted(polite, tls=tls) as server, Proxy(server.port) as proxy:
            url = server.url.replace(str(server.port), str(proxy.port))
            dial(Handshake(url), "plain", Deadline(30), ca_file=authority.ca_file).close()
            # The proxy accepts TCP immediately, so that round trip is not counted.
            assert proxy.turns_up == turns
