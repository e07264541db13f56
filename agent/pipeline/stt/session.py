"""One session with the transcription service: sends a speech segment and receives its transcripts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.pipeline.stt.segment import SpeechSegment
from agent.services.protocols.codec import Audio, End, Event, Failure, Log, Transcript
from agent.services.service_log import ServiceLog
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

MAX_UNSENT_BYTES = 64000
"""Bytes that may wait in the connection before the next frame is sent: two seconds of speech."""

MAX_REPLAY_UNSENT_BYTES = 4 * 1024 * 1024
"""The same during a replay, which is not bound to real time. The connection fails if much more waits in it."""

MAX_SETTLE_SECONDS = 8.0
CONFIRM_MARGIN_SECONDS = 2.0
"""A final without words has no end position. It certainly covers the audio up to this long before the previous
message."""

MAX_SERVICE_SPEED = 1.1
"""Assumed speed of a service relative to real time, where it does not report positions. It has to be above 1: otherwise
the estimate never catches up after an outage, or with a sound card whose clock is fast."""


class SttSession:
    """Sends one segment over one connection and collects its transcripts.

    ``send`` sends the audio that the connection accepts, and the end mark when the segment is complete and the service
    has settled. ``pump`` returns the transcripts. The session is over when ``has_ended`` or ``failure`` is set. Not
    thread-safe; owned by the recognizer thread.

    Args:
        connection: an open connection; the session becomes its only user.
        segment: the audio to send, starting with its unanswered frames.
        settle_seconds: silence of the service before the end mark is sent, or longer if its transcripts arrive more
            slowly; 0 sends the end mark immediately.
        answer_seconds: limit for the last transcript after the end mark.
        confirms_finals: whether the audio that a final transcript covers is never sent again (captions). Otherwise a
            lost session is repeated as a whole.
        clock: monotonic time in seconds.
    """

    def __init__(
        self,
        connection: Connection,
        segment: SpeechSegment,
        *,
        settle_seconds: float,
        answer_seconds: float,
        confirms_finals: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.connection = connection
        self.has_ended = False
        self.lost_tail = False  # whether the service ended without a final transcript of the last audio
        self.failure: str | None = None
        self.is_permanent = False  # whether a retry of the failure is useless
        self.export_id: str | None = None
        self._segment = segment
        self._settle_seconds, self._answer_seconds = settle_seconds, answer_seconds
        self._confirms_finals = confirms_finals
        self._clock = clock
        self._start_seconds = segment.replay_from_seconds  # position in the segment at which this session starts
        self._active_at = clock()  # time of the last sent frame or received transcript
        self._progress_at, self._last_text = self._active_at, ""  # the same, without repeated transcripts
        self._response_seconds = 0.0  # longest wait for a transcript
        # Position up to which the service has certainly processed the audio, and when that was computed.
        self._processed_seconds, self._processed_at = self._start_seconds, self._active_at
        self._answer_deadline: Deadline | None = None  # set with the end mark
        self._has_text = False
        self._log = ServiceLog(connection.service)
        self._is_refused = False  # the connection accepts no more data; only its end is left to read
        segment.replay()

    @property
    def is_ready(self) -> bool:
        """Whether another frame can be sent without growing a backlog."""
        limit = MAX_REPLAY_UNSENT_BYTES if self._segment.is_replaying else MAX_UNSENT_BYTES
        if self.has_ended or self._is_refused or self.failure is not None:
            return False
        return self.connection.unsent_bytes < limit

    def send(self) -> None:
        """Send frames while the connection accepts them, then the end mark if it is due."""
        while self.is_ready and (frame := self._segment.next_frame()) is not None:
            self._is_refused = not self.connection.send(Audio(frame))
            self._active_at = self._progress_at = self._clock()
        if self._has_sent_all and self._answer_deadline is None and self._unsettled_seconds() <= 0:
            self._answer_deadline = Deadline(self._answer_seconds)
            self.connection.send(End())

    def pump(self) -> list[Transcript]:
        """Read from the connection; return the new transcripts in order."""
        transcripts = self.process(self.connection.pump())
        if self.has_ended or self.failure is not None:
            return transcripts
        if self.connection.is_closed:
            self._fail(self.connection.close_reason)
        elif self._answer_deadline is not None and self._answer_deadline.is_expired:
            transcripts += self.process(self.connection.codec.receive_timeout())
            if not self._has_text:
                self.has_ended = False
                self._fail(f"no transcript within {self._answer_seconds:g} s of the end mark")
            self.has_ended = self.failure is None
        return transcripts

    def process(self, events: list[Event]) -> list[Transcript]:
        """Process codec events, also those received while the connection closes; return their transcripts."""
        return [transcript for event in events for transcript in self._process(event)]

    def next_timeout(self) -> float | None:
        """Return the seconds until the session has work to do without any received data."""
        if self.connection.has_pending:
            return 0.0
        if self._answer_deadline is not None:
            return self._answer_deadline.remaining()
        return max(0.01, self._unsettled_seconds()) if self._has_sent_all and self._settle_seconds else None

    def close(self) -> None:
        """Log the summary of ignored messages."""
        self._log.close()

    @property
    def _has_sent_all(self) -> bool:
        return self._segment.is_complete and not self._segment.pending_count

    def _unsettled_seconds(self) -> float:
        """Return how long the end mark has to wait; 0 or less if it is due."""
        if not self._settle_seconds:
            return 0.0
        if self.connection.unsent_bytes:
            return self._settle_seconds
        settle_seconds = min(MAX_SETTLE_SECONDS, max(self._settle_seconds, 1.5 * self._response_seconds))
        # A service that repeats the same partial indefinitely must not delay the end mark indefinitely.
        return min(self._active_at + settle_seconds, self._progress_at + self._answer_seconds) - self._clock()

    def _process(self, event: Event) -> list[Transcript]:
        match event:
            case Transcript():
                self._track(event)
                return [event]
            case End(export_id):
                self.export_id = export_id
                self.has_ended = True
                self.lost_tail = self._has_text and not getattr(self.connection.codec, "has_final_after_eof", True)
            case Failure(fatal=True):
                self._fail(f"received {event.received}; expected {event.expected}", is_permanent=event.permanent)
            case Failure():
                if reason := self._log.log_refused(event):
                    self._fail(reason)
            case Log(message):
                self._log.log_message(message)
        return []

    def _track(self, transcript: Transcript) -> None:
        """Update the timing and the confirmed audio."""
        now = self._clock()
        if transcript.is_final or transcript.text != self._last_text:
            self._progress_at, self._last_text = now, transcript.text
        # Transcripts that arrive while frames are sent follow the rate of the audio. Only a wait without sending shows
        # the latency of the service.
        self._response_seconds = max(self._response_seconds, now - self._active_at)
        self._active_at = now
        self._has_text = self._has_text or bool(transcript.text)
        sent_seconds = self._segment.sent_seconds
        if transcript.is_final and self._confirms_finals:
            ends = [word.end_seconds for word in transcript.words]
            estimate = max(self._start_seconds, self._processed_seconds - CONFIRM_MARGIN_SECONDS)
            self._segment.confirm(min(sent_seconds, self._start_seconds + max(ends)) if ends else estimate)
        # Audio from a file or a replay is sent faster than real time and waits in the socket buffers, far ahead of the
        # service. So the position grows only with the clock.
        elapsed = now - self._processed_at
        self._processed_seconds = min(sent_seconds, self._processed_seconds + MAX_SERVICE_SPEED * elapsed)
        self._processed_at = now

    def _fail(self, reason: str, *, is_permanent: bool = False) -> None:
        if self.failure is None and not self.has_ended:
            self.failure, self.is_permanent = reason, is_permanent
