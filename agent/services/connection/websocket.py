"""Runs one connection with its codec, over WebSocket or TCP, from the first message to the closing handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping

from agent.services.connection.dial import CONNECT_SECONDS, dial
from agent.services.connection.framing import (
    CONNECTION_LOST,
    Close,
    Framing,
    Ping,
    Pong,
    ProtocolError,
    WebSocketFraming,
)
from agent.services.connection.keepalive import PING_DUE, PING_SECONDS, PONG_SECONDS, STALL_SECONDS, Keepalive
from agent.services.connection.poll import wait
from agent.services.protocols.codec import Client, End, Event
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

MAX_LINGER_BYTES = 1024 * 1024
"""Most data that is read and discarded after the connection began to close, see ``linger_seconds``."""

MAX_UNSENT_BYTES = 16 * 1024 * 1024
"""The connection ends if more data than this is unsent, because the peer has stopped reading."""

_READ_BYTES = 65536
"""Limit of one ``pump``; its last read may exceed it. Because of the limit, a fast peer does not keep the owner from
its mailbox, and the messages fit into memory that is reused. New pages take as long as all other work on a message."""
_MAX_PONGS = 16  # if more pings wait for an answer, only the latest are answered
_WRITE_BYTES = 16384  # one TLS record: small writes show progress on a slow network before the stall timeout
_WOULD_BLOCK = (BlockingIOError, InterruptedError)


class ConnectionTiming(NamedTuple):
    """Durations of a connection, in seconds. Immutable.

    Args:
        connect_seconds: See ``CONNECT_SECONDS``. Only ``connect`` uses it.
        ping_seconds: A ping is sent after this time without received data; ``None``: no pings.
        pong_seconds: The connection is lost after this time without received data after a ping.
        stall_seconds: See ``STALL_SECONDS``.
        close_seconds: Limit of the wait for the peer's close frame. The deadline of ``finish`` may shorten it.
        linger_seconds: How long data is read and discarded after a close for a protocol error. If a socket is closed
            while data is unread, the kernel sends RST, and the peer may lose the close frame with the reason.
    """

    connect_seconds: float = CONNECT_SECONDS
    ping_seconds: float | None = PING_SECONDS
    pong_seconds: float = PONG_SECONDS
    stall_seconds: float = STALL_SECONDS
    close_seconds: float = 2.0
    linger_seconds: float = 0.5


DEFAULT_TIMING = ConnectionTiming()


def connect(
    codec: Client,
    deadline: Deadline,
    *,
    allow_plaintext: bool = False,
    timing: ConnectionTiming = DEFAULT_TIMING,
    url_issuer: str | None = None,
    on_response: Callable[[Mapping[str, str]], None] | None = None,
) -> Connection:
    """Dial the URL of the codec's handshake. Blocks, so call it in a dialing thread.

    Args:
        codec: The client side of the protocol.
        deadline: Limit for DNS, TCP, TLS and upgrade together.
        allow_plaintext: As for ``dial``.
        timing: As for ``Connection``.
        url_issuer: As for ``dial``.
        on_response: As for ``dial``.

    Raises:
        ServiceError: The service is unreachable or refuses the connection.
    """
    sock = dial(
        codec.handshake(),
        codec.service,
        deadline,
        allow_plaintext=allow_plaintext,
        url_issuer=url_issuer,
        connect_seconds=timing.connect_seconds,
        on_response=on_response,
    )
    return Connection(sock, codec, timing)


class Connection:
    """A connection to a service: encodes and sends events, and decodes the received events.

    Not thread-safe; owned by one thread, which may hand it over to another thread. Two threads must not use it at the
    same time: CPython releases the GIL in SSL_read and SSL_write, and OpenSSL forbids concurrent use of one connection
    (openssl/openssl#18209, python-engineio#461). With a reader and a writer thread, 12 of 30 TLS 1.3 connections
    failed; with one owner, 0 of 30 (measured on CPython 3.11).

    The owner waits with ``poll.wait`` and then calls ``pump``. Only ``finish`` blocks. A network error raises no
    exception: the connection closes the socket and sets ``is_closed``, and ``pump`` returns the codec's events for the
    close once. ``finish`` and ``abort`` end the connection; both are idempotent.

    Args:
        sock: A connected socket: for WebSocket from ``dial``, after the upgrade; for TCP from ``connect_socket``.
        codec: The client side of the protocol.
        timing: Durations.
        framing: Converts messages to bytes and back; by default ``WebSocketFraming``.
    """

    def __init__(
        self,
        sock: socket.socket,
        codec: Client,
        timing: ConnectionTiming = DEFAULT_TIMING,
        framing: Framing | None = None,
    ) -> None:
        sock.setblocking(False)
        self.codec = codec
        self.service = codec.service
        self.is_closed = False
        self.close_code: int | None = None
        self.close_reason = ""
        self._sock = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._timing = timing
        self._keepalive = Keepalive(timing.ping_seconds, timing.pong_seconds, timing.stall_seconds)
        self._framing: Framing = WebSocketFraming() if framing is None else framing
        self._unsent = bytearray()
        self._queued_bytes = self._sent_bytes = 0  # totals: they show whether the socket has accepted the end mark
        self._end_mark_at: int | None = None
        self._pongs: deque[bytes] = deque(maxlen=_MAX_PONGS)
        self._ping_number = 0
        self.has_more = False  # whether the last ``pump`` stopped at its limit; more bytes may be available
        self.answered_ping = 0  # number of the last ping of ``ping`` whose pong has arrived
        self._write_waits_for_read = self._read_waits_for_write = False
        self._close_sent = False
        self._closing: tuple[int, str] | None = None  # code and reason, once the close frame is queued
        self._close_by = 0.0
        self._write_error = ""  # the connection ends only after all received data is read
        self._protocol_error: ProtocolError | None = None  # handled after the preceding messages are delivered
        self._is_lingering: bool | None = None  # None: not needed; False: due; True: reading until the peer closes
        self._dropped_bytes = 0
        self._last_events: list[Event] = []  # the codec's events for the close, until they are fetched

    def fileno(self) -> int:
        """Return the descriptor of the socket; -1 after the close."""
        return self._sock.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether the owner must also wait until the socket is writable."""
        if self.is_closed or self._write_error:
            return False
        return self._read_waits_for_write or (bool(self._unsent) and not self._write_waits_for_read)

    @property
    def has_pending(self) -> bool:
        """Whether ``pump`` has work that ``poll`` does not report: decrypted bytes, an error, or the last events."""
        if self.is_closed:
            return bool(self._last_events)
        if self._protocol_error is not None or self._write_error:
            return True
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    @property
    def has_partial_frame(self) -> bool:
        """Whether a part of a frame has arrived."""
        return self._framing.has_partial_frame

    @property
    def unsent_bytes(self) -> int:
        """Number of bytes that the socket has not accepted yet. If the connection is lost, these were not delivered."""
        return len(self._unsent)

    @property
    def is_end_delivered(self) -> bool:
        """Whether the socket has accepted everything up to the end mark, which may be empty in the protocol."""
        return self._end_mark_at is not None and self._sent_bytes >= self._end_mark_at

    def send(self, event: Event) -> bool:
        """Encode and queue an event; return ``False`` if the connection is closed or closing. Never blocks."""
        if self.is_closed or self._closing is not None or self._close_sent or self._write_error:
            return False
        for message in self.codec.send(event):
            self._queue(self._framing.encode(message))
        if isinstance(event, End) and self._end_mark_at is None:
            self._end_mark_at = self._queued_bytes
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._end(CONNECTION_LOST, "the service stopped reading")
            return False
        self._write()
        return not (self.is_closed or self._write_error)

    def ping(self) -> int:
        """Queue a ping and return its number. When the pong arrives, ``answered_ping`` is set to that number.

        A peer that computes in its event loop sends the pong only after the computation.
        """
        self._ping_number += 1
        if not (self.is_closed or self._closing is not None or self._close_sent or self._write_error):
            self._queue(self._framing.ping(str(self._ping_number).encode()))
            self._write()
        return self._ping_number

    def pump(self) -> list[Event]:
        """Write, read and check the deadlines without blocking; return the decoded events."""
        events: list[Event] = []
        if self._has_output():
            self._write()
        if not self.is_closed:
            error, self._protocol_error = self._protocol_error, None
            if error is not None:
                self._refuse(error)
            self._read(events)
            # A received message resets the deadlines of ping and pong. The other deadlines need the check anyway.
            if not events or self._unsent or self._framing.has_partial_frame or self._closing is not None:
                self._check_deadlines()
        if self._has_output():
            self._write()
        if self._last_events:
            events += self._take_last_events()
        return events

    def next_timeout(self) -> float | None:
        """Return the seconds until ``pump`` is due even without input; ``None`` if it is not due."""
        if self.has_pending:
            return 0.0
        if self.is_closed:
            return None
        if self._closing is not None:
            return max(0.0, self._close_by - time.monotonic())
        return self._keepalive.next_seconds(is_sending=bool(self._unsent))

    def finish(self, deadline: Deadline) -> list[Event]:
        """Send the end mark (unless it was sent) and the unsent data, then perform the closing handshake.

        Over TCP, the end of the bytes in each direction replaces the close frame. Blocks until ``deadline`` at most,
        and at most ``close_seconds`` for the peer's close frame. A network error raises no exception; see
        ``is_end_delivered``.

        Returns:
            The events received meanwhile, and the codec's events for the close.
        """
        if not self.is_closed:
            self.send(End())
        events: list[Event] = []
        while self._unsent and not self.is_closed and not deadline.is_expired:
            events += self._round(deadline)
        if not self.is_closed and self._closing is None and not self._unsent:
            self._queue_close((1000).to_bytes(2, "big"))
            if not self._unsent:  # TCP has no close frame: the end of the bytes replaces it
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_WR)
            answer_by = deadline.within(self._timing.close_seconds)
            self._write()
            while not self.is_closed and not answer_by.is_expired:
                events += self._round(answer_by)
        self._end(*(self._closing or (CONNECTION_LOST if self._unsent else 1000, "closed by voice-agent")))
        return events + self._take_last_events()

    def abort(self) -> list[Event]:
        """Drop unsent data and close the socket immediately; return the codec's events for the close, once."""
        self._end(*(self._closing or (CONNECTION_LOST, "aborted by voice-agent")))
        return self._take_last_events()

    # --- sending

    def _queue(self, frame: bytes) -> None:
        if not self._unsent:
            self._keepalive.written()
        self._unsent += frame
        self._queued_bytes += len(frame)

    def _queue_close(self, payload: bytes) -> None:
        if not self._close_sent:
            self._queue(self._framing.close(payload))
            self._close_sent = True

    def _has_output(self) -> bool:
        """Return whether ``_write`` has work: bytes, pongs, or a connection to end after its last bytes."""
        return not self.is_closed and bool(self._unsent or self._pongs or self._closing is not None)

    def _write(self) -> None:
        while not self._write_error:
            while self._pongs and len(self._unsent) < _WRITE_BYTES and not self._close_sent:
                self._queue(self._framing.pong(self._pongs.popleft()))
            if not self._unsent:
                break
            # OpenSSL requires that a repeated SSL_write starts with the same bytes: append to the buffer only.
            try:
                sent = self._sock.send(self._unsent[:_WRITE_BYTES])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, *_WOULD_BLOCK) as error:
                self._write_waits_for_read = isinstance(error, ssl.SSLWantReadError)
                return
            except (OSError, ValueError) as error:
                self._write_error = _describe(error)
                break
            self._write_waits_for_read = False
            del self._unsent[:sent]
            self._sent_bytes += sent
            self._keepalive.written()
        if self._closing is None or self._is_lingering:
            return
        if self._is_lingering is None or self._write_error:
            self._end(*self._closing)
            return
        # See ``ConnectionTiming.linger_seconds``.
        self._is_lingering, self._close_by = True, time.monotonic() + self._timing.linger_seconds
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    # --- receiving

    def _read(self, events: list[Event]) -> None:
        total = 0
        self.has_more = False
        while total < _READ_BYTES:
            if self._protocol_error is not None:
                return
            try:
                data = self._sock.recv(_READ_BYTES)
            except ssl.SSLWantWriteError:
                self._read_waits_for_write = True
                return
            except (ssl.SSLWantReadError, *_WOULD_BLOCK):
                self._read_waits_for_write = False
                if self._write_error:
                    self._end(*(self._closing or (CONNECTION_LOST, self._write_error)))
                return
            except ssl.SSLZeroReturnError:
                data = b""
            except (OSError, ValueError) as error:
                self._end(*(self._closing or (CONNECTION_LOST, _describe(error))))
                return
            self._read_waits_for_write = False
            if not data:
                lost = (CONNECTION_LOST, self._write_error) if self._write_error else self._framing.end()
                self._end(*(self._closing or lost))
                return
            total += len(data)
            self._keepalive.received(len(data))
            if self._closing is None:
                self._decode(data, events)
            else:
                self._dropped_bytes += len(data)
                if self._dropped_bytes > MAX_LINGER_BYTES:
                    self._end(*self._closing)
                    return
            # Less than requested: the socket is empty, and poll reports new data. With TLS, recv returns one record;
            # OpenSSL may hold the next one, which poll does not report.
            if len(data) < _READ_BYTES and not self._is_tls:
                return
        self.has_more = True

    def _decode(self, data: bytes, events: list[Event]) -> None:
        frames_before = self._framing.frame_count
        self._framing.feed(data)
        try:
            while self._closing is None and (result := self._framing.next()) is not None:
                if isinstance(result, Ping):
                    self._pongs.append(result.data)  # only the latest need a pong (RFC 6455, 5.5.3)
                elif isinstance(result, Pong):
                    self.answered_ping = _ping_number(result.data) or self.answered_ping
                elif isinstance(result, Close):
                    self._queue_close(result.echo)
                    self._begin_close(result.code, result.reason)
                else:
                    events += self.codec.receive(result)
        except ProtocolError as error:
            if events:
                self._protocol_error = error  # the preceding messages are delivered first
            else:
                self._refuse(error)
        has_new_frame = self._framing.frame_count != frames_before
        self._keepalive.frame_state(self._framing.has_partial_frame, is_new=has_new_frame)

    # --- closing

    def _refuse(self, error: ProtocolError) -> None:
        self._queue_close(error.code.to_bytes(2, "big") + error.reason.encode())
        self._begin_close(error.code, error.reason)
        self._is_lingering = False

    def _begin_close(self, code: int, reason: str) -> None:
        """Stop decoding; the connection ends when the unsent data is written, or after ``close_seconds``."""
        self._closing = (code, reason)
        self._close_by = time.monotonic() + self._timing.close_seconds

    def _end(self, code: int, reason: str) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.close_code, self.close_reason = code, reason
        with contextlib.suppress(OSError):
            self._sock.close()
        self._last_events = self.codec.receive_close(code, reason)

    def _take_last_events(self) -> list[Event]:
        events, self._last_events = self._last_events, []
        return events

    def _deadlines(self) -> list[tuple[float, str]]:
        if self._closing is not None:
            return [(self._close_by, "")]
        return self._keepalive.deadlines(is_sending=bool(self._unsent))

    def _check_deadlines(self) -> None:
        if self.is_closed:
            return
        now = time.monotonic()
        for deadline, reason in self._deadlines():
            if deadline > now:
                continue
            if reason != PING_DUE:
                self._end(*(self._closing or (CONNECTION_LOST, reason)))
                return
            self._keepalive.ping_sent()
            if not self._close_sent:
                self._queue(self._framing.ping(b""))

    def _round(self, deadline: Deadline) -> list[Event]:
        wait(self, (), deadline.remaining())
        return self.pump()


def _ping_number(data: bytes) -> int:
    """Return the number of the ping that a pong answers; 0 for a pong of the keepalive or an unsolicited one."""
    return int(data) if data.isdigit() and len(data) < 10 else 0


def _describe(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
    return f"the connection was lost: {reason}"
