"""One WebSocket with one codec, owned by one thread: limits, deadlines, and the End that is never forgotten."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque

from websocket import ABNF

from agent.services.connection.dial import dial
from agent.services.connection.framing import BROKEN, Close, Framing, Ping, ProtocolError
from agent.services.connection.keepalive import PING_DUE, PING_SECONDS, PONG_SECONDS, STALL_SECONDS, Keepalive
from agent.services.connection.poll import wait
from agent.services.protocols.codec import Client, End, Event, Message
from agent.system.threads import Deadline

CLOSE_SECONDS = 2.0
"""The most that is waited for the peer's part of the close."""

LINGER_SECONDS, LINGER_BYTES = 0.5, 1024 * 1024
"""How long, and over how much, a peer that broke a rule is still listened to, so that it gets to read why."""

UNSENT_BYTES = 16 * 1024 * 1024
"""More than this waiting to be sent ends the connection: the peer has stopped reading."""

_READ_BYTES, _READS = 65536, 16  # of one round, so that a fast peer does not keep the owner from its mailbox
_PONGS = 16  # answered of one flood: the latest
_WRITE_BYTES = 16384  # one TLS record: so that progress on a slow line is seen before it counts as a stall
_AGAIN = (BlockingIOError, InterruptedError)


def connect(
    codec: Client,
    deadline: Deadline,
    *,
    allow_plaintext: bool = False,
    ping_seconds: float | None = PING_SECONDS,
    pong_seconds: float = PONG_SECONDS,
    url_issuer: str | None = None,
) -> Connection:
    """Dials what the codec's handshake says. Blocks: for a short-lived thread, which hands the result to its owner.

    ``granted_by`` as for ``dial``. Raises ``ServiceError``.
    """
    opening = codec.handshake()
    sock = dial(opening, codec.service, deadline, allow_plaintext=allow_plaintext, url_issuer=url_issuer)
    return Connection(sock, codec, ping_seconds=ping_seconds, pong_seconds=pong_seconds)


