"""Encodes and decodes Wyoming events: a JSON line, data as JSON, and a payload. The line contains the two lengths."""

from __future__ import annotations

from collections.abc import Mapping

from agent.services.protocols.parsing import dump_json
from agent.system.distinct import distinct
from agent.system.json_text import json_type, parse_json
from agent.system.named_tuple import NamedTuple

MAX_HEADER_BYTES = 64 * 1024
"""Longest JSON line. The package ``wyoming`` reads the line with asyncio's ``readline``, which has the same limit."""

MAX_DATA_BYTES = 1024 * 1024
"""Longest data. For comparison: an ``info`` with hundreds of voices has some 100 KiB."""

MAX_PAYLOAD_BYTES = 1024 * 1024
"""Longest payload. For comparison: the servers send audio in payloads of 2 to 64 KiB."""

VERSION = "1.10.2"
"""The version of the package ``wyoming`` that defines these events. It is sent in each JSON line."""


class EventError(ValueError):
    """The bytes are not an event, or the event exceeds a limit. The text is a clause that fits after "because"."""


@distinct
class WyomingEvent(NamedTuple):
    """One decoded event. Immutable."""

    type: str
    data: Mapping[str, object]
    payload: bytes

    def __repr__(self) -> str:
        return f"WyomingEvent({self.type!r}, {self.data!r}, {len(self.payload)} bytes)"


def encode_event(type: str, data: Mapping[str, object] | None = None, payload: bytes = b"") -> bytes:
    """Encode one event (``wyoming/event.py``, ``async_write_event``)."""
    encoded = dump_json(data).encode("utf-8", "replace") if data else b""
    header: dict[str, object] = {"type": type, "version": VERSION}
    if encoded:
        header["data_length"] = len(encoded)
    if payload:
        header["payload_length"] = len(payload)
    return b"%s\n%s%s" % (dump_json(header).encode(), encoded, payload)


def decode_event(message: bytes) -> WyomingEvent:
    """Decode the bytes of one whole event, as ``EventBuffer.next`` returns them.

    Older versions of the protocol put the data into the JSON line. The fields of the line and of the data are merged.

    Raises:
        EventError: The bytes are not one whole event.
    """
    line, _, rest = message.partition(b"\n")
    header = _parse_header(line)
    data_length, payload_length = _length(header, "data_length"), _length(header, "payload_length")
    if len(rest) != data_length + payload_length:
        raise EventError("it is not one whole event")
    type_, fields = header.get("type"), header.get("data")
    if not isinstance(type_, str) or not type_:
        raise EventError("its type is missing")
    data: dict[str, object] = dict(fields) if isinstance(fields, dict) else {}
    if data_length:
        more = parse_json(rest[:data_length])
        if isinstance(more, str):
            raise EventError(f"its data is no JSON object ({more})")
        data.update(more)
    return WyomingEvent(type_, data, rest[data_length:])


class EventBuffer:
    """Splits received bytes into events and enforces the limits. Not thread-safe; owned by its connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # length of the beginning that contains no line break
        self._length: int | None = None  # of the first event; known once its JSON line is complete

    @property
    def has_partial_event(self) -> bool:
        """Whether bytes of an incomplete event are held."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Append received bytes, which may end anywhere in an event."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Return the bytes of the next complete event, or ``None`` if more bytes are needed.

        Raises:
            EventError: The bytes are not an event, or exceed a limit. The connection cannot be used any more.
        """
        if self._length is None:
            end = self._buffer.find(b"\n", self._searched, MAX_HEADER_BYTES + 1)
            if end < 0:
                self._searched = min(len(self._buffer), MAX_HEADER_BYTES)
                if len(self._buffer) > MAX_HEADER_BYTES:
                    raise EventError(f"its line is longer than {MAX_HEADER_BYTES} bytes")
                return None
            header = _parse_header(bytes(self._buffer[:end]))
            data_length, payload_length = _length(header, "data_length"), _length(header, "payload_length")
            if data_length > MAX_DATA_BYTES:
                raise EventError(f"its data has more than {MAX_DATA_BYTES} bytes")
            if payload_length > MAX_PAYLOAD_BYTES:
                raise EventError(f"its payload has more than {MAX_PAYLOAD_BYTES} bytes")
            self._length = end + 1 + data_length + payload_length
        if len(self._buffer) < self._length:
            return None
        with memoryview(self._buffer) as view:
            message = bytes(view[: self._length])  # a slice of the bytearray would be a second copy
        del self._buffer[: self._length]
        self._searched, self._length = 0, None
        return message


def _parse_header(line: bytes) -> dict[str, object]:
    header = parse_json(line)
    if isinstance(header, str):
        raise EventError(f"its line is no JSON object ({header})")
    return header


def _length(header: Mapping[str, object], name: str) -> int:
    value = header.get(name)
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise EventError(f"its {name} is {json_type(value)}")
    if value < 0:
        raise EventError(f"its {name} is negative")
    return value
