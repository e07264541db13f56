"""The thread that owns the transcription socket: frames out, transcripts in."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from agent.pipeline.capture.endpointer import Endpointer, Speech, SpeechEnd, SpeechStart
from agent.pipeline.capture.frame_queue import FrameSource
from agent.pipeline.events import Event, Gap, Hush, Partial, SpeechEnded, SpeechStarted
from agent.pipeline.stage import Stage
from agent.pipeline.stt.segment import SpeechSegment, heard, seconds_of
from agent.pipeline.stt.session import SttSession
from agent.services.connection.closing import (
    STAGE_ABORT_SECONDS,
    STAGE_CLOSE_SECONDS,
    AdjustableDeadline,
    BackgroundCloser,
)
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby
from agent.services.protocols.codec import Transcript
from agent.system.threads import Deadline, Mailbox

ROUND_SECONDS = 1.0

ANSWER_SECONDS = 30.0
"""How long the last transcript may take after the end mark; a slow server on a small machine needs that much."""

SETTLE_SECONDS = 1.0
"""Servers that transcribe in steps forget what they are at when the end mark comes; they are let finish until they have
been silent for at least so long."""

MOST_LOSSES = 3
"""A stretch that has cost so many connections is given up: it may be what breaks them."""


class Recognizer(Stage):
    """Sends what ``ears`` find worth sending and reports what the service understood.

    Every stretch of speech gives one ``Heard``, also where nothing was understood; with ``captions`` every final
    transcript is a ``Heard`` of its own. Frames wait, up to ``outage_seconds``, while the service is away; what a lost
    connection has not answered is sent again, and what is lost for good is reported as a ``Gap``. It ends when the
    frames end, after the last transcript, with the service's end mark sent.
    """

    def __init__(
        self,
        frames: FrameSource,
        endpointer: Endpointer,
        standby: Standby,
        report: Callable[[Event], None],
        *,
        captions: bool = False,
        outage_seconds: float = 30.0,
        answer_seconds: float = ANSWER_SECONDS,
        settle_seconds: float | None = 0.0,
    ) -> None:
        super().__init__("recognizer", report)
        self._frames, self._endpointer, self._standby = frames, endpointer, standby
        self._captions = captions
        self._outage_seconds, self._answer_seconds = outage_seconds, answer_seconds
        self._mailbox: Mailbox[str | Hush | tuple[Standby, bool]] = Mailbox()
        self._next: tuple[Standby, bool] | None = None
        self._stretches: deque[SpeechSegment] = deque()
        self._session: SttSession | None = None
        self._farewells = BackgroundCloser()
        self._leave_by = AdjustableDeadline(None)
        self._settle_seconds = settle_seconds or 0.0
        self._learns = settle_seconds is not None
        self._away_since: float | None = None
        self._clock = 0.0  # seconds of sound since the microphone was opened
        self._aborted = False
        self._deaf = False

    # --- from any thread

    def set_listening(self, open: bool) -> None:
        """Opens or shuts the ear. While it is shut frames are passed over, and an unfinished stretch ends."""
        self._mailbox.put("open" if open else "shut")

    def replace_service(self, standby: Standby, *, may_lose_tail: bool) -> None:
        """Another service, from the next stretch on. ``learns``: whether it may forget its last words, which is then
        found out."""
        self._mailbox.put((standby, may_lose_tail))

    def reset_after_suspend(self, by: str) -> None:
        """What was said before ``by`` is too old to be sent, or to be waited for by those who would answer it."""
        self._mailbox.put(Hush(by))

    def stop(self) -> None:
        """The frames end by themselves: their queue is closed by the microphone."""
        self._frames.close()

    def abort(self) -> None:
        self._frames.close()
        self._leave_by.expire_by(Deadline(STAGE_ABORT_SECONDS))
        self._mailbox.put("abort")

    # --- the thread

    def run(self) -> None:
        try:
            while not self._over():
                frames = [self._frames] if self._hungry() else []
                connection = self._session.connection if self._session else None
                wait(connection, [self._mailbox, *self._standby.waitables(), *frames], self._patience())
                self.heartbeat()
                for letter in self._mailbox.take():
                    self._read(letter)
                self._change_over()
                self._standby.maintain()
                self._hear()
                self._pump()
                self._advance()
        finally:
            self._leave()

    def _over(self) -> bool:
        if self._aborted:
            return True
        return self._frames.is_closed and not self._frames.frame_count and not self._stretches

    def _hungry(self) -> bool:
        """Whether frames are to be taken: always by ears that judge them, else only as fast as they can be sent."""
        if self._frames.is_closed and not self._frames.frame_count:
            return False
        if not self._endpointer.continuous or not self._stretches:
            return True
        return self._session is not None and self._session.ready and not self._stretches[0].frames.frame_count

    def _patience(self) -> float:
        waits = [ROUND_SECONDS, self._standby.next_timeout()]
        if self._session is not None:
            waits.append(self._session.next_timeout())
        return min(each for each in waits if each is not None)

    def _read(self, letter: str | Hush | tuple[Standby, bool]) -> None:
        if isinstance(letter, tuple):
            if self._next is not None:
                self._farewells.close_standby(self._next[0])
            self._next = letter
        elif isinstance(letter, Hush):
            self._begin_anew(letter.reason)
        elif letter == "abort":
            self._aborted = True
        else:
            self._deaf = letter == "shut"
            if self._deaf:
                self._mark(self._endpointer.reset())

    def _change_over(self) -> None:
        if self._next is not None and not self._stretches and self._session is None:
            self._farewells.close_standby(self._standby)
            (self._standby, self._learns), self._next = self._next, None
            self._settle_seconds = self._settle_seconds if self._learns else 0.0
            self._away_since = None

    # --- frames in

    def _hear(self) -> None:
        while self._hungry():
            self._tell_forgotten()  # only now: what goes on being forgotten while nobody can take it is one loss
            if not (taken := self._frames.take(4)):
                break
            for frame in taken:
                self._clock += seconds_of([frame])
                if not self._deaf:
                    self._mark(self._endpointer.process(frame))
            if self._endpointer.continuous:
                self._advance()
        if self._frames.is_closed and not self._frames.frame_count and self._stretches and not self._stretches[-1].over:
            self._mark([*self._endpointer.reset()] or [SpeechEnd(0.0)])

    def _tell_forgotten(self) -> None:
        lost = self._frames.take_gap()
        if lost is not None:
            self._clock += lost[1]
            self.report(Gap(*lost, "the frames could not be sent in time"))

    def _begin_anew(self, by: str) -> None:
        self._tell_forgotten()
        waited = seconds_of(self._frames.take(self._frames.frame_count))
        gaps = [(self._clock, waited)] if waited and not self._deaf else []
        self._clock += waited
        self._mark(self._endpointer.reset())
        answering = self._endpointer.continuous and self._session is not None
        gaps += [gap for each in self._stretches for gap in each.outdated(answering=answering)]
        for gap in gaps:
            self.report(Gap(*gap, by))
        if not self._endpointer.continuous:
            self._hang_up()
            while self._stretches:
                self._give_up(self._stretches.popleft(), by)
        self._standby.reconnect()

    def _mark(self, marks: list[SpeechStart | Speech | SpeechEnd]) -> None:
        for mark in marks:
            match mark:
                case SpeechStart():
                    before = seconds_of(each.frame for each in marks if isinstance(each, Speech))
                    self._stretches.append(SpeechSegment.of(self._outage_seconds, max(0.0, self._clock - before)))
                    if not self._endpointer.continuous:
                        self.report(SpeechStarted())
                case Speech(frame):
                    self._stretches[-1].say(frame)
                case SpeechEnd(ago_seconds):
                    self._stretches[-1].over = True
                    self._forget_the_oldest()
                    if not self._endpointer.continuous:
                        self.report(SpeechEnded(ago_seconds))

    def _forget_the_oldest(self) -> None:
        """A question of long ago is worth less than the present: what waits behind the stretch at hand is bounded."""
        while len(self._stretches) > 2:
            waiting = list(self._stretches)[1:-1]
            if sum(each.said_seconds for each in waiting) <= self._outage_seconds:
                return
            del self._stretches[1]
            self._give_up(waiting[0], f"{self._standby.service} was away or slow for longer than is kept")

    # --- the stretch at hand, in one session

    def _advance(self) -> None:
        while self._stretches:
            stretch = self._stretches[0]
            if self._session is not None:
                self._session.send()
                if (lost := stretch.dropped_frames()) is not None:
                    self.report(Gap(*lost, f"{self._standby.service} was away for longer than is kept"))
                return
            if not self._connect(stretch):
                return

    def _connect(self, stretch: SpeechSegment) -> bool:
        """Whether there is something to go on with at once: a session, or the next stretch after a lost one."""
        connection = self._standby.take()
        if connection is not None:
            if (lost := stretch.missing()) is not None:
                self.report(Gap(*lost, f"{self._standby.service} broke off, and no more is kept to be sent again"))
            self._session = SttSession(
                connection,
                stretch,
                settle_seconds=self._settle_seconds,
                answer_seconds=self._answer_seconds,
                continued=self._captions,
            )
            return True
        if self._away_since is None and self._standby.error is not None:
            self._away_since = time.monotonic()
        if self._gives_up(stretch):
            self._stretches.popleft()
            self._give_up(stretch, f"{self._standby.service} could not be reached")
            return True
        return False

    def _gives_up(self, stretch: SpeechSegment) -> bool:
        if not stretch.over or self._away_since is None:
            return False
        permanent = self._standby.error is not None and self._standby.error.permanent
        long_away = time.monotonic() - self._away_since > self._outage_seconds
        return permanent or long_away or stretch.losses > MOST_LOSSES

    def _pump(self) -> None:
        session = self._session
        if session is None or not self._stretches:
            return
        stretch = self._stretches[0]
        for transcript in session.pump():
            self._understand(stretch, transcript)
        if session.failure is not None:
            self._lose(stretch, session.failure, permanent=session.permanent)
        elif session.ended:
            self._well()
            if session.forgetful and self._learns:
                self._settle_seconds = max(self._settle_seconds, SETTLE_SECONDS)  # learned for the next
            self._stretches.popleft()
            self._finish(stretch, session.export_id)
            self._hang_up()

    def _understand(self, stretch: SpeechSegment, transcript: Transcript) -> None:
        if not transcript.is_final:
            stretch.partial = transcript.text
            self.report(Partial(stretch.so_far()))
            return
        self._well()
        self._take_down(stretch, transcript)

    def _take_down(self, stretch: SpeechSegment, transcript: Transcript) -> None:
        stretch.partial = ""
        if self._captions:
            self.report(heard([transcript]))
        else:
            stretch.finals.append(transcript)

    def _well(self) -> None:
        self._away_since = None
        self._standby.report_success()

    def _finish(self, stretch: SpeechSegment, export_id: str | None = None) -> None:
        """The stretch has its transcript, or will never have one: the one ``Heard`` of it."""
        for gap in stretch.outdated(answering=True):
            self.report(Gap(*gap, "the end came before it was sent"))
        if stretch.partial:
            self._take_down(stretch, Transcript(stretch.partial, is_final=True))  # the last partial counts
        if not self._captions:
            self.report(heard(stretch.finals or stretch.kept, export_id))
        elif export_id:
            self.report(heard([], export_id))

    def _give_up(self, stretch: SpeechSegment, reason: str) -> None:
        for gap in stretch.given_up():
            self.report(Gap(*gap, reason))
        if not self._captions:
            stretch.keep()
        self._finish(stretch)

    def _lose(self, stretch: SpeechSegment, reason: str, *, permanent: bool = False) -> None:
        """The session broke off and the stretch is not answered: it begins again in the next one."""
        self._standby.report_failure(reason, permanent=permanent)
        self._away_since = self._away_since or time.monotonic()
        stretch.lose()
        if not self._captions:
            # A turn is transcribed anew as a whole; captions have already been given out and are only continued.
            stretch.keep()
        self._hang_up()

    def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
            self._farewells.close_connection(session.connection)
        if not self._endpointer.continuous:
            # Only now: some servers know one client at a time, and a second one would take what the first has said.
            self._standby.request()

    def _leave(self) -> None:
        session, self._session = self._session, None
        self._leave_by.expire_by(Deadline(STAGE_CLOSE_SECONDS))  # and sooner where an abort comes meanwhile
        standbys = [self._standby] if self._next is None else [self._standby, self._next[0]]
        said = self._farewells.close_all(session.connection if session else None, standbys, self._leave_by)
        if session is not None and self._stretches:
            for transcript in session.part(said):
                self._understand(self._stretches[0], transcript)
            if session.ended:
                self._finish(self._stretches.popleft(), session.export_id)
        while self._stretches:
            self._give_up(self._stretches.popleft(), "the end came before its transcript")
        self._tell_forgotten()
        if (left := seconds_of(self._frames.take(self._frames.frame_count))) > 0:
            self.report(Gap(self._clock, left, "the end came before it was sent"))
        self._frames.release()
        self._mailbox.close()