class Connection:
    """A conversation with a service: events in, events out, and in the end the codec's last word on how it ended.

    One thread owns it and alone calls it; handing it over to another thread is allowed, sharing it is not (two threads
    on one TLS socket kill it at random). Nothing blocks except ``finish``. The owner waits with ``wait`` (or on
    ``fileno``, ``wants_write``, ``pending`` and ``next_timeout``) and then calls ``pump``. No trouble of the network
    raises: it ends the connection, ``ended`` turns true, and ``pump`` returns what the codec makes of it, once. The
    socket is closed by then. Whoever has had enough calls ``finish`` or ``abort``; both may be called twice.

    ``ping_seconds``: ``None`` where silence of the peer means nothing; see the constants above for the rest.
    """

    def __init__(
        self,
        sock: socket.socket,
        codec: Client,
        *,
        ping_seconds: float | None = PING_SECONDS,
        pong_seconds: float = PONG_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        close_seconds: float = CLOSE_SECONDS,
    ) -> None:
        sock.setblocking(False)
        self.codec = codec
        self.service = codec.service
        self.is_closed = False
        self.close_code: int | None = None
        self.close_reason = ""
        self._sock = sock
        self._vigil = Keepalive(ping_seconds, pong_seconds, stall_seconds)
        self._close_seconds = close_seconds
        self._framing = Framing()
        self._out = bytearray()
        self._queued = self._sent = 0  # bytes since the beginning: they tell whether the End has left
        self._end_at: int | None = None
        self._pongs: deque[bytes] = deque(maxlen=_PONGS)
        self._write_waits_for_read = self._read_waits_for_write = False
        self._close_sent = False
        self._closing: tuple[int, str] | None = None  # how it ends, once the answer to it has left
        self._close_by = 0.0
        self._broken = ""  # why nothing can be sent any more; what has come is read before that is the end
        self._refusal: ProtocolError | None = None  # found behind messages that the owner has not seen yet
        self._lingers: bool | None = None  # None: no need to; True: our side is shut, the peer's end is waited for
        self._passed_over = 0
        self._last: list[Event] = []  # what the codec said of the end, until it is fetched

    def fileno(self) -> int:
        """The socket, for ``poll``; -1 after the end."""
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether to wait for the socket to be writable as well."""
        if self.is_closed or self._broken:
            return False
        return self._read_waits_for_write or (bool(self._out) and not self._write_waits_for_read)

    @property
    def has_pending(self) -> bool:
        """Whether there is something to ``pump`` that no ``poll`` sees: decrypted bytes, or the events of the end."""
        if self.is_closed:
            return bool(self._last)
        if self._refusal is not None or self._broken:
            return True
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the socket has not taken yet; what a lost connection certainly did not deliver."""
        return len(self._out)

    @property
    def is_end_delivered(self) -> bool:
        """Whether the socket has taken the end mark whole; also true where the protocol has none and was told so."""
        return self._end_at is not None and self._sent >= self._end_at

    def send(self, event: Event) -> bool:
        """Encodes an event and queues it; ``False`` where the connection takes nothing any more. Never blocks."""
        if self.is_closed or self._closing is not None or self._close_sent or self._broken:
            return False
        for message in self.codec.send(event):
            self._queue_message(message)
        if isinstance(event, End) and self._end_at is None:
            self._end_at = self._queued
        if len(self._out) > UNSENT_BYTES:
            self._end(BROKEN, "the service has stopped reading")
            return False
        self._write()
        return not (self.is_closed or self._broken)

    def pump(self) -> list[Event]:
        """Writes what can be written, reads what is there, minds the deadlines; returns what it all means."""
        events: list[Event] = []
        if not self.is_closed:
            self._write()
        if not self.is_closed:
            refusal, self._refusal = self._refusal, None
            if refusal is not None:
                self._refuse(refusal)
            self._read(events)
        if not self.is_closed:
            self._mind_deadlines()
        if not self.is_closed:
            self._write()
        return events + self._take_last()

    def next_timeout(self) -> float | None:
        """Seconds until ``pump`` has to be called even if nothing happens; ``None``: never."""
        if self.has_pending:
            return 0.0
        moments = [] if self.is_closed else [moment for moment, _ in self._deadlines()]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def finish(self, deadline: Deadline) -> list[Event]:
        """Ends in good order: the End if it was not given yet, what waits, the close, and the peer's answer to that for
        at most ``CLOSE_SECONDS``. Returns the events that came meanwhile, the codec's last word included.

        Blocks until ``deadline`` at the most and never raises for trouble with the network; see ``end_delivered``.
        """
        if not self.is_closed:
            self.send(End())
        events: list[Event] = []
        while self._out and not self.is_closed and not deadline.is_expired:
            events += self._round(deadline)
        if not self.is_closed and self._closing is None and not self._out:
            self._queue_close((1000).to_bytes(2, "big"))
            answer_by = deadline.within(self._close_seconds)
            self._write()
            while not self.is_closed and not answer_by.is_expired:
                events += self._round(answer_by)
        self._end(*(self._closing or (BROKEN if self._out else 1000, "closed by us")))
        return events + self._take_last()

    def abort(self) -> list[Event]:
        """Drops everything and releases the socket, at once; returns the codec's last word if nobody had it yet."""
        self._end(*(self._closing or (BROKEN, "dropped by us")))
        return self._take_last()

    # --- out

    def _queue_message(self, message: Message) -> None:
        if isinstance(message, str):
            # A lone surrogate (an argument of the command line may hold one) has no place on the wire.
            self._queue(message.encode("utf-8", "replace"), ABNF.OPCODE_TEXT)
        else:
            self._queue(message, ABNF.OPCODE_BINARY)

    def _queue(self, data: bytes, opcode: int) -> None:
        frame = ABNF.create_frame(data, opcode).format()
        if not self._out:
            self._vigil.progressed()
        self._out += frame
        self._queued += len(frame)

    def _queue_close(self, payload: bytes) -> None:
        if not self._close_sent:
            self._queue(payload, ABNF.OPCODE_CLOSE)
            self._close_sent = True

    def _write(self) -> None:
        while not self._broken:
            while self._pongs and len(self._out) < _WRITE_BYTES and not self._close_sent:
                self._queue(self._pongs.popleft(), ABNF.OPCODE_PONG)
            if not self._out:
                break
            # The buffer only grows at its end, so a repeated TLS write begins with the same bytes, as it has to.
            try:
                sent = self._sock.send(self._out[:_WRITE_BYTES])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, *_AGAIN) as error:
                self._write_waits_for_read = isinstance(error, ssl.SSLWantReadError)
                return
            except (OSError, ValueError) as error:
                self._broken = _sentence(error)
                break
            self._write_waits_for_read = False
            del self._out[:sent]
            self._sent += sent
            self._vigil.progressed()
        if self._closing is None or self._lingers:
            return
        if self._lingers is None or self._broken:
            self._end(*self._closing)
            return
        # To close a socket while the peer still sends resets it, and the peer may lose our close frame.
        self._lingers, self._close_by = True, time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    # --- in

    def _read(self, events: list[Event]) -> None:
        for _ in range(_READS):
            if self._refusal is not None:
                return
            try:
                data = self._sock.recv(_READ_BYTES)
            except ssl.SSLWantWriteError:
                self._read_waits_for_write = True
                return
            except (ssl.SSLWantReadError, *_AGAIN):
                self._read_waits_for_write = False
                if self._broken:
                    self._end(*(self._closing or (BROKEN, self._broken)))
                return
            except ssl.SSLZeroReturnError:
                data = b""
            except (OSError, ValueError) as error:
                self._end(BROKEN, _sentence(error))
                return
            self._read_waits_for_write = False
            if not data:
                code, reason = self._closing or (BROKEN, self._broken or "the service hung up without a word")
                self._end(code, reason)
                return
            self._vigil.received(len(data))
            if self._closing is None:
                self._understand(data, events)
                continue
            self._passed_over += len(data)
            if self._passed_over > LINGER_BYTES:
                self._end(*self._closing)
                return

    def _understand(self, data: bytes, events: list[Event]) -> None:
        frames = self._framing.frames
        self._framing.feed(data)
        try:
            while self._closing is None and (found := self._framing.next()) is not None:
                if isinstance(found, Ping):
                    self._pongs.append(found.data)  # in a flood only the latest are answered (RFC 6455, 5.5.3)
                elif isinstance(found, Close):
                    self._queue_close(found.echo)
                    self._close(found.code, found.reason)
                else:
                    events += self.codec.receive(found)
        except ProtocolError as error:
            if events:
                self._refusal = error  # what came before it is answered first
            else:
                self._refuse(error)
        self._vigil.half_way(self._framing.partial, anew=self._framing.frames != frames)

    # --- the end

    def _refuse(self, error: ProtocolError) -> None:
        self._queue_close(error.code.to_bytes(2, "big") + error.reason.encode())
        self._close(error.code, error.reason)
        self._lingers = False

    def _close(self, code: int, reason: str) -> None:
        """Nothing more is read; the end comes as soon as what waits has left."""
        self._closing = (code, reason)
        self._close_by = time.monotonic() + self._close_seconds

    def _end(self, code: int, reason: str) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.close_code, self.close_reason = code, reason
        with contextlib.suppress(OSError):
            self._sock.close()
        self._last = self.codec.closed(code, reason)

    def _take_last(self) -> list[Event]:
        last, self._last = self._last, []
        return last

    def _deadlines(self) -> list[tuple[float, str]]:
        if self._closing is not None:
            return [(self._close_by, "")]
        return self._vigil.moments(sending=bool(self._out))

    def _mind_deadlines(self) -> None:
        now = time.monotonic()
        for moment, reason in self._deadlines():
            if moment > now:
                continue
            if reason != PING_DUE:
                self._end(*(self._closing or (BROKEN, reason)))
                return
            self._vigil.pinged()
            if not self._close_sent:
                self._queue(b"", ABNF.OPCODE_PING)

    def _round(self, deadline: Deadline) -> list[Event]:
        wait(self, (), deadline.remaining())
        return self.pump()


def _sentence(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return f"the connection broke: {reason}"
