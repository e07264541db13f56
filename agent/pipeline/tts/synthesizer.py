"""The thread that owns the speech socket: text out, sound into the ring."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import AudioError, ServiceError
from agent.pipeline.events import (
    AudioArrived,
    Event,
    TextComplete,
    TextPiece,
    Utterance,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.stage import Stage
from agent.pipeline.text_splitter import Passages
from agent.pipeline.tts.fallback import ServiceChain
from agent.pipeline.tts.job import SynthesisJob
from agent.pipeline.tts.session import TtsSession
from agent.services.connection.closing import (
    STAGE_ABORT_SECONDS,
    STAGE_CLOSE_SECONDS,
    AdjustableDeadline,
    BackgroundCloser,
)
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby
from agent.system.threads import Deadline, Mailbox


@dataclass(frozen=True, slots=True)
class Begin:
    """A new utterance, which waits for its turn."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Hush:
    """What is said and what waits is to be dropped. ``renew``: the connections that wait as well, for others."""

    by: str
    reconnect: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """Other services from now on."""

    services: list[Standby]
    first_audio_seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """All is to end: ``gently`` after what waits has been said."""

    gently: bool


Order = Begin | TextPiece | TextComplete | Hush | Use | End


ROUND_SECONDS = 1.0
"""The longest the loop waits for anything: the heartbeat must go on while nothing happens."""

PIECE_BYTES = 8192
"""What is put into the ring at once: while that is full, the heartbeat goes on between pieces."""


