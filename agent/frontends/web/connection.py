"""Serves one HTTP connection: reads one bounded request within a deadline, checks its caller and responds."""

from __future__ import annotations

import io
import json
import logging
import math
import socket
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler
from typing import Any, BinaryIO
from urllib.parse import parse_qs

from agent.frontends.web.access import Access, Identity, is_loopback, session_of
from agent.frontends.web.http_error import HttpError
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024
CHUNK_BYTES = 64 * 1024
MAX_UNREAD_BYTES = 1024 * 1024
"""Maximum size of the rest of a refused request that is read and dropped. If a connection is closed while it holds
unread data, the kernel resets it, and the client would lose the response."""

MAX_ADDRESS_CHARACTERS = 64

_TOKEN_NAMES = frozenset({"token", "access_token", "key", "api_key", "apikey", "authorization", "auth", "password"})
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_REASONS = {413: "Content Too Large"}


class HttpTiming(NamedTuple):
    """The timeouts of one connection. Immutable.

    Args:
        request_seconds: Maximum time from the accept until the whole request has arrived, including a TLS handshake.
        write_seconds: Maximum time until the client has received 64 KiB of a response.
        unread_seconds: Maximum time to read the rest of a refused request.
        answer_seconds: Maximum time until the daemon has answered a request of the API.
        ping_seconds: Interval of the comments in an event stream. They show the client that the connection works.
    """

    request_seconds: float = 10.0
    write_seconds: float = 10.0
    unread_seconds: float = 1.0
    answer_seconds: float = 60.0
    ping_seconds: float = 15.0


class RequestReader(io.RawIOBase):
    """Reads at most a limited number of bytes from a socket, within a deadline.

    Not thread-safe; owned by the thread of the connection.

    Args:
        connected: The socket.
        deadline: The time until which all data must have arrived.
    """

    def __init__(self, connected: socket.socket, deadline: Deadline) -> None:
        self._socket, self._deadline = connected, deadline
        self._allowed_bytes = MAX_HEAD_BYTES

    def readable(self) -> bool:
        return True

    def allow(self, count: int) -> None:
        """Set the number of bytes that may still be read; at first ``MAX_HEAD_BYTES``."""
        self._allowed_bytes = count

    def readinto(self, buffer: Any) -> int:
        if not self._allowed_bytes:
            raise HttpError(431, f"the header of this request has more than {MAX_HEAD_BYTES} bytes")
        remaining = self._deadline.remaining()
        if not remaining:
            raise TimeoutError
        self._socket.settimeout(remaining)
        size = self._socket.recv_into(buffer, min(len(buffer), self._allowed_bytes))
        self._allowed_bytes -= size
        return size


