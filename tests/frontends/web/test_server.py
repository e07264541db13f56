"""The web frontend over real sockets: rights of callers, events, limits and shutdown."""

from __future__ import annotations

import itertools
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.web import BEARER, JSON, SECONDS, STATUS, TOKEN, EventReader, WebHarness, certificate

from agent.errors import ConfigError
from agent.frontends.api.subscription import MAX_EVENTS
from agent.frontends.web.access import ATTEMPTS
from agent.frontends.web.connection import MAX_BODY_BYTES, HttpTiming
from agent.frontends.web.event_stream import LEVEL_SECONDS
from agent.frontends.web.routes import MAX_STREAMS
from agent.frontends.web.server import MAX_CONNECTIONS
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, Heard, Hush, Partial
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

QUICK = HttpTiming(request_seconds=0.3, write_seconds=0.5, unread_seconds=0.3, answer_seconds=5.0, ping_seconds=0.2)
STATUS_CALL = {"jsonrpc": "2.0", "id": 1, "method": "status", "params": {}}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebHarness]:
    directory = tmp_path_factory.mktemp("site")
    (directory / "sub").mkdir()
    (directory / "kiosk.html").write_text("<p>kiosk</p>")
    with WebHarness(transcripts=True, directory=str(directory), origins=("https://kiosk.example",)) as harness:
        yield harness


@pytest.fixture(scope="module")
def open_web() -> Iterator[WebHarness]:
    """A web frontend without a token."""
    with WebHarness(None) as harness:
        yield harness


def read_all(connected: socket.socket) -> bytes:
    data = b""
    try:
        while more := connected.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


# --- rights


def test_program_with_the_token_controls_the_daemon(web: WebHarness) -> None:
    answer = web.call("say", text="hello", id="one")
    assert answer["result"]["id"] == "one"
    announced = web.events.get(timeout=SECONDS)
    assert isinstance(announced, Announce)
    assert (announced.utterance.text, announced.utterance.source) == ("hello", "web")
    assert web.call("hush") == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert web.events.get(timeout=SECONDS) == Hush("web")


def test_notification_has_no_response(web: WebHarness) -> None:
    response = web.request("POST", "/rpc", {"jsonrpc": "2.0", "method": "hush"}, BEARER)
    assert (response.status, response.body) == (204, b"")
    assert web.events.get(timeout=SECONDS) == Hush("web")


@pytest.mark.parametrize("method", ["say", "hush", "cancel", "volume", "queue", "turns", "log", "config", "checks"])
def test_local_caller_without_the_token_only_reads_the_state(open_web: WebHarness, method: str) -> None:
    assert open_web.call("status", {})["result"]["state"] == "idle"
    assert open_web.call(method, {})["error"]["data"]["name"] == "forbidden"
    assert open_web.get("/metrics").body == b"up 1\n"
    assert open_web.get("/session").json == {
        "trusted": False, "local": True, "has_token": False, "transcripts": False
    }  # fmt: skip
    assert open_web.events.empty()


def test_caller_through_a_proxy_needs_the_token(web: WebHarness) -> None:
    proxied = {"X-Forwarded-For": "192.0.2.1"}
    for path in ("/events", "/metrics", "/app/kiosk.html"):
        assert web.request("GET", path, headers=proxied).status == 401
    assert web.request("POST", "/rpc", STATUS_CALL, proxied).status == 401
    assert web.request("GET", "/", headers=proxied).status == 200
    assert web.request("GET", "/metrics", headers={**proxied, **BEARER}).status == 200
    assert web.request("GET", "/metrics", headers={"Host": "kiosk.example"}).status == 401


def test_login_sets_a_session(web: WebHarness) -> None:
    response = web.request("POST", "/login", {"token": TOKEN})
    cookie = response.headers["Set-Cookie"]
    assert response.status == 200
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and "Secure" not in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    assert web.call("volume", session, percent=30)["result"]["percent"] == 30
    web.events.get(timeout=SECONDS)
    page = web.request("GET", "/", headers=session)
    assert page.headers["Set-Cookie"] != cookie
    assert "Max-Age=0" in web.request("POST", "/logout", {}, session).headers["Set-Cookie"]
    forged = {"Cookie": session["Cookie"][:-1] + ("0" if session["Cookie"][-1] != "0" else "1")}
    assert web.call("hush", forged)["error"]["data"]["name"] == "forbidden"


