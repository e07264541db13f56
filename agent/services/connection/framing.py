"""Messages in the bytes of a WebSocket connection, with all limits, and the interface of every framing."""

from __future__ import annotations

import codecs
from typing import Protocol

from agent.services.connection.websocket_client import ABNF, WebSocketException
from agent.services.protocols.codec import Message
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Longest frame. A longer one is refused when its length is read: websocket-client 1.9.2 itself has no limit and
buffers a frame of any declared length (measured: 300 MiB of a frame that declared 1 TiB)."""

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Longest message: the sum of its fragments."""

MAX_MESSAGE_FRAGMENTS = 1 << 17
"""Most fragments of one message, which also bounds a message of empty fragments."""

PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG, NO_CODE, CONNECTION_LOST = 1002, 1007, 1009, 1005, 1006

# Globals of this module: an attribute of the class ABNF costs twice the time, and each frame needs several.
_OPCODES = frozenset(ABNF.OPCODES)
_CONTINUATION, _TEXT, _CLOSE = ABNF.OPCODE_CONT, ABNF.OPCODE_TEXT, ABNF.OPCODE_CLOSE
_PING, _PONG = ABNF.OPCODE_PING, ABNF.OPCODE_PONG


class ProtocolError(Exception):
    """The peer violated the protocol (RFC 6455, 7.4.1).

    Args:
        code: Close code to send.
        reason: Close reason to send.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


@distinct
class Ping(NamedTuple):
    """A ping; its data belongs in the pong. Immutable."""

    data: bytes


@distinct
class Pong(NamedTuple):
    """A pong with the data of its ping. Immutable."""

    data: bytes


@distinct
class Close(NamedTuple):
    """The peer's close frame. ``code`` is 1005 if it has none; ``echo`` is the payload of the answer. Immutable."""

    code: int
    reason: str
    echo: bytes


class Framing(Protocol):
    """Converts the bytes of a connection to messages and back. Not thread-safe; its connection owns it.

    A framing without pings, pongs or a close frame encodes them to nothing.
    """

    frame_count: int

    @property
    def has_partial_frame(self) -> bool: ...
    def feed(self, data: bytes) -> None: ...
    def next(self) -> Message | Ping | Pong | Close | None: ...
    def encode(self, message: Message) -> bytes: ...
    def ping(self, data: bytes) -> bytes: ...
    def pong(self, data: bytes) -> bytes: ...
    def close(self, payload: bytes) -> bytes: ...
    def end(self) -> tuple[int, str]:
        """Return the close code and the reason for a connection whose bytes end at this point."""
        ...


