"""From bytes to messages, as a client reads them: every limit and every rule of the wire, no socket and no clock."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from websocket import ABNF, WebSocketException, frame_buffer

from agent.services.protocols.codec import Message

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""The longest frame; a longer one is refused when its length is read, before any of it is kept."""

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""The longest message: the sum of its fragments."""

MAX_MESSAGE_FRAGMENTS = 1 << 17
"""The most fragments of one message, so that empty ones cannot go on without end."""

PROTOCOL_ERROR, INVALID_TEXT, TOO_BIG, NO_CODE, BROKEN = 1002, 1007, 1009, 1005, 1006


class ProtocolError(Exception):
    """The peer broke a rule (RFC 6455, 7.4.1): ``code`` is what the connection is closed with, ``reason`` says why."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code, self.reason = code, reason


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks whether we are there; its bytes go back in a pong."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer's close frame. ``code`` 1005: it gave none. ``echo``: the payload to answer with."""

    code: int
    reason: str
    echo: bytes


class _Starved(Exception):
    """The bytes that are there do not hold what is asked for next; the frame goes on where it was, later."""


class Framing:
    """Bytes of a server in, whole messages, pings and the close out.

    ``feed`` takes bytes cut anywhere; ``next`` gives what they completed, ``None`` where more is needed, and raises
    ``Refused`` once, after which the connection has to be closed. Memory is bounded by the limits above. Text is
    checked strictly, and in a message of many frames with each of them.
    """

    def __init__(self) -> None:
        self.frames = 0  # complete ones, so far
        self._bytes = bytearray()
        self._frames = _Frames(self._take, skip_utf8_validation=True)
        self._wanted = 1
        self._opcode = 0  # of the message whose fragments are being collected; 0: none
        self._fragments = bytearray()
        self._count = 0
        self._text = codecs.getincrementaldecoder("utf-8")("strict")

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and is not complete."""
        return bool(self._bytes) or not self._frames.fresh

    def feed(self, data: bytes) -> None:
        self._bytes += data

    def next(self) -> Message | Ping | Close | None:
        while len(self._bytes) >= self._wanted:
            self._frames.collected = len(self._fragments) if self._opcode else None
            try:
                frame = self._frames.recv_frame()
            except _Starved:
                return None
            except WebSocketException as error:  # the library's own rules: close codes, lengths of control frames
                raise ProtocolError(PROTOCOL_ERROR, "a frame that the protocol does not allow") from error
            self._wanted = 1
            self.frames += 1
            found = self._read(frame)
            if found is not None:
                return found
        return None

    def _take(self, size: int) -> bytes:
        # All or nothing: the library keeps what it gets in pieces and counts them again at each try.
        if len(self._bytes) < size:
            self._wanted = size
            raise _Starved
        data = bytes(self._bytes[:size])
        del self._bytes[:size]
        return data

    def _read(self, frame: ABNF) -> Message | Ping | Close | None:
        data = frame.data.encode() if isinstance(frame.data, str) else frame.data
        if frame.opcode == ABNF.OPCODE_PING:
            return Ping(data)
        if frame.opcode == ABNF.OPCODE_PONG:
            return None  # whether one was asked for or not: that something came is all that counts
        if frame.opcode == ABNF.OPCODE_CLOSE:
            return _close(data)
        if frame.fin and not self._opcode:
            return _decoded(data) if frame.opcode == ABNF.OPCODE_TEXT else data
        return self._collect(frame, data)

    def _collect(self, frame: ABNF, data: bytes) -> Message | None:
        self._opcode = self._opcode or frame.opcode
        self._count += 1
        if self._count > MAX_MESSAGE_FRAGMENTS:
            raise ProtocolError(TOO_BIG, "too many fragments")
        self._fragments += data
        text = self._opcode == ABNF.OPCODE_TEXT
        if text:
            try:
                self._text.decode(data, final=bool(frame.fin))
            except UnicodeDecodeError as error:
                raise ProtocolError(INVALID_TEXT, "text that is not UTF-8") from error
        if not frame.fin:
            return None
        whole = bytes(self._fragments)
        self._opcode, self._count, self._fragments = 0, 0, bytearray()
        self._text.reset()
        return whole.decode() if text else whole


class _Frames(frame_buffer):
    """The library's frame reader, which resumes where it starved, with the rules checked before the payload is read.

    ``collected``: bytes of the fragmented message that is on its way, ``None`` where there is none.
    """

    collected: int | None = None

    @property
    def fresh(self) -> bool:
        return self.header is None and not self.recv_buffer

    def recv_length(self) -> None:
        super().recv_length()
        if self.header is None or self.length is None:
            return
        fin, rsv1, rsv2, rsv3, opcode, masked, _ = self.header
        if rsv1 or rsv2 or rsv3:
            raise ProtocolError(PROTOCOL_ERROR, "a reserved bit is set, and no extension was agreed on")
        if opcode not in ABNF.OPCODES:
            raise ProtocolError(PROTOCOL_ERROR, "an unknown kind of frame")
        if masked:
            raise ProtocolError(PROTOCOL_ERROR, "a server must not mask")
        if opcode >= ABNF.OPCODE_CLOSE:
            if not fin or self.length > 125:
                raise ProtocolError(PROTOCOL_ERROR, "a control frame that is fragmented or too long")
            return
        if (opcode == ABNF.OPCODE_CONT) != (self.collected is not None):
            raise ProtocolError(PROTOCOL_ERROR, "a fragment out of order")
        if self.length > MAX_FRAME_BYTES:
            raise ProtocolError(TOO_BIG, f"a frame of more than {MAX_FRAME_BYTES} bytes")
        if (self.collected or 0) + self.length > MAX_MESSAGE_BYTES:
            raise ProtocolError(TOO_BIG, f"a message of more than {MAX_MESSAGE_BYTES} bytes")


def _close(data: bytes) -> Close:
    if not data:
        return Close(NO_CODE, "", b"")
    return Close(int.from_bytes(data[:2], "big"), _decoded(data[2:]), data[:2])


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(INVALID_TEXT, "text that is not UTF-8") from error