def test_wrong_tokens_are_refused_and_limited() -> None:
    with WebHarness() as harness:
        for attempt in range(ATTEMPTS):
            if attempt % 2:
                assert harness.request("POST", "/login", {"token": "wrong"}).status == 401
            else:
                assert harness.get("/metrics", Authorization="Bearer wrong").status == 401
        response = harness.request("POST", "/login", {"token": TOKEN})
        assert (response.status, response.headers["Retry-After"]) == (429, "10")
        assert harness.get("/metrics", **BEARER).status == 429
        assert harness.get("/metrics").status == 200
        proxied = {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}
        assert harness.request("POST", "/login", {"token": TOKEN}, proxied).status == 200
        for _ in range(ATTEMPTS):
            assert harness.request("POST", "/login", {"token": "wrong"}, proxied).status == 401
        response = harness.request("POST", "/login", {"token": TOKEN}, proxied)
        assert (response.status, "198.51.100.7" in response.json["error"]) == (429, True)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/events?token={TOKEN}", {}, 400),
        (f"/?access_token={TOKEN}", {}, 400),
        ("/metrics", {"Authorization": "Basic dTpw"}, 401),
        ("/metrics", {"Host": "evil.example"}, 421),
        ("/metrics", {"Host": ""}, 421),
        ("/metrics", {"Origin": "https://evil.example"}, 403),
        ("/metrics", {"Origin": "null"}, 403),
        ("/metrics", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("/", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("/nothing", {}, 404),
        ("/app/missing.html", {}, 404),
        ("/app/../secret", {}, 404),
        ("/events?names=noise", {}, 400),
        ("/rpc", {}, 405),
    ],
)
def test_unwanted_get_is_refused(web: WebHarness, path: str, headers: dict[str, str], status: int) -> None:
    response = web.request("GET", path, headers=headers)
    assert response.status == status
    assert status == 200 or response.json["error"]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({**JSON, **BEARER, "Origin": "https://evil.example"}, b"{}", 403),
        ({"Content-Type": "text/plain", **BEARER}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415),
        ({**JSON, "Transfer-Encoding": "chunked"}, b"2\r\n{}\r\n0\r\n\r\n", 411),
        ({**JSON, "Content-Length": "x"}, b"", 400),
        ({**JSON, "Content-Length": "-1"}, b"", 400),
        ({**JSON, "Content-Length": str(MAX_BODY_BYTES + 1)}, b"", 413),
        ({**JSON, "Content-Length": str(1 << 30)}, b"x" * 1000, 413),
    ],
)
def test_unwanted_post_is_refused(web: WebHarness, headers: dict[str, str], body: bytes, status: int) -> None:
    if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
        headers = {**headers, "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with web.connect() as connected:
        connected.sendall(f"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode() + body)
        connected.shutdown(socket.SHUT_WR)
        assert read_all(connected).startswith(b"HTTP/1.1 %d " % status)
    assert web.events.empty()


def test_body_is_a_request_of_json_rpc(web: WebHarness) -> None:
    for body, code in ((b"[]", -32600), (b"{", -32700), (b'{"say": "old"}', -32600), (b"\xff", -32700)):
        assert web.request("POST", "/rpc", body, BEARER).json["error"]["code"] == code


@pytest.mark.parametrize(
    "head",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
    ],
)
def test_garbage_gets_an_error_or_nothing(web: WebHarness, head: bytes) -> None:
    with web.connect() as connected:
        connected.sendall(head)
        connected.shutdown(socket.SHUT_WR)
        answer = read_all(connected)
    assert answer == b"" or answer[:12] in (
        b"HTTP/1.1 400", b"HTTP/1.1 405", b"HTTP/1.1 414", b"HTTP/1.1 421", b"HTTP/1.1 431", b"HTTP/1.1 505"
    )  # fmt: skip
    assert web.get("/metrics").status == 200


# --- pages


def test_page_allows_only_its_own_script(web: WebHarness) -> None:
    response = web.get("/")
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert b"<script>" in response.body and b"onclick" not in response.body
    assert web.request("HEAD", "/").body == b""


def test_directory_is_served(web: WebHarness) -> None:
    response = web.get("/app/kiosk.html")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.body == b"<p>kiosk</p>"
    head = web.request("HEAD", "/app/kiosk.html")
    assert (head.headers["Content-Length"], head.body) == ("12", b"")
    assert (web.get("/app").status, web.get("/app").headers["Location"]) == (301, "/app/")
    assert web.get("/app/sub").headers["Location"] == "/app/sub/"
    assert web.get("/app/sub/").status == 404


def test_page_of_an_allowed_origin_uses_the_api(web: WebHarness) -> None:
    page = {"Origin": "https://kiosk.example", "Sec-Fetch-Site": "cross-site"}
    preflight = web.request("OPTIONS", "/rpc", headers=page)
    assert preflight.status == 204
    assert preflight.headers["Access-Control-Allow-Headers"] == "Authorization, Content-Type"
    response = web.request("POST", "/rpc", STATUS_CALL, {**page, **BEARER})
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (200, "https://kiosk.example")
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert web.request("OPTIONS", "/rpc", headers={"Origin": "https://evil.example"}).status == 403


# --- events


def test_events_are_streamed_with_texts_to_a_caller_with_the_token(web: WebHarness) -> None:
    trusted, local = web.stream("/events?names=heard,state"), web.stream("/events?names=heard", {})
    web.api.notify(Partial("not subscribed"))
    web.api.notify(Heard("hello you"))
    web.api.notify(STATUS)
    first = trusted.event()
    assert (first["event"], first["text"], first["words"]) == ("heard", "hello you", 2)
    assert trusted.event()["event"] == "state"
    assert "text" not in local.event()
    trusted.close()
    local.close()


def test_events_have_no_texts_unless_transcripts_are_on() -> None:
    with WebHarness(transcripts=False) as harness:
        stream = harness.stream()
        harness.api.notify(Heard("secret"))
        assert "text" not in stream.event()
        stream.close()


def test_idle_stream_is_kept_alive() -> None:
    with WebHarness(timing=QUICK) as harness:
        stream = harness.stream()
        assert stream.line() == ": ping"
        stream.close()


def test_levels_are_measured_only_for_a_subscriber() -> None:
    asked = threading.Event()

    def levels() -> dict[str, float]:
        asked.set()
        return {"speaker": -20.0}

    with WebHarness(levels=levels) as harness:
        plain = harness.stream()
        harness.api.notify(Heard("one"))
        assert plain.event()["event"] == "heard"
        assert not asked.is_set()
        stream = harness.stream("/events?names=level")
        assert stream.event() == {"event": "level", "speaker": -20.0}
        plain.close()
        stream.close()


def test_other_events_do_not_raise_the_rate_of_the_levels() -> None:
    numbers = itertools.count()
    started_at = time.monotonic()

    def levels() -> dict[str, float]:
        return {"speaker": float(next(numbers))}

    with WebHarness(levels=levels) as harness:
        stream = harness.stream("/events?names=level,heard")
        for _ in range(100):
            harness.api.notify(Heard("one"))
            while stream.event()["event"] != "heard":
                pass
        stream.close()
    assert next(numbers) <= 2 + (time.monotonic() - started_at) / LEVEL_SECONDS


def test_subscriber_that_does_not_read_loses_its_oldest_events() -> None:
    with WebHarness(transcripts=True) as harness, harness.connect() as connected:
        head = "".join(f"{name}: {value}\r\n" for name, value in BEARER.items())
        connected.sendall(f"GET /events?names=heard HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode())
        file = connected.makefile("rb")
        while file.readline() != b"retry: 2000\n":
            continue
        count = 6 * MAX_EVENTS
        # More than the buffers of the socket, the batch that is being sent and the queue can hold.
        for number in range(count):
            harness.api.notify(Heard(f"{number} {'x' * 1000}"))
        lost, numbers = 0, []
        while not numbers or numbers[-1] < count - 1:
            line = file.readline()
            assert line
            if not line.startswith(b"data: "):
                continue
            params = json.loads(line.removeprefix(b"data: "))["params"]
            if params["event"] == "lost":
                lost += params["lost"]
            else:
                numbers.append(int(params["text"].partition(" ")[0]))
        assert numbers == sorted(numbers)
        assert lost > 0
        assert lost + len(numbers) == count


def test_disconnected_subscribers_leave_their_places() -> None:
    with WebHarness() as harness:
        for _ in range(3):
            streams = [wait_for_stream(harness) for _ in range(MAX_STREAMS)]
            assert harness.get("/events", **BEARER).status == 503
            for stream in streams:
                stream.close()
            deadline = Deadline(SECONDS)
            while (response := harness.request("GET", "/session")).status != 200:
                assert not deadline.is_expired, response


def wait_for_stream(harness: WebHarness) -> EventReader:
    """Open a stream as soon as the server has noticed that an earlier one is closed."""
    deadline = Deadline(SECONDS)
    while True:
        try:
            return harness.stream()
        except AssertionError:
            assert not deadline.is_expired


# --- limits


def test_connection_above_the_limit_is_closed_at_once() -> None:
    with WebHarness() as harness:
        held = [harness.connect() for _ in range(MAX_CONNECTIONS)]
        with harness.connect() as connected:
            assert read_all(connected) == b""
        for connected in held[:2]:
            connected.close()
        deadline = Deadline(SECONDS)
        while True:
            try:
                assert harness.get("/metrics").status == 200
                break
            except (ConnectionError, OSError):
                assert not deadline.is_expired
        for connected in held[2:]:
            connected.close()


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
             b"Content-Length: 10\r\n\r\n{"],
)  # fmt: skip
def test_slow_request_ends_by_a_timeout(sent: bytes) -> None:
    with WebHarness(timing=QUICK) as harness, harness.connect() as connected:
        connected.sendall(sent)
        assert read_all(connected).startswith(b"HTTP/1.1 408 ")