class Synthesizer(Stage):
    """Speaks utterances in the order they come, each through the first service that gives a sound.

    ``begin``, ``say``, ``complete`` and ``hush`` may be called from any thread. Every utterance that was begun ends in
    one event: ``UtterancePlayed``, ``UtteranceCancelled`` or ``UtteranceFailed``, which the speaker reports where the
    ring holds sound of it, and this thread where it does not. An utterance that fails before its first sound goes to
    the next service, and where the
    connection of the last one broke, once more to that: it may have gone stale while it waited. The last one is dialled
    for it, as soon as decency allows, also where it has just been tried in vain. One that fails after its first sound
    is not begun again. ``stop()`` lets the utterance under way flow out; both endings give every open
    session its end mark.
    """

    def __init__(
        self,
        ring: RingBuffer,
        services: list[Standby],
        report: Callable[[Event], None],
        *,
        first_audio_seconds: float = 10.0,
    ) -> None:
        super().__init__("synthesizer", report)
        self._ring = ring
        self._first_audio_seconds = first_audio_seconds
        self._mailbox: Mailbox[Order] = Mailbox()
        self._jobs: deque[SynthesisJob] = deque()
        self._session: TtsSession | None = None
        self._ending: End | None = None
        self._farewells = BackgroundCloser()
        self._leave_by = AdjustableDeadline(None)
        self._lineup = ServiceChain(services, self._farewells)
        self._counting = threading.Lock()
        self._hushes = 0  # that were wished for, less those whose letter has been read

    # --- from any thread

    def begin(self, utterance: Utterance) -> None:
        self._mailbox.put(Begin(utterance))

    def append_text(self, utterance: str, text: str) -> None:
        self._mailbox.put(TextPiece(utterance, text))

    def complete(self, utterance: str) -> None:
        self._mailbox.put(TextComplete(utterance))

    def hush(self, by: str, *, reconnect: bool = False) -> None:
        """Drops what is being said and what waits. The ring is emptied at once, in the caller's thread. ``renew``: the
        connections that are kept ready are not to be trusted either."""
        with self._counting:
            self._hushes += 1
        self._clear(by)
        self._mailbox.put(Hush(by, reconnect))

    def replace_services(self, services: list[Standby], first_audio_seconds: float) -> None:
        """Other services from now on. What is being said is said to its end by the service that began it."""
        self._mailbox.put(Use(services, first_audio_seconds))

    def stop(self) -> None:
        self._mailbox.put(End(gently=True))

    def abort(self) -> None:
        self._leave_by.expire_by(Deadline(STAGE_ABORT_SECONDS))
        self._clear("shutdown")
        self._mailbox.put(End(gently=False))

    # --- the thread

    def run(self) -> None:
        try:
            while not self._over():
                connection = self._session.connection if self._session else None
                wait(connection, [self._mailbox, *self._lineup.waitables()], self._patience())
                self.heartbeat()
                for letter in self._mailbox.take():
                    self._read(letter)
                self._lineup.mind()
                self._pump()
                self._advance()
                self._lineup.sweep(standby for job in self._jobs for standby in job.services)
        finally:
            self._leave()

    def _over(self) -> bool:
        if self._ending is None:
            return False
        return not self._ending.gently or not self._jobs

    def _patience(self) -> float:
        waits = [ROUND_SECONDS, *self._lineup.timeouts()]
        if self._jobs and self._session is None:
            waits += [self._jobs[0].patience.remaining(), self._jobs[0].put_off.remaining()]
        if self._session:
            waits.append(self._session.next_timeout())
            if self._session.connection.has_pending:
                return 0.0
        return min(each for each in waits if each is not None)

    def _read(self, letter: Order) -> None:
        match letter:
            case Begin(utterance):
                self._line_up(utterance)
            case TextPiece(utterance, text):
                for job in self._jobs:
                    if job.utterance.id == utterance and not job.complete:
                        job.passages += job.text.feed(text)
            case TextComplete(utterance):
                for job in self._jobs:
                    if job.utterance.id == utterance:
                        job.end_text()
            case Hush(by, reconnect):
                self._drop(by)
                with self._counting:
                    self._hushes -= 1
                if reconnect:
                    self._lineup.renew()
            case Use(services, seconds):
                self._first_audio_seconds = seconds
                self._replace(services)
            case End(gently):
                self._ending = letter
                for job in self._jobs:
                    job.end_text()
                if not gently:
                    self._drop("shutdown")

    def _replace(self, services: list[Standby]) -> None:
        self._lineup.replace(services)
        for job in self._jobs:
            if not job.sounded:  # what has begun to sound keeps its voice
                begun = job.services[:1] if self._session is not None and job is self._jobs[0] else []
                job.services = [*begun, *services]
                job.begin_patience()

    def _line_up(self, utterance: Utterance) -> None:
        if self._ending is not None:
            self.report(UtteranceCancelled(utterance.id, "shutdown"))
            return
        job = SynthesisJob(utterance, list(self._lineup.services))
        if utterance.text is not None:
            job.passages = Passages.of(utterance.text)
            job.complete = True
        self._jobs.append(job)

    def _drop(self, by: str) -> None:
        if self._session:
            self._hang_up()
        self._clear(by)
        for job in self._jobs:
            if job.stream_id is None:
                self.report(UtteranceCancelled(job.utterance.id, by))
        self._jobs.clear()

    def _clear(self, by: str) -> None:
        """Empties the ring. What the speaker had begun it will report itself; of the rest only we know."""
        for cut in self._ring.clear(by):
            if not cut.was_reading:
                self.report(UtteranceCancelled(cut.utterance, by, dropped_seconds=cut.seconds))

    # --- one utterance, one service, one session at a time

    def _advance(self) -> None:
        while self._jobs:
            job = self._jobs[0]
            if self._session is not None:
                self._session.speak(job.passages[job.done + self._session.asked :], complete=job.complete)
                return
            if job.done < len(job.passages):
                if not self._connect(job):
                    return
            elif job.complete:
                self._finish(job)
            else:
                job.patience = Deadline(None)
                return

    def _connect(self, job: SynthesisJob) -> bool:
        """Whether there is something to go on with at once: a session, or the next service after a failed one."""
        if not job.services:
            self._fail(job)
            return True
        # While what is still to be heard lasts, the next session waits: its sound is to find room.
        if job.put_off.remaining() or (job.sounded and self._ring.unread_bytes > self._ring.capacity_bytes // 8):
            return False
        job.put_off = Deadline(None)
        standby = job.services[0]
        connection = standby.take()
        if connection is not None:
            self._session = TtsSession(connection, self._first_audio_seconds, job.format)
            if not job.waited:
                job.patience = Deadline(None)
            return True
        error = standby.error
        last = len(job.services) == 1 or job.sounded  # worth waiting for: nobody else can go on
        # In the middle of an utterance any trouble that may pass is waited for; else that of before, which may be over,
        # and a service that asks for it.
        job.since = job.since or time.monotonic()
        untried = job.sounded or standby.failed_at < job.since
        passing = error is not None and (error.is_busy or (untried and not error.permanent))
        if error is not None and not (last and (standby.is_dialing or passing)):
            job.pass_on(str(error))
            return True
        return not self._worth_waiting(job, standby, 0.0 if standby.is_dialing else standby.retry_in_seconds())

    def _worth_waiting(self, job: SynthesisJob, standby: Standby, due: float) -> bool:
        """Whether the service, tried in ``due`` seconds, may be there in time; where not, the job is passed on."""
        if job.patience.remaining() is None:
            job.patience = Deadline(self._first_audio_seconds)
        limit, error = f"{self._first_audio_seconds:g} s", standby.error
        if error is not None and due > (job.patience.remaining() or 0.0):
            left = "the" if due > self._first_audio_seconds else "what is left of the"
            when = f"it can be tried again in {due:.0f} s, which is longer than {left} {limit} a first sound may take"
            job.pass_on(f"{error}; {when}")
            return False
        if job.patience.is_expired:
            why = f"{error}; " if error is not None else f"{standby.service}: "
            job.pass_on(f"{why}no connection within {limit}")
            return False
        return True

    def _pump(self) -> None:
        session, job = self._session, self._jobs[0] if self._jobs else None
        if session is None or job is None:
            return
        try:
            for pcm in session.pump():
                if not self._sound(job, session, pcm):
                    return  # it was cut
        except AudioError as error:
            session.error = ServiceError(session.connection.service, str(error))
        if session.error is None and session.ended and session.asked and not job.sounded:
            session.error = ServiceError(session.connection.service, "it ended without a sound")
        if session.error is not None:
            self._failed(job, session, session.error)
        elif session.ended:
            self._hang_up()
            job.services[0].report_success()
            job.done += session.asked

    def _failed(self, job: SynthesisJob, session: TtsSession, error: ServiceError) -> None:
        broke = session.connection.is_closed and not error.permanent
        self._hang_up()
        standby = job.services[0]
        standby.report_failure(
            str(error), permanent=error.permanent, status=error.status, retry_after_seconds=error.retry_after_seconds
        )
        if not (error.is_busy and len(job.services) == 1 and not job.sounded):
            job.pass_on(str(error), broke=broke)
        elif self._worth_waiting(job, standby, standby.retry_in_seconds()):
            # All is asked again, on a new connection, when it is due.
            job.done, job.waited, job.put_off = 0, True, Deadline(standby.retry_in_seconds())

    def _sound(self, job: SynthesisJob, session: TtsSession, pcm: bytes) -> bool:
        """Puts sound into the ring, however long that is full; tells whether it is still wanted."""
        if job.stream_id is None and session.format is not None:
            job.stream_id = self._ring.begin(job.utterance.id, session.format)
            job.sounded, job.format = True, session.format
            job.begin_patience()
            if not self._hushes:
                self.report(AudioArrived(job.utterance.id, session.connection.service))
        if job.stream_id is None:
            return True
        if self._hushes:
            return False  # begun while the ring was emptied, or just before: the letter that cuts it is on its way
        if session.format != job.format:
            raise AudioError(f"its sound changes from {job.format} to {session.format}: one format is expected")
        for start in range(0, len(pcm), PIECE_BYTES):
            while not self._ring.wait_writable(job.stream_id, ROUND_SECONDS):
                self.heartbeat()
            if not self._ring.write(job.stream_id, pcm[start : start + PIECE_BYTES]):
                # Cleared: the ring has told the speaker, and the letter that says by whom is on its way.
                self._hang_up()
                self._jobs.popleft()
                return False
        return True

    def _fail(self, job: SynthesisJob) -> None:
        self._jobs.popleft()
        reason = "; ".join(dict.fromkeys(job.failures)) or "there is no speech service"
        if job.stream_id is not None:
            self._ring.end(job.stream_id, error=reason)
        else:
            self.report(UtteranceFailed(job.utterance.id, reason))

    def _finish(self, job: SynthesisJob) -> None:
        self._jobs.popleft()
        if job.stream_id is not None:
            self._ring.end(job.stream_id)
        else:
            self.report(UtterancePlayed(job.utterance.id, 0.0))  # there was nothing to say

    def _hang_up(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._farewells.close_connection(session.connection)

    def _leave(self) -> None:
        session, self._session = self._session, None
        self._turn_away()
        if self._jobs or self._ending is None or not self._ending.gently:
            self._drop("shutdown")
        self._ring.close()  # after a gentle end the speaker still plays what is in it
        self._leave_by.expire_by(Deadline(STAGE_CLOSE_SECONDS))  # and sooner where an abort comes meanwhile
        connection = None if session is None else session.connection
        self._farewells.close_all(connection, self._lineup.all(), self._leave_by)
        self._turn_away()
        self._mailbox.close()

    def _turn_away(self) -> None:
        """What came too late gets its end all the same."""
        for letter in self._mailbox.take():
            if isinstance(letter, Begin):
                self.report(UtteranceCancelled(letter.utterance.id, "shutdown"))