class HttpConnection(BaseHTTPRequestHandler):
    """Serves one request. Not thread-safe; owned by the thread of the connection.

    The constructor serves the request and returns after the response.

    Args:
        connected: The socket. The caller closes it.
        peer: The IP address of the client.
        access: The access rules.
        route: Returns the function that serves a path with a method. Raises ``HttpError``.
        timing: The timeouts.
        deadline: The time until which the request has to arrive.

    Attributes:
        identity: What the server knows about the caller.
        has_session: Whether the caller has sent a valid session.
    """

    protocol_version = "HTTP/1.1"

    def __init__(
        self,
        connected: socket.socket,
        peer: str,
        access: Access,
        route: Callable[[str, str], Callable[[HttpConnection], None]],
        timing: HttpTiming,
        deadline: Deadline,
    ) -> None:
        self.access, self.timing, self.peer = access, timing, peer
        self._route = route
        self.identity = Identity.UNKNOWN
        self.has_session = False
        self._deadline = deadline
        self._has_responded = False
        super().__init__(connected, (peer, 0), None)  # type: ignore[arg-type]  # serves the request

    # --- BaseHTTPRequestHandler

    def setup(self) -> None:
        self.connection = self.request
        self._reader = RequestReader(self.connection, self._deadline)
        self.rfile: BinaryIO = io.BufferedReader(self._reader, 4096)  # type: ignore[assignment]
        self.wfile: BinaryIO = _SocketWriter(self.connection, self.timing.write_seconds)  # type: ignore[assignment]
        self.headers = HTTPMessage()
        self.command, self.path, self.requestline, self.request_version = "", "", "", self.protocol_version

    def finish(self) -> None:
        return

    def handle(self) -> None:
        try:
            self._handle()
        except HttpError as error:
            self.refuse(error)
        except TimeoutError:
            if not self._has_responded:
                self.refuse(HttpError(408, "the request did not arrive in time"))
        except OSError as error:
            log.debug("web: connection lost, peer=%s, %s", self.peer, error.strerror or error)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send an error of the request parser (standard library) in the same format as all other errors."""
        self.refuse(HttpError(int(code), explain or message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: Any) -> None:
        return

    # --- requests

    def _handle(self) -> None:
        self.raw_requestline = self.rfile.readline(MAX_HEAD_BYTES)
        if not self.raw_requestline.strip() or not self.parse_request():
            return
        self._check_names()
        route = self._route(self.path.partition("?")[0], self.command)
        self._identify()
        route(self)

    def header(self, name: str) -> str | None:
        """Return a header field of the request; ``None`` if it is missing. Raises ``HttpError`` if it is repeated."""
        values = self.headers.get_all(name, [])
        if len(values) > 1:
            raise HttpError(400, f"the header has more than one {name}")
        return values[0].strip() if values else None

    @property
    def host(self) -> str:
        return self.header("Host") or ""

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; the last value of each. Raises ``HttpError`` if there are more than 20."""
        text = self.path.partition("?")[2]
        try:
            return {name: values[-1] for name, values in parse_qs(text, max_num_fields=20).items()}
        except ValueError:
            raise HttpError(400, "the address has too many parameters") from None

    def read_body(self) -> bytes:
        """Return the body, which must have the type JSON. It is not parsed.

        Raises:
            HttpError: The type is not JSON, or the length is missing, invalid, too large or wrong.
        """
        if (self.header("Content-Type") or "").partition(";")[0].strip().lower() != "application/json":
            # This protects against forms in pages of other servers: they cannot send JSON without a preflight request.
            raise HttpError(415, "the body has another type, expected Content-Type: application/json")
        length = self.header("Content-Length")
        if self.header("Transfer-Encoding") is not None or length is None:
            raise HttpError(411, "the request has no Content-Length")
        if not (length.isascii() and length.isdigit()):
            raise HttpError(400, "the Content-Length is not a number")
        if len(length) > 9 or int(length) > MAX_BODY_BYTES:
            raise HttpError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
        self._reader.allow(int(length))
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise HttpError(400, "the body is shorter than its Content-Length")
        return body

    def _check_names(self) -> None:
        """Raise ``HttpError`` for pages of other servers, for a foreign ``Host``, and for tokens in the URL."""
        if not self.path.startswith("/"):
            raise HttpError(400, "the address of the request does not begin with /")
        if any(name.lower() in _TOKEN_NAMES for name in self.query):
            raise HttpError(400, "a token in the address is refused, because addresses are logged: send it in a header")
        host, origin = self.host, self.header("Origin")
        if not self.access.admits_host(host):
            raise HttpError(421, "this Host is not allowed: add its origin to web.origins, such as https://HOST")
        if origin is not None:
            if not self.access.admits_origin(origin, host):
                raise HttpError(403, "pages of this origin are not allowed: add it to web.origins")
        elif (
            self.header("Sec-Fetch-Site") in ("cross-site", "same-site") and self.header("Sec-Fetch-Mode") != "navigate"
        ):
            # A browser sends Origin with each request whose response a page can read. Requests without Origin are
            # navigations, which are allowed, and elements of a page, such as images.
            raise HttpError(403, "a page of another server may not embed this one")

    def _identify(self) -> None:
        authorization = self.header("Authorization")
        session = session_of(self.header("Cookie"))
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise HttpError(401, "expected Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
            self.check_token(token.strip())
        elif session is not None and self.access.check_session(session):
            self.identity, self.has_session = Identity.TRUSTED, True
        elif self.access.is_local(self.peer, self.host, is_forwarded=any(map(self.headers.get, _FORWARDED))):
            self.identity = Identity.LOCAL

    def check_token(self, token: str) -> None:
        """Set ``identity`` to ``TRUSTED`` if the token is right.

        Raises:
            HttpError: The token is wrong, or the address has sent too many wrong ones.
        """
        client = self._client_address()
        seconds = self.access.wait_seconds(client)
        if seconds > 0.0:
            after = {"Retry-After": str(math.ceil(seconds))}
            raise HttpError(429, f"too many wrong tokens from {client}: try again in {seconds:.0f} s", after)
        if not self.access.check_token(token, client):
            reason = "the token is wrong" if self.access.has_token else "web.token is not set"
            raise HttpError(401, reason, {"WWW-Authenticate": "Bearer"})
        self.identity = Identity.TRUSTED

    def _client_address(self) -> str:
        """Return the IP address of the client, or the address that a reverse proxy on this machine reports."""
        last = (self.header("X-Forwarded-For") or "").rpartition(",")[2].strip()
        return last[:MAX_ADDRESS_CHARACTERS] if last and is_loopback(self.peer) else self.peer

    def require_known(self) -> None:
        """Refuse a caller that may be on another machine and has not sent the token.

        Raises:
            HttpError: The identity of the caller is ``UNKNOWN``.
        """
        if self.identity is not Identity.UNKNOWN:
            return
        hint = "send Authorization: Bearer TOKEN, or log in" if self.access.has_token else "web.token is not set"
        raise HttpError(401, f"this needs the token: {hint}", {"WWW-Authenticate": "Bearer"})

    # --- responses

    def respond(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        """Write a complete response; for a HEAD request without the body.

        Raises:
            OSError: The client is not connected any more, or does not read. The other methods that write raise it too.
        """
        self.begin(status, content_type, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def respond_json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        """Write a complete response with a JSON value."""
        self.respond(status, json.dumps(value).encode() + b"\n", "application/json", headers)

    def begin(self, status: int, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        """Write the header of a response. The caller writes the body to ``wfile``."""
        self._has_responded = True
        # For a request that it cannot parse, the base class assumes HTTP/0.9 and would write no header.
        self.request_version = self.protocol_version
        fields = {
            "Content-Type": content_type,
            "Cache-Control": "no-store",
            "Connection": "close",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            **self._cors_fields(),
            **(headers or {}),
        }
        self.send_response_only(status, _REASONS.get(status))
        for name, value in fields.items():
            self.send_header(name, value)
        if self.has_session and (self.path == "/" or self.path.startswith("/app/")):
            self.send_header("Set-Cookie", self.access.cookie(self.access.new_session(), self.headers.get("Host", "")))
        self.end_headers()

    def refuse(self, error: HttpError) -> None:
        """Write an error response and drop the rest of the request. Without effect if a response has begun.

        Does not raise ``OSError``.
        """
        sentence = escape(str(error), 500)
        log.debug("web: refused, status=%d, peer=%s, %s", error.status, self.peer, sentence)
        if self._has_responded:
            return
        try:
            self.respond_json(error.status, {"error": sentence}, error.headers)
            self._drop_rest()
        except OSError:
            return

    def _cors_fields(self) -> dict[str, str]:
        origins = self.headers.get_all("Origin", [])
        if len(origins) != 1 or self.access.is_own_origin(origins[0], self.headers.get("Host", "")):
            return {"Cross-Origin-Resource-Policy": "same-origin"}
        if not self.access.admits_origin(origins[0], ""):
            return {"Vary": "Origin"}
        return {"Access-Control-Allow-Origin": origins[0], "Vary": "Origin"}

    def allow_page(self) -> None:
        """Answer a preflight request of an allowed origin (Fetch standard, CORS protocol)."""
        fields = {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type",
            "Access-Control-Max-Age": "600",
        }
        # Chromium asks for this permission before a page of a public network may send a request to a private network
        # (Private Network Access).
        if self.headers.get("Access-Control-Request-Private-Network") == "true":
            fields["Access-Control-Allow-Private-Network"] = "true"
        self.respond(204, b"", "text/plain", fields)

    def _drop_rest(self) -> None:
        self.connection.shutdown(socket.SHUT_WR)
        deadline, dropped = Deadline(self.timing.unread_seconds), 0
        while dropped < MAX_UNREAD_BYTES and (remaining := deadline.remaining()):
            self.connection.settimeout(remaining)
            data = self.connection.recv(CHUNK_BYTES)
            if not data:
                return
            dropped += len(data)


class _SocketWriter(io.RawIOBase):
    """Writes to a socket in pieces of at most 64 KiB, each within a timeout. Not thread-safe."""

    def __init__(self, connected: socket.socket, timeout_seconds: float) -> None:
        self._socket, self._timeout_seconds = connected, timeout_seconds

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        for start in range(0, len(data), CHUNK_BYTES):
            self._socket.settimeout(self._timeout_seconds)
            self._socket.sendall(data[start : start + CHUNK_BYTES])
        return len(data)
