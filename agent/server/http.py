"""Plain HTTP of the local server: routes for GET, CORS headers, and reading and writing with limits."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.server.recordings import RecordingStore
from agent.services.protocols.handshake import header, keys_match, parse_target
from agent.system.threads import Deadline

MAX_HEAD_BYTES = 16384
METHODS = "GET, HEAD, POST, OPTIONS"

_MAX_LINES = 100
_MAX_BODY_BYTES = 65536
_READ_BYTES = 4096
_MAX_FIELD_NAMES = 1000
_EXPORT = re.compile(r"/export/(transcript|audio)/([0-9A-Za-z_-]{1,64})")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_UPGRADE_LINE = re.compile(rb"get [!-~]+ http/1\.[01]")
_FIELD = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.1 and 5.5
_FIELD_NAMES = re.compile(r"[A-Za-z0-9-]+( *, *[A-Za-z0-9-]+)*")
_REASONS = {
    200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden",
    404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout", 411: "Length Required",
    413: "Content Too Large", 426: "Upgrade Required", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """A complete HTTP response. Immutable.

    Args:
        status: HTTP status code.
        headers: Header fields, without those that ``fields`` adds.
        body: The body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def reason(self) -> str:
        return _REASONS.get(self.status, "Answer")

    def fields(self) -> dict[str, str]:
        """Return all header fields, including ``Content-Length`` and ``Connection``."""
        return {**self.headers, "Content-Length": str(len(self.body)), "Connection": "close"}

    def encoded(self, has_body: bool = True) -> bytes:
        """Return the response as bytes. ``has_body`` is false for the response to a HEAD request."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self.fields().items())
        return f"HTTP/1.1 {self.status} {self.reason}\r\n{head}\r\n".encode("latin-1", "replace") + self.body * has_body


@dataclass(frozen=True, slots=True)
class PlainRequest:
    """A parsed HTTP request without its body; no route needs the body. Header names are in lower case. Immutable."""

    method: str
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def text(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> PlainResponse:
    """Create a plain text response."""
    return PlainResponse(status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, sentence.encode())


def as_json(status: int, body: object) -> PlainResponse:
    """Create a JSON response."""
    return PlainResponse(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def get(target: str, headers: Mapping[str, str], recordings: RecordingStore, key: str | None) -> PlainResponse | None:
    """Answer a GET request.

    The routes, the texts of the responses and both headers for the key (``key``, in later versions ``Authorization``)
    are those of the transcription service.

    Args:
        target: Target of the request: path and query.
        headers: Header fields of the request.
        recordings: Recordings that can be exported.
        key: Key that an export requires; ``None`` if it requires none.

    Returns:
        The response, or ``None`` if the path is not an HTTP route.
    """
    parsed = parse_target(target)
    path = parsed[0] if parsed else ""
    if path == "/health":
        return as_json(200, {"status": "ok"})
    route = _EXPORT.fullmatch(path)
    if route is None:
        return text(404, "there is nothing at this path") if path.startswith("/export") else None
    rejection = _check_key(headers, key)
    if rejection is not None:
        return rejection
    kind, export_id = route[1], route[2]
    recording = recordings.find(export_id)
    if kind == "transcript":
        transcript = recording.transcript() if recording else None
        if transcript is None:
            return text(404, "Transcription ID not found")
        return PlainResponse(200, {"Content-Type": "application/json"}, transcript.encode())
    wav = recording.wav() if recording else None
    if wav is None:
        return as_json(404, {"error": "File not found"})
    return PlainResponse(
        200, {"Content-Type": "audio/wav", "Content-Disposition": f"attachment; filename={export_id}.wav"}, wav
    )


def _check_key(headers: Mapping[str, str], key: str | None) -> PlainResponse | None:
    if key is None:
        return None
    authorization = header(headers, "Authorization")
    value = header(headers, "key") if authorization is None else authorization.removeprefix("Bearer ")
    if keys_match(value, key):
        return None
    return as_json(401, "Unauthorized") if authorization is None else as_json(401, {"detail": "Unauthorized"})


def cors_fields(headers: Mapping[str, str], allow_origins: Sequence[str]) -> dict[str, str]:
    """Return the header fields that allow a web page to read a response (Fetch standard, CORS protocol).

    Args:
        headers: The header fields of the request.
        allow_origins: Origins of the allowed pages in lower case (``https://kiosk.example:8443``); ``*`` allows all.
    """
    origin = header(headers, "Origin")
    if not origin or not allow_origins:
        return {}
    if origin.lower() not in allow_origins and "*" not in allow_origins:
        return {"Vary": "Origin"}
    names = header(headers, "Access-Control-Request-Headers") or ""
    fields = {"Access-Control-Allow-Origin": origin, "Vary": "Origin", "Access-Control-Allow-Methods": "POST"}
    if _FIELD_NAMES.fullmatch(names[:_MAX_FIELD_NAMES]):
        fields["Access-Control-Allow-Headers"] = names[:_MAX_FIELD_NAMES]
    # Chromium asks for permission before a page of a public network reads from a private one (Private Network Access).
    if header(headers, "Access-Control-Request-Private-Network") == "true":
        fields["Access-Control-Allow-Private-Network"] = "true"
    return fields


def base_url(headers: Mapping[str, str], address: tuple[str, int]) -> str:
    """Return the URL under which the client reaches this server: its ``Host`` header if valid, else ``address``."""
    host = header(headers, "Host") or ""
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"http://{host if _HOST.fullmatch(host) else f'{name}:{address[1]}'}"


def read_request(connection: socket.socket, deadline: Deadline) -> PlainRequest | PlainResponse | None:
    """Read one request from a socket and discard its body.

    The head has at most 16 KiB and 100 lines, the body at most 64 KiB. All of it must arrive before ``deadline``.

    Returns:
        The request; the response to an invalid request; or ``None`` if the client closed the connection.
    """
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            if len(head) > MAX_HEAD_BYTES:
                return text(431, "the head of this request is too long")
            more = _receive(connection, deadline)
            if not more:
                return None
            head += more
        head, _, body = head.partition(b"\r\n\r\n")
        request = _parse_head(head)
        if not isinstance(request, PlainRequest):
            return request
        length = _content_length(request)
        if not isinstance(length, int):
            return length
        while len(body) < length:
            more = _receive(connection, deadline)
            if not more:
                return None
            body += more
    except TimeoutError:
        return text(408, "the request did not arrive in time")
    except OSError:
        return None
    return request


def peek_head(connection: socket.socket, deadline: Deadline) -> bytes:
    """Return the head of a request and leave it in the socket for the next reader.

    Returns:
        The complete head, possibly with bytes after it, or more than ``MAX_HEAD_BYTES`` of a head that is too long. The
        head is incomplete if its first byte is not that of GET, or if the client has ended its sending side. The result
        is empty if the head did not arrive before ``deadline``, or after an error of the socket.
    """
    head = b""
    try:
        while head[:1] in (b"", b"G") and b"\r\n\r\n" not in head and len(head) <= MAX_HEAD_BYTES:
            # recv() waits for more bytes than are known already, or for the end of the data.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(head) + 1)
            connection.settimeout(deadline.remaining())
            known, head = head, connection.recv(MAX_HEAD_BYTES + 1, socket.MSG_PEEK)
            if len(head) <= len(known):
                break
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    except OSError:
        return b""
    return head


def requests_upgrade(head: bytes) -> bool:
    """Return whether the head of a request asks for an upgrade to WebSocket.

    A request for another protocol (``h2c``) counts as a plain request, because a server may ignore the upgrade. A
    request with an invalid first line or header field, or with a body, is plain too, because the library would close
    its connection without a response.
    """
    lines = head.lower().split(b"\r\n")
    if _UPGRADE_LINE.fullmatch(lines[0]) is None:
        return False
    request = _parse_head(head.partition(b"\r\n\r\n")[0])
    return (
        isinstance(request, PlainRequest)
        and _content_length(request) == 0
        and any(line.startswith(b"upgrade:") and b"websocket" in line for line in lines)
    )


def send_all(connection: socket.socket, data: bytes, timeout_seconds: float) -> None:
    """Send ``data``. Unlike ``socket.sendall``, restart the timeout after each piece that the client reads.

    Raises:
        OSError: The client has disconnected, or has read nothing for ``timeout_seconds``.
    """
    connection.settimeout(timeout_seconds)
    rest = memoryview(data)
    while rest:
        rest = rest[connection.send(rest) :]


def _receive(connection: socket.socket, deadline: Deadline) -> bytes:
    remaining = deadline.remaining()
    if remaining == 0.0:
        raise TimeoutError
    connection.settimeout(remaining)
    return connection.recv(_READ_BYTES)


def _parse_head(head: bytes) -> PlainRequest | PlainResponse:
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    parts = [method, *rest.rsplit(" ", 1)]
    if len(parts) == 3 and (absolute := re.match("https?://[^/?#]+", parts[1], re.IGNORECASE)):
        parts[1] = parts[1][absolute.end() :] or "/"  # RFC 9112, 3.2.2
    if len(parts) != 3 or not parts[0].isalpha() or not parts[1].startswith("/") or not parts[2].startswith("HTTP/1."):
        return text(400, "this is not an HTTP request")
    if not re.fullmatch("[!-~]+", parts[1]):
        return text(400, "a character in the path or the query of this request has to be percent-encoded")
    if len(lines) > _MAX_LINES:
        return text(431, "too many header fields")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if not _FIELD.fullmatch(line):
            return text(400, "a header field cannot be read")
        headers[name.lower()] = value.strip()
    return PlainRequest(parts[0].upper(), parts[1], headers)


def _content_length(request: PlainRequest) -> int | PlainResponse:
    if "transfer-encoding" in request.headers:
        return text(411, "the request has no Content-Length")
    value = request.headers.get("content-length", "0")
    if not (value.isascii() and value.isdigit()):
        return text(400, "the Content-Length is invalid")
    if len(value) > 9 or int(value) > _MAX_BODY_BYTES:
        return text(413, "the body of this request is too long")
    return int(value)
