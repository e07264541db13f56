"""Invalid and unauthorized requests: each gets a response or a close, and other clients are served."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from support import server_clients as clients
from support.local_server import LocalServerProcess
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from agent.server.tts import tone

KEY = "secret-key"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    folder = tmp_path_factory.mktemp("keyed")
    (folder / "key").write_text(f"{KEY}\n")
    keys = ("--api-key-file", str(folder / "key"), "--user-id-playai", "user-1")
    with LocalServerProcess(folder, "--speech", "tone", "--recognition", "none", *keys) as server:
        yield server


def _exchange(server: LocalServerProcess, *pieces: bytes) -> bytes:
    """Send the pieces and return everything received until the server closes."""
    with socket.create_connection((server.host, server.port), 20) as client:
        answer = b""
        with contextlib.suppress(ConnectionError):  # the server may close before it has read everything
            for piece in pieces:
                client.sendall(piece)
        with contextlib.suppress(ConnectionError):  # data received before the reset counts
            while more := client.recv(65536):
                answer += more
        return answer


def _assert_serves_clients(server: LocalServerProcess) -> None:
    with connect(f"{server.ws}/speak/en?sampling_rate=8000", additional_headers={"x-api-key": KEY}) as ws:
        ws.send("Hello. <STOP>")
        assert clients.neuphonic_passage(ws) == tone.pcm("Hello.", 8000)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/speak/en", {}, 403),
        ("/speak/en", {"x-api-key": "wrong"}, 403),
        ("/speak/en?speed=9", {"x-api-key": KEY}, 400),
        ("/api/v1/tts", {"X-API-Key-ID": "wrong"}, 401),
        ("/v1/tts/live", {"Authorization": "Bearer wrong"}, 401),
        ("/v1/tts/live", {"Authorization": KEY}, 401),
        ("/playht-fal/playht-tts/stream?fal_jwt_token=made-up", {}, 401),
    ],
)
def test_a_wrong_key_is_rejected_in_the_handshake(
    keyed: LocalServerProcess, path: str, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(InvalidStatus) as rejection, connect(keyed.ws + path, additional_headers=headers):
        pass
    assert rejection.value.response.status_code == status
    assert rejection.value.response.reason_phrase == HTTPStatus(status).phrase
    assert json.loads(rejection.value.response.body)["status"] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": f"Bearer {KEY}", "X-User-Id": "user-1"}, 200),
        ({"Authorization": f"Bearer {KEY}", "X-User-Id": "other"}, 401),
        ({"Authorization": "Bearer wrong", "X-User-Id": "user-1"}, 401),
        ({}, 401),
    ],
)
def test_playai_authorization_requires_key_and_user_id(
    keyed: LocalServerProcess, headers: dict[str, str], status: int
) -> None:
    connection = http.client.HTTPConnection(keyed.host, keyed.port, timeout=20)
    connection.request("POST", "/api/v1/tts/websocket-auth", body=b"{}", headers=headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    assert answer.status == status
    if status == 200:
        assert body["webSocketUrls"]["Play3.0-mini"].startswith(f"ws://{keyed.host}:{keyed.port}/")


def test_playai_authorization_returns_urls_with_the_requested_host(keyed: LocalServerProcess) -> None:
    connection = http.client.HTTPConnection("localhost", keyed.port, timeout=20)
    connection.request("POST", "/api/v4/sdk-auth", headers={"Authorization": f"Bearer {KEY}", "X-User-Id": "user-1"})
    body = json.loads(connection.getresponse().read())
    connection.close()
    assert body["PlayDialogArabic"]["websocket_url"].startswith(f"ws://localhost:{keyed.port}/")


AUTHORIZED = {"Authorization": f"Bearer {KEY}", "X-User-Id": "user-1"}
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-user-id"}


@pytest.fixture(scope="module")
def open_to_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    origins = ("--allow-origin", "https://Kiosk.example:8443", "--allow-origin", "http://localhost:5173")
    folder = tmp_path_factory.mktemp("pages")
    with LocalServerProcess(folder, "--speech", "tone", "--recognition", "none", "--api-key", KEY, *origins) as server:
        yield server


def _request(server: LocalServerProcess, method: str, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


@pytest.mark.parametrize("path", ["/api/v1/tts/websocket-auth", "/api/v4/sdk-auth"])
@pytest.mark.parametrize("origin", ["https://kiosk.example:8443", "http://localhost:5173"])
def test_an_allowed_page_may_use_the_authorization(open_to_pages: LocalServerProcess, path: str, origin: str) -> None:
    preflight = _request(open_to_pages, "OPTIONS", path, {"Origin": origin, **PREFLIGHT})
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == origin
    assert preflight.headers["Access-Control-Allow-Methods"] == "POST"
    assert preflight.headers["Access-Control-Allow-Headers"] == "authorization, x-user-id"
    for headers, statuses in ((AUTHORIZED, (200, 201)), ({}, (401,))):
        answer = _request(open_to_pages, "POST", path, {"Origin": origin, **headers})
        assert answer.status in statuses
        assert (answer.headers["Access-Control-Allow-Origin"], answer.headers["Vary"]) == (origin, "Origin")


@pytest.mark.parametrize("origin", ["https://kiosk.example", "http://kiosk.example:8443", "null", "*", ""])
def test_another_page_may_not_use_the_authorization(open_to_pages: LocalServerProcess, origin: str) -> None:
    for method, extra in (("OPTIONS", PREFLIGHT), ("POST", AUTHORIZED)):
        answer = _request(open_to_pages, method, "/api/v1/tts/websocket-auth", {"Origin": origin, **extra})
        assert not any(name.startswith("Access-Control") for name in answer.headers)


def test_no_page_may_use_the_authorization_by_default(keyed: LocalServerProcess) -> None:
    answer = _request(keyed, "POST", "/api/v1/tts/auth", {"Origin": "http://localhost", **AUTHORIZED})
    assert answer.status == 200 and "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("request_bytes", "begin"),
    [
        (b"POST /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
        (b"PUT / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 405 "),
        (b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 404 "),
        (b"POST /api/v1/tts/auth HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", b"HTTP/1.1 413 "),
        (b"POST /api/v1/tts/auth HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST /api/v1/tts/auth HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 411 "),
        (b"POST / HTTP/1.1\r\nno colon here\r\n\r\n", b"HTTP/1.1 400 "),
        (b"POST / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n", b"HTTP/1.1 431 "),
        (b"POST / HTTP/1.1\r\nA: " + b"x" * 100000, b"HTTP/1.1 431 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.1 400 "),
        (bytes(range(256)) * 100, b"HTTP/1.1 4"),
        (b"GET / HTTP/1.1\r\nA: " + b"x" * 100000 + b"\r\n\r\n", b"HTTP/1.1 431 "),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", b"HTTP/1.1 431 "),
        (b"GET garbage\r\n\r\n", b"HTTP/1.1 400 "),
        ("GET /caf\u00e9 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), b"HTTP/1.1 400 "),
        (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", b"HTTP/1.1 426 "),
        (b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"HTTP/1.1 4"),
    ],
)
def test_an_invalid_request_is_answered_and_closed(
    keyed: LocalServerProcess, request_bytes: bytes, begin: bytes
) -> None:
    assert _exchange(keyed, request_bytes).startswith(begin)
    _assert_serves_clients(keyed)


@pytest.mark.parametrize("voice", ["Zo\u00eb", "Zoe Maria"])
def test_a_websocket_whose_query_is_not_encoded_is_refused_with_the_reason(
    keyed: LocalServerProcess, voice: str
) -> None:
    lines = [f"GET /speak/en?voice={voice} HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    answer = _exchange(keyed, "\r\n".join([*lines, "", ""]).encode())
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"has to be percent-encoded")


@pytest.mark.parametrize(
    ("field", "begin"),
    [
        (b"no colon here", b"HTTP/1.1 400 "),
        (b"two words: x", b"HTTP/1.1 400 "),
        (b"A: \x01", b"HTTP/1.1 400 "),
        (b"A: x\r\n folded", b"HTTP/1.1 400 "),
        (b"Content-Length: 5", b"HTTP/1.1 426 "),
        (b"Transfer-Encoding: chunked", b"HTTP/1.1 411 "),
    ],
)
def test_a_websocket_request_that_the_library_refuses_is_answered(
    keyed: LocalServerProcess, field: bytes, begin: bytes
) -> None:
    lines = [b"GET / HTTP/1.1", b"Host: x", b"Upgrade: websocket", b"Connection: Upgrade", field]
    assert _exchange(keyed, b"\r\n".join([*lines, b"", b"hello"])).startswith(begin)


def test_get_with_a_body_is_answered(keyed: LocalServerProcess) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    assert _exchange(keyed, request).endswith(b'{"status": "ok"}')


def test_get_of_a_whole_url_is_answered(keyed: LocalServerProcess) -> None:
    """A client of a proxy sends it (RFC 9112, 3.2.2)."""
    request = b"GET http://127.0.0.1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    assert _exchange(keyed, request).endswith(b'{"status": "ok"}')


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_get_in_pieces_before_the_end_of_the_data_is_answered(keyed: LocalServerProcess, size: int) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((keyed.host, keyed.port), 20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(request), size):
            client.sendall(request[at : at + size])
        client.shutdown(socket.SHUT_WR)
        assert _read(client).endswith(b'{"status": "ok"}')


def _read(client: socket.socket) -> bytes:
    """Return everything received until the server closes."""
    answer = b""
    while more := client.recv(65536):
        answer += more
    return answer


def test_text_beyond_the_limit_closes_the_session_with_1008(keyed: LocalServerProcess) -> None:
    with connect(f"{keyed.ws}/speak/en", additional_headers={"x-api-key": KEY}) as ws:
        with pytest.raises(ConnectionClosed):
            for _ in range(40):
                ws.send("x" * 100000)
            assert json.loads(ws.recv(timeout=20))["type"] == "error"
            ws.recv(timeout=20)
        assert ws.close_code == 1008
    _assert_serves_clients(keyed)


def test_a_message_above_8_mib_closes_with_1009(keyed: LocalServerProcess) -> None:
    with connect(f"{keyed.ws}/api/v1/tts", additional_headers={"X-API-Key-ID": KEY}) as ws:
        with pytest.raises(ConnectionClosed):
            ws.send(b"x" * (9 << 20))
            ws.recv(timeout=20)
        assert ws.close_code == 1009


@pytest.mark.parametrize("path", ["/speak/en", "/api/v1/tts", "/v1/tts/live"])
@pytest.mark.parametrize("message", ["", "{", "[]", "null", b"", b"\xff\xfe", b"\xc1" * 100, '{"text": 5}', "\0" * 10])
def test_invalid_messages_do_not_end_the_server(keyed: LocalServerProcess, path: str, message: str | bytes) -> None:
    headers = {"x-api-key": KEY, "X-API-Key-ID": KEY, "Authorization": f"Bearer {KEY}"}
    with connect(keyed.ws + path, additional_headers=headers) as ws:
        ws.send(message)
        ws.send(message)
    _assert_serves_clients(keyed)
    assert "Traceback" not in keyed.log()


def test_a_client_above_the_limit_gets_503_with_retry_after(tmp_path: Path) -> None:
    arguments = ("--speech", "tone", "--recognition", "none", "--clients", "2")
    with LocalServerProcess(tmp_path, *arguments) as server:
        url = f"{server.ws}/speak/en"
        with connect(url), connect(url), pytest.raises(InvalidStatus) as rejection, connect(url):
            pass
        assert rejection.value.response.status_code == 503
        assert rejection.value.response.headers["Retry-After"] == "1"


def test_no_log_contains_a_key_or_token(keyed: LocalServerProcess) -> None:
    request = urllib.request.Request(
        f"{keyed.http}/api/v1/tts/websocket-auth", data=b"", method="POST",
        headers={"Authorization": f"Bearer {KEY}", "X-User-Id": "user-1"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=20) as answer:
        url = json.loads(answer.read())["webSocketUrls"]["Play3.0-mini"]
    with connect(url) as ws:
        ws.send(json.dumps({"text": f"The key is {KEY}", "voice": "x"}))
        ws.recv(timeout=20)
    written = keyed.log() + keyed.wire_path.read_text()
    assert KEY not in written
    assert url.partition("fal_jwt_token=")[2] not in written
