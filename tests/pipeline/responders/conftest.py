"""A real HTTP server that does what a test tells it, and a way to hear an answer."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agent.pipeline.text.reply import ReplyText
from agent.services.settings import TextSettings


class Service:
    """One scripted service. ``script(handler)`` answers each POST; ``requests`` holds what was asked, body included.

    ``freed`` is set when the test is over, so that a script may hold a request for as long as the test lasts."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.script: Callable[[Any], None] = lambda handler: handler.reply(204)
        self.freed = threading.Event()
        service = self
        serving = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30.0

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.requests.append((self.path, headers, body))
                self.close_connection = True
                service.script(self)

            def do_GET(self) -> None:
                service.requests.append((self.path, {}, b"GET"))
                self.reply(200, "text/plain", b"You were sent here.")

            def reply(self, status: int, kind: str = "", body: bytes = b"", **headers: str) -> None:
                self.send_response(status)
                if kind:
                    self.send_header("Content-Type", kind)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def begin(self, kind: str) -> None:
                """A chunked answer; ``chunk`` sends its parts, an empty one ends it."""
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()

            def chunk(self, data: bytes) -> None:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def trickle(self, kind: str, data: bytes) -> None:
                """A chunked answer that goes on until the client hangs up or the test is over."""
                self.begin(kind)
                while not service.freed.wait(0.02):
                    self.chunk(data)

            def hold(self) -> bool:
                """Says nothing until the client hangs up (True) or the test is over."""
                self.connection.settimeout(0.05)
                for _ in range(600):
                    if service.freed.is_set():
                        return False
                    try:
                        return self.connection.recv(1) == b""
                    except TimeoutError:
                        continue
                    except OSError:
                        return True
                return False

            def log_message(self, *_: object) -> None:
                """Silent."""

        class Server(ThreadingHTTPServer):
            daemon_threads = False  # so that closing it waits for those who still answer, and their sockets

            def service_actions(self) -> None:
                serving.set()

            def handle_error(self, *_: object) -> None:
                """A client that hangs up is no news here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        assert serving.wait(30)  # the loop looks at the socket once, as it begins: "encrypt" puts another in its place

    def encrypt(self, context: ssl.SSLContext) -> None:
        """From now on it speaks TLS."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = self.url.replace("http:", "https:")

    def close(self) -> None:
        self.freed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    running = Service()
    yield running
    running.close()


@pytest.fixture
def hear() -> Callable[..., list[str]]:
    """The sentences of an answer that are spoken."""

    def heard(answers: Any, text: str = "hello", turn: int = 1) -> list[str]:
        reply = ReplyText(TextSettings())
        sentences = [sentence for piece in answers.reply(text, turn) for sentence in reply.feed(piece)]
        return [*sentences, *reply.flush()]

    return heard