def test_slow_headers_do_not_extend_the_deadline() -> None:
    with WebHarness(timing=QUICK) as harness, harness.connect() as connected:
        answer = b""
        connected.sendall(b"GET / HTTP/1.1\r\n")
        connected.settimeout(0.05)
        deadline = Deadline(SECONDS)
        while not answer and not deadline.is_expired:
            try:
                connected.sendall(b"X: y\r\n")
                answer = connected.recv(4096)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_client_that_never_reads_is_closed(tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(8 << 20))
    with WebHarness(timing=QUICK, directory=str(tmp_path)) as harness, harness.connect() as connected:
        connected.sendall(b"GET /app/large.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        streams = [harness.stream() for _ in range(MAX_STREAMS)]
        for stream in streams:
            stream.close()
        threads = [thread for thread in threading.enumerate() if thread.name == "web-connection"]
        for thread in threads:
            thread.join(SECONDS)
        assert not any(thread.is_alive() for thread in threads)


# --- start and end


def test_port_in_use_is_one_error_and_the_page_comes_when_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agent")
    harness = WebHarness()
    with socket.create_server(("127.0.0.1", harness.port)):
        harness.server.open()
        harness.server.start()
        assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    deadline = Deadline(SECONDS)
    while True:
        try:
            assert harness.get("/metrics").status == 200
            break
        except ConnectionRefusedError:
            assert not deadline.is_expired
    harness.__exit__()
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


@pytest.mark.parametrize(("token", "listen"), [(None, "0.0.0.0:8395"), ("short", "127.0.0.1:8395")])
def test_missing_or_short_token_is_a_configuration_error(token: str | None, listen: str) -> None:
    with pytest.raises(ConfigError, match="token") as raised:
        WebHarness(token, listen=listen).server.open()
    assert raised.value.exit_code == 78


def test_certificate_without_its_key_is_a_configuration_error(tmp_path: Path) -> None:
    chain, _, _ = certificate(tmp_path)
    with pytest.raises(ConfigError, match="belong together"):
        WebHarness(certificate=chain, key=chain).server.open()


def test_tls_serves_secure_cookies(tmp_path: Path) -> None:
    chain, key, context = certificate(tmp_path)
    with WebHarness(certificate=chain, key=key, timing=QUICK._replace(request_seconds=5.0)) as harness:
        response = harness.request("POST", "/login", {"token": TOKEN}, tls=context)
        assert response.status == 200
        assert response.headers["Set-Cookie"].endswith("; Secure")
        with harness.connect() as connected:
            connected.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert not read_all(connected).startswith(b"HTTP")


def test_tls_handshake_that_stalls_ends_by_a_timeout(tmp_path: Path) -> None:
    chain, key, _ = certificate(tmp_path)
    with WebHarness(certificate=chain, key=key, timing=QUICK) as harness, harness.connect() as connected:
        connected.sendall(b"\x16\x03\x01")
        assert read_all(connected) == b""


def test_shutdown_ends_streams_and_requests() -> None:
    harness = WebHarness()
    harness.__enter__()
    stream = harness.stream()
    waiting = harness.connect()
    harness.__exit__()
    assert stream.line() is None
    assert read_all(waiting) == b""
    with pytest.raises(ConnectionRefusedError):
        harness.connect()


def test_abort_ends_the_wait_for_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = WebHarness(timing=HttpTiming(request_seconds=2 * SECONDS))
    end, ends = harness.server._end_connections, threading.Event()
    monkeypatch.setattr(harness.server, "_flush_seconds", 2 * SECONDS)
    monkeypatch.setattr(harness.server, "_end_connections", lambda seconds: [ends.set(), end(seconds)])
    harness.server.open()
    harness.server.start()
    with harness.connect() as silent:
        assert harness.get("/session").status == 200  # the server has accepted the connection before
        harness.server.stop()
        assert ends.wait(SECONDS)
        harness.server.abort()
        assert harness.server.join(Deadline(SECONDS))
        assert read_all(silent) == b""


def test_frontend_that_never_started_is_closed() -> None:
    harness = WebHarness()
    harness.server.open()
    harness.server.stop_accepting()
    harness.server.stop()
    harness.server.abort()
    with socket.create_server(("127.0.0.1", harness.port)):
        pass


def test_utterance_of_a_caller_ends_in_an_event(web: WebHarness) -> None:
    stream = web.stream("/events?names=utterance")
    utterance = Utterance("u1", "text", source="web")
    web.api.notify(Announce(utterance))
    web.api.notify(Record(utterance, "played", seconds=1.0))
    assert [stream.event()["state"] for _ in range(2)] == ["accepted", "played"]
    stream.close()
