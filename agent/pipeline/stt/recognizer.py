"""The stage that sends the frames of speech to the transcription service and reports its transcripts."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

from agent.audio.format import SPEECH
from agent.pipeline.capture.endpointer import (
    Endpointer,
    Pause,
    Resume,
    SpeechEnd,
    SpeechFrame,
    SpeechStart,
    VadEvent,
)
from agent.pipeline.capture.frame_queue import FrameSource
from agent.pipeline.events import (
    FRAME_QUEUE_OVERRUN,
    Event,
    Gap,
    Heard,
    NearMiss,
    Partial,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    StopWord,
    WakePaused,
    Woken,
)
from agent.pipeline.service_stage import MAX_WAIT_SECONDS, CloseTiming, ServiceStage
from agent.pipeline.state import LISTEN_SECONDS
from agent.pipeline.stt.segment import SpeechSegment, seconds_of, to_heard
from agent.pipeline.stt.session import NEVER, SttSession
from agent.services.connection.standby import Standby
from agent.services.protocols.codec import Transcript
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

RELEASE_SECONDS = 0.3
"""Upper bound for closing the connection to a wake word service."""
ANSWER_SECONDS = 30.0
"""Longest time without any message of the service while a transcript is missing."""

MAX_LOSSES = 3
"""A segment that has lost more connections than this without progress is abandoned: its audio may be the cause."""

MAX_FRAMES_PER_READ = 10
"""One second of frames of the default length (0.1 s), which some services accept as one message."""


@distinct
class SetListening(NamedTuple):
    """Start or stop listening. Immutable."""

    is_enabled: bool


@distinct
class HoldGateOpen(NamedTuple):
    """Let speech that starts within ``seconds`` begin a segment without a wake word. Immutable."""

    seconds: float


@distinct
class SetSpeaking(NamedTuple):
    """Note whether the device speaks. Immutable."""

    is_speaking: bool


@distinct
class DiscardAudio(NamedTuple):
    """Discard the audio captured so far. Immutable."""

    reason: str


@distinct
class ReplaceService(NamedTuple):
    """Use another service from the next segment on. Immutable."""

    standby: Standby
    answer_seconds: float


@distinct
class AbortRecognition(NamedTuple):
    """End the stage without waiting for transcripts. Immutable."""


RecognitionCommand = SetListening | HoldGateOpen | SetSpeaking | DiscardAudio | ReplaceService | AbortRecognition


class Recognizer(ServiceStage[RecognitionCommand, SttSession]):
    """Sends the frames that the endpointer selects and reports the transcripts.

    Every speech segment ends in one ``Heard``, also if the service recognized no words. In captions mode every final
    transcript is a ``Heard``. While the service is unavailable, the segments keep their audio. After a lost connection
    the unanswered audio is sent again. Audio that is lost is reported as a ``Gap``. The stage ends after the frames
    have ended and the last transcript has arrived.

    The public methods are thread-safe; everything else is owned by the recognizer thread.

    Args:
        frames: the audio, 16 kHz mono s16le.
        endpointer: selects the frames to send.
        standby: connection to the transcription service; the stage closes it.
        report: receives the events, in the recognizer thread.
        captions: whether every final transcript is reported separately.
        outage_seconds: length of the audio to keep, and longest wait, while the service is unavailable.
        answer_seconds: longest time without any message of the service while a transcript is missing.
        find_stop_word: returns the stop word if the transcript of a segment so far is a stop word, else ``None``.
        split_wake_word: returns the wake word at the start of a transcript (empty if there is none), and the rest of
            the transcript.
        clean: removes the echo from a frame, given the number of its first sample. Called for every frame, also while
            the stage does not listen.
        stop_seconds: time after ``stop`` in which the service may answer before the end mark is sent; ``None``: no
            limit.
        close_timing: limits for closing the connections.
        max_wait_seconds: time between two heartbeats of an idle stage.
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
        find_stop_word: Callable[[str], str | None] | None = None,
        split_wake_word: Callable[[str], tuple[str, str]] | None = None,
        clean: Callable[[bytes, int], bytes] | None = None,
        stop_seconds: float | None = None,
        close_timing: CloseTiming,
        max_wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> None:
        super().__init__("recognizer", report, close_timing, max_wait_seconds)
        self._frames, self._endpointer, self._standby = frames, endpointer, standby
        self._captions = captions
        self._outage_seconds, self._answer_seconds = outage_seconds, answer_seconds
        self._find_stop_word = find_stop_word
        self._split_wake_word = split_wake_word or (lambda text: ("", text))
        self._clean = clean
        self._stop_seconds = stop_seconds
        self._end_by = NEVER
        self._replacement: ReplaceService | None = None
        self._segments: deque[SpeechSegment] = deque()  # the first one is being transcribed
        self._skipped_count = 0  # given up segments after the first one, whose Heard is not reported yet
        self._away_since: float | None = None
        self._position_seconds = 0.0  # audio read from the source since the microphone was opened
        self._speech_until_seconds = -math.inf  # end of the last speech, on the time scale of _position_seconds
        self._is_aborted = False
        self._is_listening = True

    def set_listening(self, is_enabled: bool) -> None:
        """Start or stop listening. While it is off, frames are discarded; an open segment ends."""
        self._mailbox.put(SetListening(is_enabled))

    def open_gate(self, seconds: float) -> None:
        """Let speech that starts within ``seconds`` begin a segment without a wake word."""
        self._mailbox.put(HoldGateOpen(seconds))

    def set_speaking(self, is_speaking: bool) -> None:
        """Note whether the device speaks: only then stop words are found."""
        self._mailbox.put(SetSpeaking(is_speaking))

    def replace_service(self, standby: Standby, *, answer_seconds: float) -> None:
        """Use another service from the next segment on.

        Args:
            standby: connection to the new service; the stage closes the old one.
            answer_seconds: as for the constructor.
        """
        self._mailbox.put(ReplaceService(standby, answer_seconds))

    def reset_after_suspend(self, reason: str) -> None:
        """Discard the audio from before a suspend: it is too old to be transcribed and answered."""
        self._mailbox.put(DiscardAudio(reason))

    def stop(self) -> None:
        """End the input; the segments so far still receive their transcripts."""
        self._end_by = Deadline(self._stop_seconds)
        self._frames.close()

    def abort(self) -> None:
        """End without waiting for transcripts."""
        self._frames.close()
        super().abort()
        self._mailbox.put(AbortRecognition())

    # --- the loop

    def _is_done(self) -> bool:
        return self._is_aborted or (self._has_no_more_frames and not self._segments)

    def _standbys(self) -> Sequence[Standby]:
        return [self._standby] if self._replacement is None else [self._standby, self._replacement.standby]

    def _inputs(self) -> Sequence[FrameSource]:
        # The frames may end at any time, also after the stage last checked for it. Their end has to wake the stage.
        return [self._frames] if self._wants_frames() or self._has_new_end else []

    def _handle(self, command: RecognitionCommand) -> None:
        match command:
            case SetListening(is_enabled):
                self._is_listening = is_enabled
                if not is_enabled:
                    self._process_vad(self._endpointer.reset())
            case HoldGateOpen(seconds):
                self._endpointer.open_gate(seconds)
            case SetSpeaking(is_speaking):
                self._endpointer.set_speaking(is_speaking)
            case DiscardAudio(reason):
                self._discard_audio(reason)
            case ReplaceService():
                if self._replacement is not None:
                    self._closer.close_standby(self._replacement.standby)
                self._replacement = command
            case AbortRecognition():
                self._is_aborted = True

    def _advance(self) -> None:
        self._switch_service()
        self._standby.maintain()
        self._read_frames()
        self._pump()
        self._send()

    def _finish(self) -> None:
        events = self._close_services()
        self._endpointer.release(self._close_deadline.within(RELEASE_SECONDS))
        session, self._session = self._session, None
        if session is not None and self._segments:
            # The last transcripts may arrive while the connection closes.
            for transcript in session.process(events):
                self._process_transcript(self._segments[0], transcript)
            if session.has_ended:
                self._finish_segment(self._segments.popleft(), session)
        while self._segments:
            self._give_up(self._segments.popleft(), "the recognizer ended before the transcript")
        self._report_overflow()
        if (seconds := self._drain_frames()) > 0:
            self.report(Gap(self._position_seconds, seconds, "the recognizer ended before it was sent"))
        self._frames.release()

    # --- frames in

    @property
    def _has_no_more_frames(self) -> bool:
        return self._frames.is_closed and not self._frames.frame_count

    @property
    def _has_new_end(self) -> bool:
        """Whether the frames have ended and the last segment is still open."""
        return self._has_no_more_frames and bool(self._segments) and not self._segments[-1].is_complete

    def _wants_frames(self) -> bool:
        """Return whether to read frames: always with voice activity detection, else only as fast as they are sent."""
        if self._has_no_more_frames:
            return False
        if not self._endpointer.continuous or not self._segments:
            return True
        return self._session is not None and self._session.is_ready and not self._segments[0].unsent_count

    def _read_frames(self) -> None:
        while self._wants_frames():
            # Overruns are reported only when frames are read, so that all drops during one outage are one gap.
            self._report_overflow()
            if not (frames := self._frames.take(MAX_FRAMES_PER_READ)):
                break
            for raw in frames:
                start = round(self._position_seconds * SPEECH.rate)
                frame = raw if self._clean is None else self._clean(raw, start)
                self._position_seconds += seconds_of([raw])
                if self._is_listening:
                    self._process_vad(self._endpointer.process(frame))
            if self._endpointer.continuous:
                self._send()
        if self._has_new_end:
            self._process_vad(self._endpointer.reset() or [SpeechEnd(0.0)])

    def _process_vad(self, vad_events: list[VadEvent]) -> None:
        for vad_event in vad_events:
            match vad_event:
                case SpeechStart():
                    seconds = seconds_of(each.frame for each in vad_events if isinstance(each, SpeechFrame))
                    start = max(0.0, self._position_seconds - seconds)
                    keeps_unsent = self._endpointer.continuous
                    self._segments.append(SpeechSegment(self._outage_seconds, start, keeps_unsent=keeps_unsent))
                    if not self._endpointer.continuous:
                        self.report(SpeechStarted(self._position_seconds - self._speech_until_seconds))
                case SpeechFrame(frame):
                    self._segments[-1].append(frame)
                case Woken() | WakePaused() | NearMiss() | StopWord():
                    self.report(vad_event)
                case Pause():
                    self._segments[-1].wants_early = True
                case Resume():
                    self._discard_early_final(self._segments[-1])
                case SpeechEnd(ago_seconds, is_cut):
                    self._segments[-1].is_complete = True
                    self._segments[-1].is_cut = is_cut
                    self._speech_until_seconds = self._position_seconds - ago_seconds
                    self._limit_backlog()
                    if not self._endpointer.continuous:
                        self.report(SpeechEnded(ago_seconds))
                    self._finish_early()

    def _discard_early_final(self, segment: SpeechSegment) -> None:
        if segment.early is not None:
            self.report(SpeechResumed())
        segment.early, segment.wants_early = None, False
        if self._session is not None and segment is self._segments[0]:
            self._session.discard_early_finals()

    def _finish_early(self) -> None:
        """End the first segment with its early final, if possible, instead of waiting for the last final.

        The early final is valid if the segment is complete, because no speech has followed it.
        """
        segment = self._segments[0]
        if segment.early is None or not segment.is_complete or self._session is None:
            return
        self._session.send()  # the rest of the silence and the end mark
        if segment.pending_count:
            return
        segment.partial = ""
        self._add_final(segment, segment.early)
        self._end_segment(segment, self._session)

    def _limit_backlog(self) -> None:
        """Give up the oldest waiting segments until the waiting segments together fit into ``outage_seconds``."""
        while len(self._segments) > 2:
            waiting = list(self._segments)[1:-1]
            if sum(each.seconds for each in waiting) <= self._outage_seconds:
                return
            del self._segments[1]
            for gap in waiting[0].discard():
                self.report(Gap(*gap, f"{self._standby.service} was away or slow for longer than audio is kept"))
            self._skipped_count += 1

    def _report_overflow(self) -> None:
        gap = self._frames.take_gap()
        if gap is not None:
            self._skip(gap[1])
            self.report(Gap(*gap, FRAME_QUEUE_OVERRUN))

    def _skip(self, seconds: float) -> None:
        """Count audio of the source that is not part of any segment."""
        self._position_seconds += seconds
        if self._segments and not self._segments[-1].is_complete:
            self._segments[-1].skip(seconds)

    def _drain_frames(self) -> float:
        """Discard the waiting frames; return their length in seconds."""
        return seconds_of(self._frames.take(self._frames.frame_count))

    def _discard_audio(self, reason: str) -> None:
        self._report_overflow()
        seconds = self._drain_frames()
        gaps = [(self._position_seconds, seconds)] if seconds and self._is_listening else []
        self._skip(seconds)
        self._process_vad(self._endpointer.reset())
        may_be_answered = self._endpointer.continuous and self._session is not None
        for segment in self._segments:
            gaps += segment.discard_pending() if may_be_answered else segment.discard()
        for gap in gaps:
            self.report(Gap(*gap, reason))
        if not self._endpointer.continuous:
            self._end_session()
            while self._segments:
                self._give_up(self._segments.popleft(), reason)
        self._standby.reconnect()

    # --- the first segment, in one session

    def _switch_service(self) -> None:
        replacement = self._replacement
        if replacement is not None and not self._segments and self._session is None:
            self._closer.close_standby(self._standby)
            self._standby, self._answer_seconds = replacement.standby, replacement.answer_seconds
            self._replacement = None
            self._away_since = None

    def _send(self) -> None:
        while self._segments:
            segment = self._segments[0]
            if self._session is not None:
                self._session.end_by = self._end_by
                self._session.send()
                if segment.wants_early and not segment.pending_count:
                    segment.wants_early = False
                    self._session.request_early_final()
                if (gap := segment.take_overflow_gap()) is not None:
                    self.report(Gap(*gap, f"{self._standby.service} was away for longer than audio is kept"))
                return
            if not self._connect(segment):
                return

    def _connect(self, segment: SpeechSegment) -> bool:
        """Start a session, or give up the segment; return ``False`` if the stage has to wait for a connection."""
        connection = self._standby.take()
        if connection is not None:
            if (gap := segment.take_replay_gap()) is not None:
                self.report(
                    Gap(*gap, f"the connection to {self._standby.service} was lost, and the audio is no longer kept")
                )
            self._session = SttSession(
                connection,
                segment,
                answer_seconds=self._answer_seconds,
                confirms_finals=self._captions,
            )
            return True
        if self._away_since is None and self._standby.error is not None:
            self._away_since = time.monotonic()
        if self._is_hopeless(segment):
            self._segments.popleft()
            error = self._standby.error
            self._give_up(segment, f"{self._standby.service} could not be reached" if error is None else str(error))
            return True
        return False

    def _is_hopeless(self, segment: SpeechSegment) -> bool:
        if not segment.is_complete or self._away_since is None:
            return False
        is_permanent = self._standby.error is not None and self._standby.error.permanent
        is_long_away = time.monotonic() - self._away_since > self._outage_seconds
        return is_permanent or is_long_away or segment.losses > MAX_LOSSES

    def _pump(self) -> None:
        session = self._session
        if session is None or not self._segments:
            return
        segment = self._segments[0]
        for transcript in session.pump():
            self._process_transcript(segment, transcript)
            if self._session is not session:
                return  # an early final has ended the segment
        if session.failure is not None:
            self._lose_connection(segment, session.failure, is_permanent=session.is_failure_permanent)
        elif session.has_ended:
            self._end_segment(segment, session)

    def _end_segment(self, segment: SpeechSegment, session: SttSession) -> None:
        self._report_success()
        self._segments.popleft()
        self._finish_segment(segment, session)
        has_words = any(each.text.strip() for each in segment.finals)
        if has_words or session.missing_from_seconds is None:
            # If the service did not answer the whole segment, a lack of words does not mean that the sound is noise.
            self._endpointer.report_segment(has_words=has_words, is_cut=segment.is_cut)
        self._end_session()

    def _process_transcript(self, segment: SpeechSegment, transcript: Transcript) -> None:
        if transcript.is_final and not transcript.is_early:
            self._report_success()
            self._add_final(segment, transcript)
            if segment.early is not None:
                # This final replaces the early final: it covers the same audio, but its words may differ. Request
                # another early final.
                segment.early, segment.wants_early = None, not segment.is_complete
        else:
            segment.early = transcript if transcript.is_early else None
            segment.partial = transcript.text
            self.report(Partial(segment.text()))
            self._report_stop_word(segment)
            if transcript.is_early and not segment.is_complete:
                self.report(SpeechPaused(self._split_wake_word(segment.text())[1]))
            self._finish_early()
        if not segment.is_complete:
            self._process_vad(self._endpointer.report_text(segment.text()))

    def _add_final(self, segment: SpeechSegment, transcript: Transcript) -> None:
        segment.partial = ""
        if not transcript.text:
            return  # an empty final only ends the partial
        if self._captions:
            self.report(to_heard([transcript]))
        else:
            segment.finals.append(transcript)
            self._report_stop_word(segment)

    def _report_stop_word(self, segment: SpeechSegment) -> None:
        if self._find_stop_word is None or segment.has_stop_word:
            return
        if (word := self._find_stop_word(self._split_wake_word(segment.text())[1])) is not None:
            segment.has_stop_word = True
            self.report(StopWord(word))

    def _report_success(self) -> None:
        self._away_since = None
        self._standby.report_success()

    def _finish_segment(self, segment: SpeechSegment, session: SttSession | None = None) -> None:
        """Report the one ``Heard`` of a segment that gets no further transcript."""
        if segment.partial:
            # The service sent no final for its last partial: the partial is the result.
            self._add_final(segment, Transcript(segment.partial, is_final=True))
        missing_from = None if session is None else session.missing_from_seconds
        if missing_from is not None and missing_from < segment.sent_seconds:
            seconds = segment.sent_seconds - missing_from
            limit = "before the session had to end" if self._end_by.is_expired else f"within {self._answer_seconds:g} s"
            reason = f"{self._standby.service} sent no transcript of it {limit}"
            self.report(Gap(segment.captured_at(missing_from), seconds, reason))
        for gap in segment.discard_pending():
            self.report(Gap(*gap, "the session ended before it was sent"))
        export_id = None if session is None else session.export_id
        if not self._captions:
            self._report_heard(to_heard(segment.finals or segment.best, export_id))
            while self._skipped_count:  # in the order of the segments
                self._skipped_count -= 1
                self.report(to_heard([]))
        elif export_id:
            self.report(to_heard([], export_id))

    def _report_heard(self, heard: Heard) -> None:
        """Report the transcript of a segment, and the wake word that it begins with."""
        word, text = self._split_wake_word(heard.text)
        if word and text:
            self.report(Woken(word))
        self.report(heard._replace(text=text, words=heard.words[len(heard.text.split()) - len(text.split()) :]))
        if word and not text:  # the question follows
            self._endpointer.open_gate(LISTEN_SECONDS)
            self.report(Woken(word))

    def _give_up(self, segment: SpeechSegment, reason: str) -> None:
        if self._captions and segment.partial:
            segment.confirm(segment.partial_until)
            self._add_final(segment, Transcript(segment.partial, is_final=True))
        for gap in segment.discard():
            self.report(Gap(*gap, reason))
        if not self._captions:
            segment.restart_transcript()
        self._finish_segment(segment)

    def _lose_connection(self, segment: SpeechSegment, reason: str, *, is_permanent: bool) -> None:
        """End a failed session; the next session sends the unanswered audio again."""
        segment.count_loss()
        can_rewind = self._captions and segment.losses <= MAX_LOSSES
        is_permanent = is_permanent or (self._captions and not can_rewind and not segment.is_complete)
        self._standby.report_failure(reason, permanent=is_permanent, transient=True)
        self._away_since = self._away_since or time.monotonic()
        if not self._captions:
            # A turn is transcribed again as a whole. Captions continue instead, because some are already reported.
            segment.restart_transcript()
        elif can_rewind and self._frames.rewind(segment.confirmed_bytes):
            self._position_seconds = segment.start_seconds + segment.rewind()
        self._end_session()

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
        self._close_session()
        if not self._endpointer.continuous:
            # The next connection is requested only now: some servers serve one client at a time, and a second
            # connection would receive the transcripts of the first connection.
            self._standby.request()
