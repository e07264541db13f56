"""The stage that sends text to the speech services and writes their audio into the ring buffer."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.audio.format import Format
from agent.errors import AudioError, ServiceError
from agent.pipeline.events import (
    AudioArrived,
    Event,
    PlayedText,
    TextComplete,
    TextPiece,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.service_stage import MAX_WAIT_SECONDS, CloseTiming, ServiceStage
from agent.pipeline.settings import NO_CHIME
from agent.pipeline.tts.commands import (
    BeginUtterance,
    CancelAll,
    DiscardSuspended,
    EndSynthesis,
    PlaySound,
    ReplaceServices,
    RequestPlayedText,
    ResumeSynthesis,
    SuspendSynthesis,
    SynthesisCommand,
)
from agent.pipeline.tts.fallback import ServiceChain, SynthesisJob
from agent.pipeline.utterance import NOTICE, TIMER, Utterance
from agent.services.connection.standby import OPEN, Standby
from agent.system.threads import Deadline

if TYPE_CHECKING:  # imported only where phrases are enabled, and after READY
    from agent.pipeline.tts.phrase_file import Phrase
    from agent.pipeline.tts.phrases import Phrases
    from agent.pipeline.tts.session import TtsSession

WRITE_BYTES = 8192
"""Size of one write to a ring buffer that is almost full. Smaller writes keep the heartbeat regular."""

KEPT_SECONDS = 1.0
"""If the ring buffer contains more audio than this, the stage reads from the service less often."""
SHUTDOWN = "shutdown"
NOT_SUSPENDED = "its suspended audio is not known"


if TYPE_CHECKING:
    _Stage = ServiceStage[SynthesisCommand, TtsSession]
else:
    _Stage = ServiceStage  # no type parameter: it would need the session class, which is imported after READY


class Synthesizer(_Stage):
    """Speaks utterances in order, each through the first service that delivers audio.

    Every utterance ends in one event: ``UtterancePlayed``, ``UtteranceCancelled`` or ``UtteranceFailed``. The speaker
    reports it if audio of the utterance has reached the ring buffer, otherwise this stage does. An utterance that fails
    before its first audio goes to the next service; the last service gets one retry if its connection was lost. An
    utterance that fails after its first audio is not started again. ``suspend`` ends an utterance like a
    cancellation; ``resume`` starts the rest, which ends in another event.

    The public methods are thread-safe; everything else is owned by the synthesizer thread.

    Args:
        ring: receives the audio.
        services: connections to the speech services in the order of preference; the stage closes them.
        report: receives the events, in the synthesizer thread or in the thread that calls ``hush``, ``suspend`` or
            ``abort``.
        first_audio_seconds: timeout for the first audio of an utterance, and for a connection.
        language: language of the texts, as for ``SentenceSplitter``.
        phrases: returns the phrases, or ``None`` for none; called in the synthesizer thread after its start.
        close_timing: limits for closing the connections.
        can_suspend: whether ``suspend`` and ``report_played_text`` may be called. Recording the positions of the
            sentences in the audio takes CPU time.
        chime: sound before an announcement that names no chime, as for ``chime_pcm``.

    Attributes:
        notice_audio: returns the format and the audio (s16le) of an utterance with the source ``NOTICE``, which no
            service speaks. Set it before ``start``.
    """

    def __init__(
        self,
        ring: RingBuffer,
        services: list[Standby],
        report: Callable[[Event], None],
        *,
        first_audio_seconds: float = 10.0,
        language: str = "auto",
        phrases: Callable[[], Phrases | None] = lambda: None,
        close_timing: CloseTiming,
        can_suspend: bool = False,
        chime: str = NO_CHIME,
    ) -> None:
        super().__init__("synthesizer", report, close_timing)
        self._ring = ring
        self._first_audio_seconds = first_audio_seconds
        self._language, self._can_suspend = language, can_suspend
        self._chime = chime
        self._last_format = Format(24000)
        self._filler: int | None = None  # stream ID of the last filler sound
        self._make_phrases = phrases
        self._phrases: Phrases | None = None
        self.notice_audio: Callable[[], tuple[Format, bytes]] | None = None
        self._jobs: deque[SynthesisJob] = deque()  # the first job is being spoken
        self._written_job: SynthesisJob | None = None  # the last job that ended here; the speaker may still play it
        self._suspended: dict[str, SynthesisJob] = {}
        self._cancelled_job: SynthesisJob | None = None  # the job that was audible at the last cancellation
        self._end: EndSynthesis | None = None
        self._chain = ServiceChain(services, self._closer)
        self._cancel_lock = threading.Lock()
        self._pending_cancels = 0  # calls of cancel_all() and suspend() whose commands are still in the mailbox

    def run(self) -> None:
        for standby in self._standbys():
            standby.maintain()  # starts to dial, in parallel to the imports
        # Imported after READY, before the first text needs these modules.
        import agent.pipeline.text.passages
        import agent.pipeline.tts.session  # noqa: F401

        self._phrases = self._make_phrases()
        super().run()

    def begin(self, utterance: Utterance) -> None:
        """Append an utterance to the queue. For one without text, call ``append_text`` and ``complete`` afterwards."""
        self._mailbox.put(BeginUtterance(utterance))

    def append_text(self, utterance: str, text: str) -> None:
        """Append text to the utterance with this ID."""
        self._mailbox.put(TextPiece(utterance, text))

    def complete(self, utterance: str) -> None:
        """Mark the text of the utterance with this ID as complete."""
        self._mailbox.put(TextComplete(utterance))

    def cancel_all(self, reason: str, *, reconnect: bool = False) -> None:
        """Cancel all utterances. The ring buffer is empty when this returns.

        Args:
            reason: reported in the events.
            reconnect: whether to replace the standby connections, because they may be dead (after a suspend of the
                machine).
        """
        with self._cancel_lock:
            self._pending_cancels += 1
        self._clear_ring(reason)
        self._mailbox.put(CancelAll(reason, reconnect))

    def play_wake_sound(self) -> None:
        """Play the sound after a wake word, unless an utterance is queued or audio is being played."""
        self._mailbox.put(PlaySound())

    def play_filler_sound(self) -> None:
        """Play the filler sound while a reply is awaited, unless an utterance is queued or audio is being played.

        The next utterance ends the sound.
        """
        self._mailbox.put(PlaySound(is_filler=True))

    def suspend(self, utterance: str, reason: str) -> None:
        """Cancel all utterances, but keep the text of this one for ``resume`` or ``discard``.

        The ring buffer is empty when this returns.

        Args:
            utterance: the ID of the utterance.
            reason: reported in the events.
        """
        with self._cancel_lock:
            self._pending_cancels += 1
        self._clear_ring(reason)
        self._mailbox.put(SuspendSynthesis(utterance, reason))

    def resume(self, utterance: str, played_seconds: float) -> None:
        """Continue a suspended utterance with the interrupted sentence.

        Args:
            utterance: the ID of the utterance.
            played_seconds: the length of its audio that was played since its last start.
        """
        self._mailbox.put(ResumeSynthesis(utterance, played_seconds))

    def report_played_text(self, utterance: str, played_seconds: float) -> None:
        """Report the text that was audible as ``PlayedText``, if the utterance was suspended or cancelled last.

        Args:
            utterance: the ID of the utterance.
            played_seconds: the length of its audio that was played since its last start.
        """
        self._mailbox.put(RequestPlayedText(utterance, played_seconds))

    def discard(self, utterance: str) -> None:
        """Forget a suspended utterance."""
        self._mailbox.put(DiscardSuspended(utterance))

    def replace_services(
        self,
        services: list[Standby],
        first_audio_seconds: float,
        language: str = "auto",
        phrases: Phrases | None = None,
    ) -> None:
        """Use other services. An utterance that is already audible is completed by the service that started it."""
        self._mailbox.put(ReplaceServices(services, first_audio_seconds, language, phrases))

    def stop(self) -> None:
        """End the stage after the utterances in the queue have been spoken."""
        self._mailbox.put(EndSynthesis(drains=True))

    def abort(self) -> None:
        """End the stage immediately and cancel all utterances."""
        super().abort()
        self._clear_ring(SHUTDOWN)
        self._mailbox.put(EndSynthesis(drains=False))

    # --- the loop

    def _is_done(self) -> bool:
        return self._end is not None and (not self._end.drains or not self._jobs)

    def _standbys(self) -> Sequence[Standby]:
        return self._chain.all()

    def _timeouts(self) -> Sequence[float | None]:
        if not self._jobs or self._session is not None:
            return ()
        return self._jobs[0].deadline.remaining(), self._jobs[0].retry_delay.remaining()

    def _handle(self, command: SynthesisCommand) -> None:
        match command:
            case BeginUtterance(utterance):
                self._enqueue(utterance)
            case TextPiece(utterance, text):
                for job in (*self._jobs, *self._suspended.values()):
                    if job.utterance.id == utterance and not job.is_complete:
                        job.passages += job.splitter.feed(text)
            case TextComplete(utterance):
                for job in (*self._jobs, *self._suspended.values()):
                    if job.utterance.id == utterance:
                        job.end_text()
            case CancelAll(reason, reconnect):
                self._cancel_all(reason)
                if reconnect:
                    for standby in self._standbys():
                        standby.reconnect()
            case PlaySound(is_filler):
                self._play_sound(is_filler)
            case SuspendSynthesis(utterance, reason):
                written = [] if self._written_job is None else [self._written_job]
                self._suspended |= {
                    job.utterance.id: job for job in (*self._jobs, *written) if job.utterance.id == utterance
                }
                self._cancel_all(reason)
            case ResumeSynthesis(utterance, played_seconds):
                self._resume(utterance, played_seconds)
            case RequestPlayedText(utterance, played_seconds):
                self._report_played_text(utterance, played_seconds)
            case DiscardSuspended(utterance):
                self._suspended.pop(utterance, None)
            case ReplaceServices(services, seconds, language, phrases):
                self._first_audio_seconds, self._language, self._phrases = seconds, language, phrases
                self._replace_services(services)
            case EndSynthesis(drains):
                self._end = command
                for job in self._jobs:
                    job.end_text()
                if not drains:
                    self._close_session()
                    self._cancel_jobs(SHUTDOWN)

    def _advance(self) -> None:
        for standby in self._standbys():
            standby.maintain()
        self._receive()
        self._chain.close_unused(standby for job in self._jobs for standby in job.remaining_services)

    def _rest_seconds(self) -> float:
        format = self._jobs[0].format if self._jobs else None
        return 0.0 if format is None else format.seconds_of(self._ring.unread_bytes) - KEPT_SECONDS

    def _receive(self) -> bool:
        self._pump()
        self._speak()
        return True

    def _finish(self) -> None:
        self._cancel_late_utterances()
        if self._jobs or self._end is None or not self._end.drains:
            self._cancel_jobs(SHUTDOWN)
        self._ring.close()  # after stop(), the speaker still plays the audio in it
        self._close_services()
        if self._phrases is not None:
            self._phrases.close(self._close_deadline)
        self._session = None
        self._cancel_late_utterances()

    def _enqueue(self, utterance: Utterance) -> None:
        if self._end is not None:
            self.report(UtteranceCancelled(utterance.id, SHUTDOWN))
            return
        from agent.pipeline.text.passages import PassageSplitter, split_passages

        self._end_filler()
        services = self._chain.for_utterance(utterance)
        job = SynthesisJob(utterance, services, PassageSplitter(self._language))
        if utterance.text is not None:
            job.passages = split_passages(utterance.text, self._language)
            job.is_complete = True
        self._jobs.append(job)

    def _resume(self, utterance: str, played_seconds: float) -> None:
        job = self._suspended.pop(utterance, None)
        if self._end is not None or job is None:
            self.report(UtteranceCancelled(utterance, NOT_SUSPENDED if self._end is None else SHUTDOWN))
            return
        job.resume(played_seconds, self._chain.for_utterance(job.utterance), self._split)
        self._jobs.append(job)

    def _cancel_all(self, reason: str) -> None:
        """Cancel all jobs. The thread that called ``hush`` or ``suspend`` has already cleared the ring buffer."""
        self._close_session()
        self._cancelled_job = self._audible_job()
        self._cancel_jobs(reason)
        with self._cancel_lock:
            self._pending_cancels -= 1

    def _audible_job(self) -> SynthesisJob | None:
        """Return the job whose audio the speaker may be playing: the first job, or the job before it."""
        first = self._jobs[0] if self._jobs else None
        return first if first is not None and first.stream_id is not None else self._written_job

    def _report_played_text(self, utterance: str, played_seconds: float) -> None:
        job = self._suspended.get(utterance) or self._cancelled_job
        if job is None or job.utterance.id != utterance:
            return
        self.report(PlayedText(utterance, job.utterance.turn, job.played_text(played_seconds, self._split)))

    def _split(self, passage: str) -> list[str]:
        """Return the sentences of a passage."""
        from agent.pipeline.text.passages import split_sentences

        return split_sentences(passage, self._language)

    def _replace_services(self, services: list[Standby]) -> None:
        self._chain.replace(services)
        for job in self._jobs:
            if not job.has_audio:
                is_active = self._session is not None and job is self._jobs[0]
                others = self._chain.for_utterance(job.utterance)
                job.remaining_services = [*(job.remaining_services[:1] if is_active else []), *others]
                job.reset_deadline()

    def _play_sound(self, is_filler: bool) -> None:
        if self._jobs or self._pending_cancels or self._ring.unread_bytes:
            return
        from agent.pipeline.tts.chime import play_sound

        # Use the format of the last utterance: with another format the speaker might have to reopen the sound card.
        stream_id = play_sound(self._ring, self._last_format, is_filler=is_filler)
        self._filler = stream_id if is_filler else None

    def _end_filler(self) -> None:
        """Drop the rest of the filler sound, so that it does not delay the next utterance."""
        filler, self._filler = self._filler, None
        if filler is not None and self._ring.is_active(filler):
            self._clear_ring("the reply")

    def _cancel_jobs(self, reason: str) -> None:
        self._clear_ring(reason)
        for job in self._jobs:
            if job.stream_id is None:
                self.report(UtteranceCancelled(job.utterance.id, reason))
        self._jobs.clear()

    def _clear_ring(self, reason: str) -> None:
        """Empty the ring buffer; report the utterances that the speaker has not begun. The speaker reports the rest."""
        for dropped in self._ring.clear(reason):
            if not dropped.was_reading and not dropped.is_sound:
                self.report(UtteranceCancelled(dropped.utterance, reason, dropped_seconds=dropped.seconds))

    def _cancel_late_utterances(self) -> None:
        """Report the utterances that are still in the mailbox as cancelled, because each needs an end event."""
        for command in self._mailbox.take():
            match command:
                case BeginUtterance(Utterance(id=utterance)) | ResumeSynthesis(utterance):
                    self.report(UtteranceCancelled(utterance, SHUTDOWN))

    # --- one utterance, one service, one session at a time

    def _speak(self) -> None:
        while self._jobs:
            job = self._jobs[0]
            if self._session is not None:
                self._session.speak(
                    job.passages[job.done_count + self._session.passage_count :], is_complete=job.is_complete
                )
                return
            if job.done_count < len(job.passages):
                if not self._connect(job):
                    return
            elif job.is_complete:
                self._end_job(job)
            else:
                job.deadline = Deadline(None)
                return

    def _connect(self, job: SynthesisJob) -> bool:
        """Start a session, or try the next service; return ``False`` if the stage has to wait."""
        if not job.remaining_services:
            self._fail_job(job)
            return True
        if job.utterance.source == NOTICE and self.notice_audio is not None:
            return self._play(job, NOTICE, *self.notice_audio())
        job.phrase = job.phrase or self._find_phrase(job)
        if (phrase := job.phrase) is not None:
            return self._play(job, phrase.key.service, phrase.format, phrase.pcm)
        if job.utterance.source == TIMER and job.stream_id is None and not self._sound(job):
            return False
        # The next session of an audible utterance waits until the ring buffer has room for the audio of a session.
        if job.retry_delay.remaining() or (job.has_audio and self._ring.unread_bytes > self._ring.capacity_bytes // 8):
            return False
        job.retry_delay = Deadline(None)
        standby = job.remaining_services[0]
        if (connection := standby.take()) is None:
            return self._await_connection(job, standby)
        from agent.pipeline.tts.session import TtsSession

        self._session = TtsSession(connection, self._first_audio_seconds, job.format, can_fall_back=not job.has_audio)
        if not job.keeps_deadline:
            job.deadline = Deadline(None)
        return True

    def _await_connection(self, job: SynthesisJob, standby: Standby) -> bool:
        """Wait for a connection to the service in use, or try the next service; return ``False`` to wait."""
        job.attempt_started_at = job.attempt_started_at or time.monotonic()
        is_first_try = standby.failed_at < job.attempt_started_at
        are_others_open = all(each.breaker == OPEN for each in job.remaining_services[1:])
        if are_others_open and is_first_try:
            standby.retry_now()  # the outage may be over: the utterance gets one attempt without backoff
        if standby.error is not None and not job.is_worth_waiting(
            standby, is_first_try=is_first_try, are_others_open=are_others_open, limit_seconds=self._first_audio_seconds
        ):
            job.try_next_service(str(standby.error))
            return True
        retry_seconds = 0.0 if standby.is_dialing else standby.retry_in_seconds()
        return not job.wait_for(standby, retry_seconds, self._first_audio_seconds)

    def _find_phrase(self, job: SynthesisJob) -> Phrase | None:
        """Return the phrase of the service in use for the whole text, or ``None``; look it up once for each service."""
        if self._phrases is None or job.has_sought_phrase or job.stream_id is not None or not job.is_complete:
            return None
        job.has_sought_phrase = True
        return self._phrases.find(job.remaining_services[0], job.passages)

    def _play(self, job: SynthesisJob, service: str, format: Format, pcm: bytes) -> bool:
        """Play the complete audio of an utterance; return ``False`` if the utterance was cancelled."""
        if not self._write(job, service, format, pcm, is_phrase=True):
            return False
        job.mark_spoken(len(job.passages))
        self._end_job(job)
        return True

    def _pump(self) -> None:
        session, job = self._session, self._jobs[0] if self._jobs else None
        if session is None or job is None:
            return
        try:
            for pcm in session.pump():
                job.mark_spoken(job.done_count + session.spoken_count)
                if session.format is not None and not self._write(job, session.connection.service, session.format, pcm):
                    return
            job.mark_spoken(job.done_count + session.spoken_count)
        except AudioError as error:
            session.error = ServiceError(session.connection.service, str(error))
        if session.error is None and session.has_ended and session.passage_count and not session.has_audio:
            session.error = ServiceError(session.connection.service, "the session ended without audio")
        if session.error is not None:
            self._handle_error(job, session, session.error)
        elif session.has_ended:
            self._close_session()
            job.remaining_services[0].report_success()
            job.done_count += session.passage_count
            job.mark_spoken(job.done_count)
            if job.recording is not None and not session.has_end_mark:
                job.recording.drop()

    def _handle_error(self, job: SynthesisJob, session: TtsSession, error: ServiceError) -> None:
        is_connection_lost = session.is_lost and not error.permanent
        job.is_refused = job.is_refused or error.is_refused_request
        self._close_session()
        standby = job.remaining_services[0]
        standby.report_failure(
            str(error), permanent=error.permanent, status=error.status, retry_after_seconds=error.retry_after_seconds
        )
        if not (error.is_busy and len(job.remaining_services) == 1 and not job.has_audio):
            job.try_next_service(str(error), is_connection_lost=is_connection_lost)
        elif job.wait_for(standby, standby.retry_in_seconds(), self._first_audio_seconds):
            # Start again with the first passage, because the next connection knows no earlier passage.
            job.done_count, job.keeps_deadline = 0, True
            job.retry_delay = Deadline(standby.retry_in_seconds())

    def _write(self, job: SynthesisJob, service: str, format: Format, pcm: bytes, *, is_phrase: bool = False) -> bool:
        """Write audio into the ring buffer, waiting for room; return ``False`` if the utterance was cancelled.

        Raises:
            AudioError: The format of the audio differs from that of the stream.
        """
        stream_id, has_sounded = job.stream_id, job.stream_id is not None
        if stream_id is None:
            stream_id = self._begin_stream(job, format, starts_stored=is_phrase)
        if not job.has_audio:
            job.has_audio = True
            job.reset_deadline()
            phrases, is_whole = self._phrases, not is_phrase and not job.is_resumed
            if phrases is not None and is_whole and phrases.may_keep(job.utterance, job.remaining_services[0]):
                from agent.pipeline.tts.phrases import Recording

                job.recording = Recording(job.remaining_services[0])
            if not self._pending_cancels:
                self.report(AudioArrived(job.utterance.id, service, is_phrase))
                if not (has_sounded or self._write_chime(job, stream_id)):
                    return False
        # cancel_all() and suspend() clear the ring buffer in another thread. If the stream began during or just before
        # such a call, its audio must not be written. The command that cancels the job is in the mailbox, or follows.
        if self._pending_cancels:
            return False
        if format != job.format:
            raise AudioError(f"the audio format changed from {job.format} to {format}: one format is expected")
        if job.recording is not None:
            job.recording.append(format, pcm)
        return self._write_pcm(job, stream_id, pcm)

    def _sound(self, job: SynthesisJob) -> bool:
        """Play the chime of a timer before a service is connected; return ``False`` if it was cancelled."""
        if self._pending_cancels:
            return False
        return self._write_chime(job, self._begin_stream(job, self._last_format, starts_stored=True))

    def _begin_stream(self, job: SynthesisJob, format: Format, *, starts_stored: bool = False) -> int:
        job.stream_id = self._ring.begin(job.utterance.id, format, job.playout._replace(starts_stored=starts_stored))
        job.format = self._last_format = format
        if self._can_suspend:
            from agent.pipeline.tts.position import SpokenPosition

            job.position = SpokenPosition(format)
        return job.stream_id

    def _write_chime(self, job: SynthesisJob, stream_id: int) -> bool:
        chime = job.utterance.delivery.chime or self._chime
        has_none = job.utterance.turn > 0 or job.utterance.source == NOTICE or job.is_resumed
        if has_none or chime == NO_CHIME or job.format is None:
            return True
        from agent.pipeline.tts.chime import chime_pcm

        pcm = chime_pcm(chime, job.format)
        return not pcm or self._write_pcm(job, stream_id, pcm, is_speech=False)

    def _write_pcm(self, job: SynthesisJob, stream_id: int, pcm: bytes, *, is_speech: bool = True) -> bool:
        # A single write if there is room, as almost always: each write takes a lock twice.
        step = len(pcm) if len(pcm) <= self._ring.room_bytes else WRITE_BYTES
        for start in range(0, len(pcm), step):
            while not self._ring.wait_writable(stream_id, MAX_WAIT_SECONDS):
                self.heartbeat()
            piece = pcm[start : start + step]
            if not self._ring.write(stream_id, piece, self._rested_since):
                # The ring buffer was cleared, and it has informed the speaker. The command with the reason follows.
                self._close_session()
                self._written_job = self._jobs.popleft()
                return False
            if job.position is not None:
                job.position.add(piece, is_speech=is_speech)
        return True

    def _fail_job(self, job: SynthesisJob) -> None:
        self._written_job = self._jobs.popleft()
        reason = "; ".join(dict.fromkeys(job.failures)) or "no speech service is configured"
        if job.stream_id is not None:
            self._ring.end(job.stream_id, error=reason)
        else:
            self.report(UtteranceFailed(job.utterance.id, reason, no_service=not job.is_refused))

    def _end_job(self, job: SynthesisJob) -> None:
        self._written_job = self._jobs.popleft()
        if self._phrases is not None and job.recording is not None:
            self._phrases.keep(job.recording.standby, job.passages, job.recording)
        if job.stream_id is not None:
            self._ring.end(job.stream_id)
        else:
            self.report(UtterancePlayed(job.utterance.id, 0.0))  # the text has no words
