"""One program at the control socket: its lines in, the answers out, and how long it may take over either."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.frontends.control.lines import Lines

READ_BYTES = 64 * 1024
MOST_UNREAD_BYTES = 64 * 1024
"""Of answers that a caller does not read, before it is let go."""


@dataclass(frozen=True, slots=True)
class WaitPolicy:
    """How long a caller may be silent: with nothing to wait for, in the middle of a line, or over the answers to read
    (``line_seconds``), before the first words of a text it has begun, and in the middle of that, when the device waits
    for it. ``per_second`` lines are read of each; who writes faster waits."""

    idle_seconds: float = 30.0
    line_seconds: float = 10.0
    first_piece_seconds: float = 600.0
    piece_seconds: float = 60.0
    per_second: float = 200.0


class Pace:
    """So many a second, and as many at once after a pause."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether one more may be had now."""
        now = time.monotonic()
        self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def wait_seconds(self) -> float:
        """How long until the next one."""
        return max(0.0, (1.0 - self._left) / self._per_second - (time.monotonic() - self._at))


@dataclass
class Draft:
    """The text that a caller has begun. ``announced``: whether it has words yet, and so is an utterance."""

    utterance: str
    priority: int
    length: int = 0
    announced: bool = False


@dataclass
class Caller:
    """A connected caller, owned by the frontend's thread. No method blocks or raises.

    ``read`` and ``write`` do what can be done now, ``next`` gives the next line that may be dealt with. ``gone`` is
    true once nothing more can be done for it; ``over`` once it will send nothing more, though it may still read. Who
    reads no more, but has sent wishes, still has them granted. ``awaited`` are the utterances whose end it is told.
    """

    socket: socket.socket
    patience: WaitPolicy
    awaited: set[str] = field(default_factory=set)
    draft: Draft | None = None
    gone: bool = False
    over: bool = False
    held_back: bool = False  # it has written faster than it is read

    def __post_init__(self) -> None:
        self._lines = Lines()
        self._out = bytearray()
        self._pace = Pace(self.patience.per_second)
        self._deaf = False
        self._heard_at = self._moved_at = time.monotonic()  # the last whole line; the last byte that was read of ours
        self._told_at = self._heard_at  # the last answer: it may have been waited for as long as an utterance lasts
        self._line_at: float | None = None  # when the line began that is not whole yet

    def interest(self) -> int:
        """What to poll for. While it is held back and reads well it need not be looked at at all."""
        reads = not self.over and not self.held_back and not self._lines.too_long
        return (select.POLLIN if reads else 0) | (select.POLLOUT if self._out else 0)

    def read(self) -> None:
        if self.over or self.gone or self.held_back:
            return
        try:
            data = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.gone = True
            return
        self.over = not data
        self._lines.feed(data)

    def next(self) -> bytes | None:
        """The next line; ``None`` where there is none, or it is not its turn yet."""
        if self.gone:
            return None
        self.held_back = self._lines.held > 0 and not self._pace.take()
        if self.held_back:
            return None
        line = self._lines.next()
        now = time.monotonic()
        if line is not None:
            self._heard_at, self._line_at = now, None
        elif not self._lines.held:
            self._line_at = None
        elif self._line_at is None:
            self._line_at = now
        return line

    def say(self, answer: Mapping[str, object]) -> None:
        if self.gone or self._deaf:
            return
        self._told_at = time.monotonic()
        if not self._out:
            self._moved_at = self._told_at
        import json  # at the first answer: most daemons are ready long before

        self._out += json.dumps(answer).encode("ascii") + b"\n"
        if len(self._out) > MOST_UNREAD_BYTES:
            self.gone = True
        self.write()

    def write(self) -> None:
        while self._out:
            try:
                sent = self.socket.send(self._out, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._deaf = True
                self._out.clear()
                self.awaited.clear()
                return
            del self._out[:sent]
            self._moved_at = time.monotonic()

    @property
    def unread(self) -> bool:
        """Whether an answer has not gone out yet."""
        return bool(self._out) and not self.gone

    @property
    def complaint(self) -> str | None:
        """Why it is let go, if it is: a line without end, or more time than it may take."""
        if self._lines.too_long:
            return "a line is at most 64 KiB long"
        left = self._left()
        return "this took too long" if left is not None and left <= 0 else None

    def timeout(self) -> float | None:
        """Seconds until something is to be done for it, whatever it does itself."""
        waits = (self._left(), self._pace.wait_seconds() if self.held_back else None)
        return min((wait for wait in waits if wait is not None), default=None)

    def close(self) -> None:
        self.gone = True
        with contextlib.suppress(OSError):
            self.socket.close()

    def _left(self) -> float | None:
        patience = self.patience
        ends: list[float] = []
        if self._out:
            ends.append(self._moved_at + patience.line_seconds)
        if self._line_at is not None and not self.held_back:
            ends.append(self._line_at + patience.line_seconds)
        if self.draft is not None:
            begun = self.draft.announced
            ends.append(self._heard_at + (patience.piece_seconds if begun else patience.first_piece_seconds))
        elif not self.awaited and not self.held_back:
            ends.append(max(self._heard_at, self._told_at) + patience.idle_seconds)
        return min(ends) - time.monotonic() if ends else None
