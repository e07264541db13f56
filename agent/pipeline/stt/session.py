"""One session with the transcription service: sends a speech segment and receives its transcripts."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from agent.audio.format import SPEECH
from agent.pipeline.stt.segment import SpeechSegment
from agent.services.protocols.codec import Audio, EarlyFinal, End, Event, Failure, Flush, Log, Transcript
from agent.services.service_log import ServiceLog
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection
    from agent.services.protocols.transcription import Client

NEVER = Deadline(None)

MAX_UNSENT_BYTES = 64000
"""Bytes that may wait in the connection before the next frame is sent: two seconds of speech."""

MAX_REPLAY_UNSENT_BYTES = 4 * 1024 * 1024
"""The same during a replay, which is faster than real time. The connection fails if much more waits in it."""

CONFIRM_MARGIN_SECONDS = 2.0
"""A final without a position covers at least the audio that the service had processed at the previous transcript, minus
this margin."""

MAX_SERVICE_SPEED = 1.1
"""Assumed speed, relative to real time, of a service that does not report positions. It has to be above 1: otherwise
the estimate never catches up after an outage, or with a sound card whose clock is fast."""

SETTLE_SECONDS = 1.0
"""Time without a message before more silence or the end mark is sent to a service that does not report its position."""

BLOCKED_SETTLE_SECONDS = 0.05
"""The same for a service that computes in its event loop: it sends no pong while it computes, so a pong shows that it
is idle."""

QUIET_PONGS = 2
"""A service that computes in its event loop reads the first ping together with the audio. It reads the second one after
it has transcribed that audio (measured with melvin-asr d3284fa)."""

MAX_PROBES = 4
"""Maximum number of probes after the first ``Flush``. melvin-asr (d3284fa) sends no words for the first audio, and
sends finals only when audio arrives. Each probe, six seconds of silence or more, makes it transcribe once more."""

PROBE_SECONDS = 6.0
"""Length of the silence that one ``Flush`` adds."""


class SttSession:
    """Sends one segment over one connection and collects its transcripts.

    ``send`` sends the audio that the connection accepts, and the end mark when the segment is complete and the service
    has answered all of it. ``pump`` returns the transcripts. The session is over when ``has_ended`` or ``failure`` is
    set. Not thread-safe; owned by the recognizer thread.

    Args:
        connection: an open connection; the session becomes its only user.
        segment: the audio to send, starting with its unanswered frames.
        answer_seconds: longest time without any message, before and after the end mark.
        confirms_finals: whether the words of a final transcript are never reported again (captions). Otherwise a lost
            session is repeated as a whole.
        end_by: from then on the end mark is sent as soon as all audio is sent, even if answers are missing.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        connection: Connection,
        segment: SpeechSegment,
        *,
        answer_seconds: float,
        confirms_finals: bool = False,
        end_by: Deadline = NEVER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = connection
        self.has_ended = False
        self.failure: str | None = None
        self.is_failure_permanent = False  # whether a retry after the failure is useless
        self.export_id: str | None = None
        self.end_by = end_by
        self._codec = cast("Client", connection.codec)
        self._segment = segment
        self._answer_seconds = answer_seconds
        self._confirms_finals = confirms_finals
        self._clock = clock
        self._start_seconds = segment.replay_from_seconds  # position in the segment at which this session starts
        # For each jump of the position: the bytes sent before it in this session, and the position in the segment after
        # it, in seconds.
        self._jumps: list[tuple[int, float]] = [(0, self._start_seconds)]
        self._sent_bytes = 0
        self._is_refused = False  # the connection accepts no more data; only its end is left to read
        self._log = ServiceLog(connection.service)
        self._words = 0  # number of words of this session's finals without a position
        self._message_count = self._codec.message_count
        self._active_at = clock()  # time of the last sent audio or received message
        self._progress_at = self._active_at  # the same, but repeated transcripts do not count
        self._last_state = ("", 0)
        self._owed_since = self._active_at  # time of the last message, or of the first unanswered audio after it
        self._response_seconds = 0.0  # longest wait for a message
        # Position up to which the service has certainly processed the audio, and when that was computed.
        self._processed_seconds, self._processed_at = self._start_seconds, self._active_at
        # Numbers of requested, received and ignored early finals.
        self._early_requests = self._early_finals = self._discarded_early_finals = 0
        # After the last audio:
        self._flush_count = 0
        self._has_answered_flush = self._has_final_since_flush = False
        self._is_settled = False
        self._end_sent = self._had_answer_before_end = False
        self._ping: int | None = None
        self._pinged_at = 0.0
        self._pong_seconds = 0.0  # longest wait for a pong
        self._quiet_pongs = 0  # since the last message
        segment.replay()

    @property
    def is_ready(self) -> bool:
        """Whether another frame can be sent without growing a backlog."""
        limit = MAX_REPLAY_UNSENT_BYTES if self._segment.is_replaying else MAX_UNSENT_BYTES
        if self.has_ended or self._is_refused or self._end_sent or self.failure is not None:
            return False
        return self.connection.unsent_bytes < limit

    def send(self) -> None:
        """Send frames while the connection accepts them, then the end mark if it is due."""
        while self.is_ready and (audio := self._segment.next_audio(self._codec.burst_bytes)) is not None:
            position, pcm = audio
            if abs(self._position(self._sent_bytes) - position) > 0.001:
                self._jumps.append((self._sent_bytes, position))
            self._sent_bytes += len(pcm)
            if self._codec.answers.is_complete:
                self._owed_since = self._clock()
            self._is_refused = not self.connection.send(Audio(pcm))
            self._active_at = self._progress_at = self._clock()
        if self._has_sent_all and not self._end_sent and self._is_end_due():
            self._end_sent = True
            self._had_answer_before_end = bool(self._message_count)
            self._active_at = self._progress_at = self._clock()
            self.connection.send(End())

    def request_early_final(self) -> None:
        """Ask for a final of the audio so far if the service offers that."""
        if self._codec.offers_early_finals and not self._end_sent:
            self._early_requests += 1
            self.connection.send(EarlyFinal())

    def discard_early_finals(self) -> None:
        """Ignore the answers to the requests so far: more speech follows."""
        self._discarded_early_finals = self._early_requests

    def pump(self) -> list[Transcript]:
        """Read from the connection; return the new transcripts in order."""
        transcripts = self.process(self.connection.pump())
        if self.has_ended or self.failure is not None:
            return transcripts
        if self.connection.is_closed:
            self._fail(self.connection.close_reason)
        elif self._is_stuck:
            self._fail(f"no message within {self._answer_seconds:g} s, although each audio message gets a reply")
        elif self._end_sent and self._clock() >= self._silence_until:
            transcripts += self.process(self._codec.receive_timeout())
            if not self._codec.message_count:
                self.has_ended = False
                self._fail(f"no transcript within {self._answer_seconds:g} s of the end mark")
            self.has_ended = self.failure is None
        return transcripts

    def process(self, events: list[Event]) -> list[Transcript]:
        """Process codec events, also those received while the connection closes; return their transcripts."""
        if self._codec.message_count != self._message_count:
            self._message_count = self._codec.message_count
            # Messages that arrive while frames are sent follow the rate of the audio. Only a wait without sending shows
            # the latency of the service.
            now = self._clock()
            self._response_seconds = max(self._response_seconds, now - self._active_at)
            self._active_at = self._owed_since = now
            self._has_answered_flush = True
            if self._ping is not None:  # the pong is missing so far: its wait is at least this long
                self._pong_seconds = max(self._pong_seconds, now - self._pinged_at)
            self._ping, self._quiet_pongs = None, 0
        return [transcript for event in events for transcript in self._process(event)]

    def next_timeout(self) -> float | None:
        """Return the seconds until the session has work to do without any received data."""
        if not self._has_sent_all:
            return None
        now = self._clock()
        times = [self._silence_until]
        if not self._end_sent:
            times.append(self._active_at + self._settle_seconds)
            if self._ping is not None:
                times.append(self._pinged_at + self._max_pong_seconds)
        seconds = max(0.01, min([time for time in times if time > now], default=now) - now)
        return seconds if self._end_sent else min(seconds, self.end_by.within(seconds).remaining() or 0.01)

    @property
    def missing_from_seconds(self) -> float | None:
        """Position in the segment from which the service has not answered the audio; ``None`` if it has answered all.

        Valid when the session has ended.
        """
        codec = self._codec
        if codec.transcribes_until_close or self._is_settled or codec.answers.is_complete:
            return None
        # vosk-server's last final, or the only answer of an unknown service.
        if codec.has_final_after_eof and (not codec.answers.padding_bytes or not self._had_answer_before_end):
            return None
        return self._position(codec.answers.answered_bytes)

    def close(self) -> None:
        """Log the summary of ignored messages."""
        self._log.close()

    # --- the end of the audio

    @property
    def _has_sent_all(self) -> bool:
        return self._segment.is_complete and not self._segment.pending_count

    @property
    def _silence_until(self) -> float:
        """The time at which the session stops waiting for the service.

        That is after ``answer_seconds`` without a message, or after twice that time with repeated transcripts only.
        """
        return min(self._active_at + self._answer_seconds, self._progress_at + 2 * self._answer_seconds)

    @property
    def _settle_seconds(self) -> float:
        if self._pong_seconds >= self._response_seconds / 2 > 0:
            return BLOCKED_SETTLE_SECONDS
        return max(SETTLE_SECONDS, 1.5 * self._response_seconds)

    @property
    def _max_pong_seconds(self) -> float:
        return max(SETTLE_SECONDS, 1.5 * self._response_seconds)

    @property
    def _is_stuck(self) -> bool:
        """Whether vosk-server has not replied to all audio of an incomplete segment for ``answer_seconds``."""
        answers = self._codec.answers
        if (
            self._segment.is_complete
            or self._codec.transcribes_until_close
            or answers.padding_bytes
            or answers.is_complete
        ):
            return False
        return self._clock() >= self._owed_since + self._answer_seconds

    def _is_end_due(self) -> bool:
        """Return whether the end mark is due; send the silence and the pings that show that all audio is answered."""
        if self._codec.transcribes_until_close:
            return True
        if self._clock() >= self._silence_until or self.end_by.is_expired:
            return True
        if self.connection.unsent_bytes:
            return False
        if not self._flush_count:
            # The current melvin-asr repeats words if its window of 15 s overflows while transcriptions wait.
            if self._codec.answers.padding_bytes and not self._is_idle(assumes_no_pongs=True):
                return False
            self._flush()
        if self._codec.answers.is_complete:
            return not self._codec.answers.padding_bytes or self._is_idle(assumes_no_pongs=True)
        if not self._codec.answers.padding_bytes or not self._is_idle(assumes_no_pongs=False):
            return False
        if not self._message_count or self._clock() < self._active_at + self._settle_seconds:
            return False
        if self._has_answered_flush and self._flush_count > 1 and not self._has_final_since_flush:
            self._is_settled = True
        elif self._flush_count > MAX_PROBES:
            self._is_settled = self._has_answered_flush
        elif self._has_answered_flush or self._flush_count == 1:
            self._flush()
            return False
        return self._is_settled

    def _flush(self) -> None:
        self._flush_count += 1
        self._has_answered_flush = self._has_final_since_flush = False
        # A probe has to be longer than one transcription takes: the current melvin-asr waits for that much audio.
        windows = 1 if self._flush_count == 1 else 1 + int(1.1 * self._response_seconds / PROBE_SECONDS)
        for _ in range(windows):
            self.connection.send(Flush())
        self._active_at = self._clock()
        self._ping, self._quiet_pongs = None, 0

    def _is_idle(self, *, assumes_no_pongs: bool) -> bool:
        """Return whether the service has answered two pings, one after the other, without a message between them.

        Args:
            assumes_no_pongs: whether a missing pong means that the service answers no pings.
        """
        if self._quiet_pongs >= QUIET_PONGS:
            return True
        now = self._clock()
        if self._ping is not None:
            if self.connection.answered_ping < self._ping:
                return assumes_no_pongs and now >= self._pinged_at + self._max_pong_seconds
            self._pong_seconds = max(self._pong_seconds, now - self._pinged_at)
            self._quiet_pongs += 1
            if self._quiet_pongs >= QUIET_PONGS:
                self._ping = None
                return True
        self._ping, self._pinged_at = self.connection.ping(), now
        return False

    # --- events

    def _process(self, event: Event) -> list[Transcript]:
        match event:
            case Transcript(is_early=True):
                self._early_finals += 1
                return [event] if self._early_finals > self._discarded_early_finals else []
            case Transcript():
                return self._track(event)
            case End(export_id):
                self.export_id = export_id
                self.has_ended = True
            case Failure(fatal=True):
                self._fail(f"received {event.received}; expected {event.expected}", is_permanent=event.permanent)
            case Failure():
                if reason := self._log.count_refused(event):
                    self._fail(reason)
            case Log(message):
                self._log.log_message(message)
        return []

    def _track(self, transcript: Transcript) -> list[Transcript]:
        """Update the positions; return the transcript without the words that an earlier connection has reported."""
        now = self._clock()
        state = transcript.text, self._codec.answers.answered_bytes
        if transcript.is_final or state != self._last_state:
            self._progress_at, self._last_state = now, state
        self._has_final_since_flush = self._has_final_since_flush or transcript.is_final
        if self._confirms_finals:
            transcript = self._without_reported(transcript)
            if transcript.is_final:
                self._confirm(transcript)
        if not transcript.is_final:
            self._segment.partial_until = self._position(self._codec.answers.answered_bytes)
        # Audio from a file or a replay is sent faster than real time and waits in the socket buffers, far ahead of the
        # service. So the estimated position grows at most as fast as the clock allows.
        elapsed = now - self._processed_at
        sent_seconds = self._segment.sent_seconds
        self._processed_seconds = min(sent_seconds, self._processed_seconds + MAX_SERVICE_SPEED * elapsed)
        self._processed_at = now
        return [transcript]

    def _confirm(self, final: Transcript) -> None:
        sent_seconds = self._segment.sent_seconds
        final_bytes = self._codec.answers.final_bytes
        ends = [word.end_seconds for word in final.words] if self._codec.transcribes_until_close else []
        if final_bytes is not None or ends:
            # The word times of melvin-asr are wrong (measured). So word times are used only if the server has announced
            # that it answers late.
            position = self._position(SPEECH.bytes_of(max(ends)) if final_bytes is None else final_bytes)
            self._segment.confirm(min(sent_seconds, position))
            self._words = 0
        else:
            estimate = max(self._start_seconds, self._processed_seconds - CONFIRM_MARGIN_SECONDS)
            self._segment.assume(estimate, sent_seconds, self._words)

    def _without_reported(self, transcript: Transcript) -> Transcript:
        """Remove the words that an earlier connection has reported for the same audio."""
        words = transcript.text.split()
        count = min(len(words), max(0, self._segment.reported_words - self._words))
        if transcript.is_final:
            self._words += len(words)
        if not count:
            return transcript
        timed = transcript.words[count:] if len(transcript.words) == len(words) else ()
        return transcript._replace(text=" ".join(words[count:]), words=timed)

    def _position(self, size: int) -> float:
        """Return the position in the segment after so many bytes of this session."""
        at, seconds = self._jumps[bisect_right(self._jumps, (min(size, self._sent_bytes), float("inf"))) - 1]
        return seconds + SPEECH.seconds_of(min(size, self._sent_bytes) - at)

    def _fail(self, reason: str, *, is_permanent: bool = False) -> None:
        if self.failure is None and not self.has_ended:
            self.failure, self.is_failure_permanent = reason, is_permanent
