"""Parses and encodes the messages of JSON-RPC 2.0 (https://www.jsonrpc.org/specification)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from agent.system.json_text import json_type, parse_json
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

MAX_ID_CHARACTERS = 200
OLD_KEYS = frozenset({"say", "begin", "piece", "complete", "hush", "status", "volume", "mute", "microphone"})
"""The keys of requests in the format before version 0.2, without ``method``. The error for such a request shows the new
format."""

RequestId = str | int | float | None


class RpcError(Exception):
    """An error response.

    Args:
        code: A standard code, or one of ``agent.frontends.api.errors``.
        message: One sentence: what failed, why and how to fix it.
        name: The name of the code, for programs; ``data.name`` of the response. ``None`` for a standard code.
    """

    def __init__(self, code: int, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.name = code, message, name


class Request(NamedTuple):
    """A request. Immutable. ``is_notification``: it has no id and gets no response."""

    method: str
    params: Mapping[str, object]
    id: RequestId = None
    is_notification: bool = False


class InvalidRequest(NamedTuple):
    """The error for the sender of a message that is not a valid request. Immutable."""

    error: RpcError
    id: RequestId = None


def parse_request(message: bytes) -> Request | InvalidRequest:
    """Parse one request. Never raises."""
    if message.lstrip()[:1] == b"[":
        return _invalid("batches are not supported: send one request object in each line")
    request = parse_json(message)
    if isinstance(request, str):
        code = PARSE_ERROR if request == "it is not JSON" else INVALID_REQUEST
        return InvalidRequest(RpcError(code, f"a request is one JSON object, but {request}"))
    if "method" not in request and (old := sorted(OLD_KEYS & request.keys())):
        return _invalid(
            f"this form of {old[0]} is no longer supported: send"
            ' {"jsonrpc": "2.0", "id": 1, "method": METHOD, "params": {...}} (see docs/api.md)'
        )
    id = request.get("id")
    if isinstance(id, bool) or not (id is None or isinstance(id, str | int | float)):
        return _invalid(f"id is text, a number or null, not {json_type(id)}")
    if isinstance(id, str) and len(id) > MAX_ID_CHARACTERS:
        return _invalid(f"id has at most {MAX_ID_CHARACTERS} characters")
    if request.get("jsonrpc") != "2.0":
        return _invalid('jsonrpc has to be "2.0"', id)
    method, params = request.get("method"), request.get("params", {})
    if not isinstance(method, str):
        return _invalid("method is the name of a method", id)
    if unknown := sorted(request.keys() - {"jsonrpc", "id", "method", "params"}):
        return _invalid(f"a request has no member {escape(unknown[0], 40)}: parameters belong into params", id)
    if not isinstance(params, dict):
        error = RpcError(INVALID_PARAMS, f"params is an object with named parameters, not {json_type(params)}")
        return InvalidRequest(error, id)
    return Request(method, params, id, "id" not in request)


def encode_result(id: RequestId, result: Mapping[str, object]) -> bytes:
    return _encode({"jsonrpc": "2.0", "id": id, "result": result})


def encode_error(id: RequestId, error: RpcError) -> bytes:
    body: dict[str, object] = {"code": error.code, "message": error.message}
    if error.name is not None:
        body["data"] = {"name": error.name}
    return _encode({"jsonrpc": "2.0", "id": id, "error": body})


def encode_notification(method: str, params: Mapping[str, object]) -> bytes:
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def _encode(message: Mapping[str, object]) -> bytes:
    """Return the message as one line, without a line end.

    It is pure ASCII: it has the same bytes in every common encoding, and contains no Unicode line break.
    """
    return json.dumps(message, allow_nan=False).encode("ascii")


def _invalid(message: str, id: RequestId = None) -> InvalidRequest:
    return InvalidRequest(RpcError(INVALID_REQUEST, message), id)