class WebSocketFraming:
    """Converts the bytes of a server to messages, pings, pongs and the close. Not thread-safe; its connection owns it.

    Memory is bounded by the limits above. Text is decoded strictly, in a fragmented message with each fragment:
    websocket-client 1.9.2 accepts a truncated UTF-8 sequence (Autobahn cases 6.6.1 to 6.14.7), and its check in pure
    Python takes 3/4 of the CPU time of a JSON service (measured, 24 kHz audio).
    """

    def __init__(self) -> None:
        self.frame_count = 0  # complete frames so far
        self._buffer = bytearray()
        self._opcode = 0  # of the fragmented message in progress; 0: none
        self._fragments = bytearray()
        self._fragment_count = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")

    @property
    def has_partial_frame(self) -> bool:
        return bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Append received bytes, which may end anywhere in a frame."""
        self._buffer += data

    def encode(self, message: Message) -> bytes:
        """Return the frame of a message."""
        if isinstance(message, str):
            # A lone surrogate, which a command line argument may contain, cannot be encoded.
            return _frame(message.encode("utf-8", "replace"), _TEXT)
        return _frame(message, ABNF.OPCODE_BINARY)

    def ping(self, data: bytes) -> bytes:
        return _frame(data, _PING)

    def pong(self, data: bytes) -> bytes:
        return _frame(data, _PONG)

    def close(self, payload: bytes) -> bytes:
        return _frame(payload, _CLOSE)

    def end(self) -> tuple[int, str]:
        return CONNECTION_LOST, "the service closed the connection without a close frame"

    def next(self) -> Message | Ping | Pong | Close | None:
        """Return the next message, ping, pong or close, or ``None`` if more bytes are needed.

        Raises:
            ProtocolError: Once; the connection must be closed then.
        """
        while self._buffer and (frame := self._next_frame()) is not None:
            self.frame_count += 1
            result = self._interpret(*frame)
            if result is not None:
                return result
        return None

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        """Return the first header byte's final bit, the opcode and the payload of the next complete frame."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, length = buffer[0], buffer[1] & 0x7F
        start = 2
        if length > 125:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        self._check_header(first, buffer[1], length)
        if len(buffer) < start + length:
            return None
        with memoryview(buffer) as view:
            data = bytes(view[start : start + length])  # one copy; a slice of the bytearray would be another one
        del buffer[: start + length]
        opcode = first & 0x0F
        if opcode == _CLOSE:
            try:
                ABNF(1, 0, 0, 0, opcode, 0, data).validate(skip_utf8_validation=True)  # the library's table of codes
            except WebSocketException as error:
                raise ProtocolError(PROTOCOL_ERROR, "a frame that the protocol does not allow") from error
        return first >> 7, opcode, data

    def _check_header(self, first: int, second: int, length: int) -> None:
        """Check the two header bytes and the payload length before any of the payload is kept."""
        opcode = first & 0x0F
        if first & 0x70:
            raise ProtocolError(PROTOCOL_ERROR, "a reserved bit is set, and no extension was negotiated")
        if opcode not in _OPCODES:
            raise ProtocolError(PROTOCOL_ERROR, "an unknown opcode")
        if second & 0x80:
            raise ProtocolError(PROTOCOL_ERROR, "a server must not mask")
        if opcode >= _CLOSE:
            if not first & 0x80 or length > 125:
                raise ProtocolError(PROTOCOL_ERROR, "a control frame that is fragmented or too long")
            return
        if (opcode == _CONTINUATION) != bool(self._opcode):
            raise ProtocolError(PROTOCOL_ERROR, "a fragment out of order")
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(TOO_BIG, f"a frame of more than {MAX_FRAME_BYTES} bytes")
        if len(self._fragments) + length > MAX_MESSAGE_BYTES:
            raise ProtocolError(TOO_BIG, f"a message of more than {MAX_MESSAGE_BYTES} bytes")

    def _interpret(self, is_final: int, opcode: int, data: bytes) -> Message | Ping | Pong | Close | None:
        if opcode < _CLOSE:
            if is_final and not self._opcode:
                return _decode(data) if opcode == _TEXT else data
            return self._collect(is_final, opcode, data)
        if opcode == _PING:
            return Ping(data)
        if opcode == _PONG:
            return Pong(data)
        if not data:
            return Close(NO_CODE, "", b"")
        return Close(int.from_bytes(data[:2], "big"), _decode(data[2:]), data[:2])

    def _collect(self, is_final: int, opcode: int, data: bytes) -> Message | None:
        self._opcode = self._opcode or opcode
        self._fragment_count += 1
        if self._fragment_count > MAX_MESSAGE_FRAGMENTS:
            raise ProtocolError(TOO_BIG, "too many fragments")
        self._fragments += data
        is_text = self._opcode == _TEXT
        if is_text:
            try:
                self._decoder.decode(data, final=bool(is_final))
            except UnicodeDecodeError as error:
                raise ProtocolError(INVALID_TEXT, "text that is not UTF-8") from error
        if not is_final:
            return None
        message = bytes(self._fragments)
        self._opcode, self._fragment_count, self._fragments = 0, 0, bytearray()
        self._decoder.reset()
        return message.decode() if is_text else message


def _frame(data: bytes, opcode: int) -> bytes:
    frame: bytes = ABNF.create_frame(data, opcode).format()
    return frame


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(INVALID_TEXT, "text that is not UTF-8") from error
