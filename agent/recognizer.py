"""The thread that owns the transcription socket: frames out, transcripts in."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.connection.farewells import Farewells, part
from agent.connection.standby import Standby
from agent.connection.waiting import wait
from agent.events import Event, Gap, Partial, SpeechBegan, SpeechEnded
from agent.protocols.events import Audio, End, Failure, Log, Transcript
from agent.safe import safe
from agent.stretch import Stretch, heard, seconds_of
from agent.threads import Deadline, Mailbox, Worker
from agent.turns import Began, Ears, Over, Said

if TYPE_CHECKING:
    from agent.connection import Connection

log = logging.getLogger(__name__)

ROUND_SECONDS = 1.0
AHEAD_BYTES = 64000
"""How much may wait in a connection before the next frame is taken: two seconds of speech."""

ANSWER_SECONDS = 30.0
"""How long the last transcript may take after the end mark; a slow server on a small machine needs that much."""

SETTLE_SECONDS = 1.0
"""Servers that transcribe in steps forget what they are at when the end mark comes; they are let finish until they have
been silent for so long."""

MOST_REFUSED = 100
"""Messages of a session that may be passed over before it counts as broken."""

MOST_LOSSES = 3
"""A stretch that has cost so many connections is given up: it may be what breaks them."""


class Frames(Protocol):
    """Where frames come from: the frame queue, or something that is read no faster than it can be sent."""

    @property
    def held(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def take(self, max_frames: int) -> list[bytes]: ...
    def lost(self) -> tuple[float, float] | None: ...
    def close(self) -> None: ...
    def release(self) -> None: ...


class Recognizer(Worker):
    """Sends what ``ears`` find worth sending and reports what the service understood.

    Every stretch of speech gives one ``Heard``, also where nothing was understood; with ``captions`` every final
    transcript is a ``Heard`` of its own. Frames wait, up to ``outage_seconds``, while the service is away; what a lost
    connection has not answered is sent again, and what is lost for good is reported as a ``Gap``. It ends when the
    frames end, after the last transcript, with the service's end mark sent.
    """

    patience_seconds = 10.0

    def __init__(
        self,
        frames: Frames,
        ears: Ears,
        standby: Standby,
        report: Callable[[Event], None],
        *,
        captions: bool = False,
        outage_seconds: float = 30.0,
        answer_seconds: float = ANSWER_SECONDS,
        settle_seconds: float | None = 0.0,
    ) -> None:
        super().__init__("recognizer", report)
        self._frames, self._ears, self._standby = frames, ears, standby
        self._captions = captions
        self._outage_seconds, self._answer_seconds = outage_seconds, answer_seconds
        self._mailbox: Mailbox[str | Standby] = Mailbox()
        self._next_standby: Standby | None = None
        self._stretches: deque[Stretch] = deque()
        self._connection: Connection | None = None
        self._farewells = Farewells()
        self._answer_by = Deadline(None)
        self._settle_seconds = settle_seconds or 0.0
        self._learns = settle_seconds is not None
        self._moved_at = 0.0  # when a frame was sent last, or a transcript came
        self._away_since: float | None = None
        self._clock = 0.0  # seconds of sound since the microphone was opened
        self._refused = 0  # messages of this connection that were passed over
        self._aborted = False
        self._deaf = False

    # --- from any thread

    def listen(self, open: bool) -> None:
        """Opens or shuts the ear. While it is shut frames are passed over, and an unfinished stretch ends."""
        self._mailbox.put("open" if open else "shut")

    def use(self, standby: Standby) -> None:
        """Another service, from the next stretch on."""
        self._mailbox.put(standby)

    def stop(self) -> None:
        """The frames end by themselves: their queue is closed by the microphone."""
        self._frames.close()

    def abort(self) -> None:
        self._frames.close()
        self._mailbox.put("abort")

    # --- the thread

    def run(self) -> None:
        try:
            while not self._over():
                self.beat()
                frames = [self._frames] if self._hungry() else []
                wait(self._connection, [self._mailbox, *self._standby.waitables(), *frames], self._patience())
                for letter in self._mailbox.take():
                    self._read(letter)
                self._change_over()
                self._standby.mind()
                self._hear()
                self._pump()
                self._advance()
        finally:
            self._leave()

    def _over(self) -> bool:
        if self._aborted:
            return True
        return self._frames.closed and not self._frames.held and not self._stretches

    def _hungry(self) -> bool:
        """Whether frames are to be taken: always by ears that judge them, else only as fast as they can be sent."""
        if self._frames.closed and not self._frames.held:
            return False
        if not self._ears.patient or not self._stretches:
            return True
        connected = self._connection is not None and self._connection.unsent < AHEAD_BYTES
        return connected and not self._stretches[0].frames.held

    def _patience(self) -> float:
        waits = [ROUND_SECONDS, self._standby.next_timeout(), self._answer_by.remaining()]
        if self._connection is not None and self._connection.pending:
            return 0.0
        if self._stretches and self._stretches[0].over:
            waits.append(max(0.01, self._moved_at + self._settle_seconds - time.monotonic()))
        return min(each for each in waits if each is not None)

    def _read(self, letter: str | Standby) -> None:
        if isinstance(letter, Standby):
            if self._next_standby is not None:
                self._farewells.retire(self._next_standby)
            self._next_standby = letter
        elif letter == "abort":
            self._aborted = True
        else:
            self._deaf = letter == "shut"
            if self._deaf:
                self._mark(self._ears.forget())

    def _change_over(self) -> None:
        if self._next_standby is not None and not self._stretches and self._connection is None:
            self._farewells.retire(self._standby)
            self._standby, self._next_standby = self._next_standby, None
            self._away_since = None

    # --- frames in

    def _hear(self) -> None:
        lost = self._frames.lost()
        if lost is not None:
            self._clock += lost[1]
            self.report(Gap(*lost, "the frames could not be sent in time"))
        while self._hungry() and (taken := self._frames.take(4)):
            for frame in taken:
                self._clock += seconds_of([frame])
                if not self._deaf:
                    self._mark(self._ears.hear(frame))
            if self._ears.patient:
                self._advance()
        if self._frames.closed and not self._frames.held and self._stretches and not self._stretches[-1].over:
            self._mark([*self._ears.forget()] or [Over(0.0)])

    def _mark(self, marks: list[Began | Said | Over]) -> None:
        for mark in marks:
            match mark:
                case Began():
                    before = seconds_of(each.frame for each in marks if isinstance(each, Said))
                    self._stretches.append(Stretch.of(self._outage_seconds, max(0.0, self._clock - before)))
                    if not self._ears.patient:
                        self.report(SpeechBegan())
                case Said(frame):
                    self._stretches[-1].say(frame)
                case Over(ago_seconds):
                    self._stretches[-1].over = True
                    if not self._ears.patient:
                        self.report(SpeechEnded(ago_seconds))

    # --- the stretch at hand, on one connection

    def _advance(self) -> None:
        while self._stretches:
            stretch = self._stretches[0]
            if self._connection is None and not self._connect(stretch):
                return
            connection = self._connection
            if connection is None:
                continue
            while connection.unsent < AHEAD_BYTES and (frames := stretch.frames.take(1)):
                stretch.sent.put(frames[0])
                connection.send(Audio(frames[0]))
                self._moved_at = time.monotonic()
            if (lost := stretch.forgotten()) is not None:
                self.report(Gap(*lost, f"{self._standby.service} was away for longer than is kept"))
            if stretch.over and not stretch.frames.held and not stretch.ended and self._settled(connection):
                stretch.ended = True
                self._answer_by = Deadline(self._answer_seconds)
                connection.send(End())
            return

    def _settled(self, connection: Connection) -> bool:
        """Whether the end mark may be sent: the service has had what was said, and the time to say what it heard."""
        quiet = time.monotonic() - self._moved_at >= self._settle_seconds
        return not self._settle_seconds or (quiet and not connection.unsent)

    def _connect(self, stretch: Stretch) -> bool:
        """Whether there is something to go on with at once: a connection, or the next stretch after a lost one."""
        connection = self._standby.take()
        if connection is not None:
            self._connection = connection
            # What the lost connection never answered is sent again, before what has come since.
            stretch.ended = False
            if (lost := stretch.missing()) is not None:
                self.report(Gap(*lost, f"{self._standby.service} broke off, and no more is kept to be sent again"))
            for frame in stretch.again():
                connection.send(Audio(frame))
            return True
        if self._away_since is None and self._standby.error is not None:
            self._away_since = time.monotonic()
        if self._gives_up(stretch):
            self._close(stretch, lost=f"{self._standby.service} could not be reached")
            return True
        return False

    def _gives_up(self, stretch: Stretch) -> bool:
        if not stretch.over or self._away_since is None:
            return False
        permanent = self._standby.error is not None and self._standby.error.permanent
        long_away = time.monotonic() - self._away_since > self._outage_seconds
        return permanent or long_away or stretch.losses > MOST_LOSSES

    def _pump(self) -> None:
        connection = self._connection
        if connection is None:
            return
        for event in connection.pump():
            if self._connection is connection:  # what comes after the end of a stretch is none of the next one's
                self._take(event)
        if self._connection is connection and self._stretches:
            if connection.ended:
                self._lose(connection.close_reason)
            elif self._answer_by.over:
                for event in connection.codec.quiet():
                    self._take(event)
                if self._connection is connection:
                    self._close(self._stretches[0])

    def _take(self, event: object) -> None:
        stretch = self._stretches[0] if self._stretches else None
        match event:
            case Transcript(text, final=False) if stretch:
                self._moved_at = time.monotonic()
                stretch.partial = text
                self.report(Partial(stretch.so_far()))
            case Transcript(final=True) if stretch:
                self._final(stretch, event)
            case End(export_id) if stretch:
                stretch.export_id = export_id
                if self._learns and stretch.finals and not self._tail_final():
                    self._settle_seconds = SETTLE_SECONDS  # it has none for what was said last: learned for the next
                self._close(stretch)
            case Failure(fatal=True):
                self._lose(f"it sent {event.came}; expected {event.expected}", permanent=event.permanent)
            case Failure():
                self._refused += 1
                if self._refused == 1:
                    log.warning("%s: %s; expected %s", self._standby.service, event.came, event.expected)
                if self._refused > MOST_REFUSED:
                    self._lose(f"{self._refused} of its messages made no sense, the last {event.came}")
            case Log(message):
                log.info("%s says: %s", self._standby.service, safe(message, 200))

    def _tail_final(self) -> bool:
        codec = self._connection.codec if self._connection is not None else None
        return bool(getattr(codec, "tail_final", True))

    def _final(self, stretch: Stretch, final: Transcript) -> None:
        self._moved_at = time.monotonic()
        stretch.partial = ""
        stretch.losses = 0
        self._away_since = None
        self._standby.healthy()
        if self._captions:
            stretch.answered()
            self.report(heard([final]))
        else:
            stretch.finals.append(final)

    def _close(self, stretch: Stretch, *, lost: str = "") -> None:
        """The stretch has its transcript, or will never have one; the next gets a connection of its own."""
        for gap in stretch.given_up() if lost else ():
            self.report(Gap(*gap, lost))
        if stretch.partial:
            self._final(stretch, Transcript(stretch.partial, final=True))  # the last partial counts
        if not self._captions:
            self.report(heard(stretch.finals or stretch.kept, stretch.export_id))
        elif stretch.export_id:
            self.report(heard([], stretch.export_id))
        self._stretches.popleft()
        self._answer_by = Deadline(None)
        self._hang_up()

    def _lose(self, reason: str, *, permanent: bool = False) -> None:
        """The connection is gone and the stretch is not answered: it begins again on the next one."""
        self._standby.broke(reason, permanent=permanent)
        self._away_since = self._away_since or time.monotonic()
        if self._stretches:
            # A turn is transcribed anew as a whole; captions have already been given out and are only continued.
            stretch = self._stretches[0]
            stretch.losses += 1
            stretch.kept, stretch.finals = stretch.finals or stretch.kept, []
        self._answer_by = Deadline(None)
        self._hang_up()

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if self._refused > 1:
            log.warning("%s: %d messages of a session were passed over", self._standby.service, self._refused)
        self._refused = 0
        if connection is not None:
            self._farewells.take(connection)

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            for event in part(connection, 1.0):
                if isinstance(event, Transcript | End):
                    self._take(event)  # it may come with the goodbye
        while self._stretches:
            self._close(self._stretches[0], lost="the end came before its transcript")
        self._standby.close(Deadline(2.0))
        if self._next_standby is not None:
            self._next_standby.close(Deadline(0.0))
        self._frames.release()
        self._mailbox.close()
        self._farewells.join(Deadline(2.0))
