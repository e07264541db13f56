"""Encodes and decodes WebSocket frames within size limits, and defines the interface of all framings."""

from __future__ import annotations

import codecs
from typing import Protocol

from agent.services.connection.websocket_client import ABNF, WebSocketException
from agent.services.protocols.codec import Message
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Longest payload of a frame. A longer frame is refused as soon as its header is read. websocket-client 1.9.2 has no
limit and buffers a frame of any declared length (measured: 300 MiB of a frame that declared 1 TiB)."""

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Longest message: the sum of its fragments."""

MAX_MESSAGE_FRAGMENTS = 1 << 17
"""Most fragments of one message. The limit also ends a message that consists of empty fragments."""

PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG, NO_CODE, CONNECTION_LOST = 1002, 1007, 1009, 1005, 1006

# Copied to module globals: access to an attribute of ABNF takes twice as long, and each frame needs several of them.
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
    """A received ping; the pong must repeat its data. Immutable."""

    data: bytes


@distinct
class Pong(NamedTuple):
    """A received pong; its data is that of the ping that it answers. Immutable."""

    data: bytes


@distinct
class Close(NamedTuple):
    """The peer's close frame. Immutable.

    ``code`` is 1005 if the frame has none. ``echo`` is the payload of the close frame to send in response.
    """

    code: int
    reason: str
    echo: bytes


class Framing(Protocol):
    """Converts the bytes of a connection to messages and back. Not thread-safe; its connection owns it.

    If a protocol has no pings, pongs or close frames, its framing encodes them as empty bytes. ``frame_count`` is the
    number of complete frames received so far.
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
        """Return the close code and reason that apply if the peer closes the connection at this point."""
        ...


class WebSocketFraming:
    """The client side of WebSocket framing. Not thread-safe; its connection owns it.

    The limits of this module bound the memory. Text is decoded strictly; in a fragmented message, each fragment is
    checked when it arrives. The check of websocket-client 1.9.2 is not used: it accepts a truncated UTF-8 sequence
    (Autobahn cases 6.6.1 to 6.14.7), and in pure Python it takes 3/4 of the CPU time of a JSON service (measured,
    24 kHz audio).
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
            # "replace": a lone surrogate, which a command line argument may contain, cannot be encoded.
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
            ProtocolError: The peer violated the protocol. Close the connection and do not call ``next`` again.
        """
        while self._buffer and (frame := self._next_frame()) is not None:
            self.frame_count += 1
            result = self._interpret(*frame)
            if result is not None:
                return result
        return None

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        """Return the FIN bit, the opcode and the payload of the next frame, or ``None`` if it is incomplete."""
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
            data = bytes(view[start : start + length])  # a slice of the bytearray would be a second copy
        del buffer[: start + length]
        opcode = first & 0x0F
        if opcode == _CLOSE:
            try:
                ABNF(1, 0, 0, 0, opcode, 0, data).validate(skip_utf8_validation=True)  # checks the close code
            except WebSocketException as error:
                raise ProtocolError(PROTOCOL_ERROR, "a frame that the protocol does not allow") from error
        return first >> 7, opcode, data

    def _check_header(self, first: int, second: int, length: int) -> None:
        """Check the two header bytes and the payload length before the payload arrives."""
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
