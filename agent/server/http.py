"""The server's HTTP side beside WebSocket upgrades: small answers to GET, and one bounded reader for POST."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.server.recordings import Exports
from agent.services.protocols.handshake import header, read_target, same_key
from agent.system.threads import Deadline

_HEAD_BYTES = 16384
_LINES = 100
_BODY_BYTES = 65536
_PIECE_BYTES = 4096
_EXPORT = re.compile(r"/export/(transcript|audio)/([0-9A-Za-z_-]{1,64})")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_REASONS = {
    200: "OK", 201: "Created", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 411: "Length Required", 413: "Content Too Large", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer. ``headers`` name the type of ``body`` at least."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False, default=b"")

    @property
    def reason(self) -> str:
        return _REASONS.get(self.status, "Answer")

    def encoded(self) -> bytes:
        fields = {**self.headers, "Content-Length": str(len(self.body)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {self.status} {self.reason}\r\n{head}\r\n".encode("latin-1", "replace") + self.body


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, without its body: none of the routes here wants one. Headers have lower-case names."""

    method: str
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def text(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Answer:
    """One sentence, in plain text."""
    return Answer(status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, sentence.encode())


def as_json(status: int, body: object) -> Answer:
    """``body`` in JSON."""
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(body).encode())


def get(target: str, headers: Mapping[str, str], exports: Exports, key: str | None) -> Answer | None:
    """The answer to a GET, or ``None`` for a path that is not one of HTTP's here.

    The routes, their texts and both headers for the key (``key``, later ``Authorization``) are those of the
    transcription service.
    """
    found = read_target(target)
    path = found[0] if found else ""
    if path == "/health":
        return as_json(200, {"status": "ok"})
    route = _EXPORT.fullmatch(path)
    if route is None:
        return text(404, "there is nothing at this path") if path.startswith("/export") else None
    refused = _refusal(headers, key)
    if refused is not None:
        return refused
    kind, export_id = route[1], route[2]
    recording = exports.find(export_id)
    if kind == "transcript":
        transcript = recording.transcript() if recording else None
        if transcript is None:
            return text(404, "Transcription ID not found")
        return Answer(200, {"Content-Type": "application/json"}, transcript.encode())
    wav = recording.wav() if recording else None
    if wav is None:
        return as_json(404, {"error": "File not found"})
    return Answer(
        200, {"Content-Type": "audio/wav", "Content-Disposition": f"attachment; filename={export_id}.wav"}, wav
    )


def _refusal(headers: Mapping[str, str], key: str | None) -> Answer | None:
    if key is None:
        return None
    authorization = header(headers, "Authorization")
    given = header(headers, "key") if authorization is None else authorization.removeprefix("Bearer ")
    if same_key(given, key):
        return None
    return as_json(401, "Unauthorized") if authorization is None else as_json(401, {"detail": "Unauthorized"})


def base_url(headers: Mapping[str, str], here: tuple[str, int]) -> str:
    """Where the client that sent ``headers`` reaches this server; its own name for it, if that is one."""
    host = header(headers, "Host") or ""
    name = f"[{here[0]}]" if ":" in here[0] else here[0]
    return f"http://{host if _HOST.fullmatch(host) else f'{name}:{here[1]}'}"


def read_request(connection: socket.socket, deadline: Deadline) -> Request | Answer | None:
    """One request from a socket, or the answer to what is none; ``None``: the client has gone, or sent nothing in time.

    Reads its body and forgets it. At most 16 KiB and 100 lines of head and 64 KiB of body, all of it before
    ``deadline``.
    """
    head = b""
    try:
        while b"\r\n\r\n" not in head:
            if len(head) > _HEAD_BYTES:
                return text(431, "the head of this request is too long")
            more = _receive(connection, deadline)
            if not more:
                return None
            head += more
        head, _, body = head.partition(b"\r\n\r\n")
        request = _parsed(head)
        if not isinstance(request, Request):
            return request
        wanted = _length(request)
        if not isinstance(wanted, int):
            return wanted
        while len(body) < wanted:
            more = _receive(connection, deadline)
            if not more:
                return None
            body += more
    except TimeoutError:
        return text(408, "the request did not come in time")
    except OSError:
        return None
    return request


def _receive(connection: socket.socket, deadline: Deadline) -> bytes:
    remaining = deadline.remaining()
    if remaining == 0.0:
        raise TimeoutError
    connection.settimeout(remaining)
    return connection.recv(_PIECE_BYTES)


def _parsed(head: bytes) -> Request | Answer:
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) != 3 or not parts[0].isalpha() or not parts[1].startswith("/") or not parts[2].startswith("HTTP/1."):
        return text(400, "this is no HTTP request")
    if len(lines) > _LINES:
        return text(431, "too many header fields")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            return text(400, "a header field cannot be read")
        headers[name.lower()] = value.strip()
    return Request(parts[0].upper(), parts[1], headers)


def _length(request: Request) -> int | Answer:
    if "transfer-encoding" in request.headers:
        return text(411, "say how long the body is")
    said = request.headers.get("content-length", "0")
    if not (said.isascii() and said.isdigit()):
        return text(400, "the length of the body cannot be read")
    if len(said) > 9 or int(said) > _BODY_BYTES:
        return text(413, "no request here has so long a body")
    return int(said)
