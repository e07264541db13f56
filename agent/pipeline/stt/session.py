"""One session with the transcription service: a stretch of speech out, its transcripts in, and how it ended."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from agent.pipeline.stt.segment import SpeechSegment, seconds_of
from agent.services.protocols.codec import Audio, End, Event, Failure, Log, Transcript
from agent.services.service_log import ServiceLog
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

AHEAD_BYTES = 64000
"""How much may wait in a connection before the next frame is taken: two seconds of speech."""

AGAIN_BYTES = 4 * 1024 * 1024
"""The same for what is sent again, which nobody waits for in real time; more than a connection keeps would end it."""

MOST_SETTLE_SECONDS = 8.0
MARGIN_SECONDS = 2.0
"""A final without words says nothing of where it ends; so much before the message before it is surely in it."""

CATCHING_UP = 1.1
"""How fast a service hears what waits for it, where it does not say: faster than it is spoken, or it would never be up
to date again after an outage, nor with a card whose clock is fast."""


class SttSession:
    """Sends a stretch and collects what the service makes of it.

    ``send`` hands over what can be sent, and the end mark once the stretch is over and the service has settled: not
    before it has been silent for ``settle_seconds``, or for longer where it takes longer between two transcripts;
    0 sends it at once. ``pump`` gives the transcripts as they come. Then ``ended`` is true once the service has
    said all, or ``failure`` says what went wrong (``permanent``: and always will). ``forgetful``: the service had no
    final for what came last. ``continued``: what a final covers is never sent again, should the session break off;
    otherwise the stretch is transcribed anew as a whole.
    """

    def __init__(
        self,
        connection: Connection,
        stretch: SpeechSegment,
        *,
        settle_seconds: float,
        answer_seconds: float,
        continued: bool = False,
    ) -> None:
        self.connection = connection
        self.ended = False
        self.forgetful = False
        self.failure: str | None = None
        self.permanent = False
        self.export_id: str | None = None
        self._stretch = stretch
        self._settle_seconds, self._answer_seconds = settle_seconds, answer_seconds
        self._continued = continued
        self._began_at = stretch.kept_from()  # where in the stretch this session's sound begins
        self._moved_at = time.monotonic()  # when a frame was sent last, or a transcript came
        self._new_at, self._said = self._moved_at, ""  # the same, but for transcripts that say what the last one said
        self._pace = 0.0  # the longest that a transcript was waited for
        self._marked, self._marked_at = self._began_at, self._moved_at  # how far it was heard, at the message before
        self._answer_by: Deadline | None = None  # once the end mark has been given
        self._understood = False
        self._remarks = ServiceLog(connection.service)
        self._again = deque(stretch.again())  # what has to be said once more, before all that is new
        self._refused = False  # the connection takes nothing more: its end is only to be read

    @property
    def ready(self) -> bool:
        """Whether more can be sent without piling up."""
        ahead = AGAIN_BYTES if self._again else AHEAD_BYTES
        return not self.ended and not self._refused and self.failure is None and self.connection.unsent_bytes < ahead

    def send(self) -> None:
        stretch = self._stretch
        while self.ready and (frame := self._again.popleft() if self._again else stretch.next()) is not None:
            self._refused = not self.connection.send(Audio(frame))
            self._moved_at = self._new_at = time.monotonic()
        if self._all_sent and self._answer_by is None and self._unsettled_seconds() <= 0:
            self._answer_by = Deadline(self._answer_seconds)
            self.connection.send(End())

    def pump(self) -> list[Transcript]:
        """What has been understood since the last time, in order."""
        transcripts = [found for event in self.connection.pump() for found in self._take(event)]
        if self.ended or self.failure is not None:
            return transcripts
        if self.connection.is_closed:
            self._fail(self.connection.close_reason)
        elif self._answer_by is not None and self._answer_by.is_expired:
            transcripts += [found for event in self.connection.codec.receive_timeout() for found in self._take(event)]
            if not self._understood:
                self.ended = False
                self._fail(f"no transcript came within {self._answer_seconds:g} s of the end mark")
            self.ended = self.failure is None
        return transcripts

    def part(self, events: list[Event]) -> list[Transcript]:
        """What still came with the goodbye."""
        return [found for event in events for found in self._take(event)]

    def next_timeout(self) -> float | None:
        """Seconds until there is something to do although nothing arrives."""
        if self.connection.has_pending:
            return 0.0
        if self._answer_by is not None:
            return self._answer_by.remaining()
        return max(0.01, self._unsettled_seconds()) if self._all_sent and self._settle_seconds else None

    def close(self) -> None:
        """Sums up what was passed over."""
        self._remarks.close()

    @property
    def _all_sent(self) -> bool:
        return self._stretch.over and not self._stretch.frames.frame_count and not self._again

    def _unsettled_seconds(self) -> float:
        """How long the end mark has to wait yet; 0 or less: no longer."""
        if not self._settle_seconds:
            return 0.0
        if self.connection.unsent_bytes:
            return self._settle_seconds
        wanted = min(MOST_SETTLE_SECONDS, max(self._settle_seconds, 1.5 * self._pace))
        # Who only repeats itself is let finish for no longer than an answer may take.
        return min(self._moved_at + wanted, self._new_at + self._answer_seconds) - time.monotonic()

    def _take(self, event: Event) -> list[Transcript]:
        match event:
            case Transcript():
                self._note(event)
                return [event]
            case End(export_id):
                self.export_id = export_id
                self.ended = True
                self.forgetful = self._understood and not getattr(self.connection.codec, "has_final_after_eof", True)
            case Failure(fatal=True):
                self._fail(f"it sent {event.received}; expected {event.expected}", permanent=event.permanent)
            case Failure():
                if reason := self._remarks.log_refused(event):
                    self._fail(reason)
            case Log(message):
                self._remarks.log_message(message)
        return []

    def _note(self, transcript: Transcript) -> None:
        now = time.monotonic()
        if transcript.is_final or transcript.text != self._said:
            self._new_at, self._said = now, transcript.text
        # What comes while frames go out comes at the pace of the sound; only a wait of its own tells how slow it is.
        self._pace = max(self._pace, now - self._moved_at)
        self._moved_at = now
        self._understood = self._understood or bool(transcript.text)
        sent = self._stretch.sent_seconds - seconds_of(self._again)
        if transcript.is_final and self._continued:
            ends = [word.end_seconds for word in transcript.words]
            self._stretch.answered(
                min(sent, self._began_at + max(ends)) if ends else max(self._began_at, self._marked - MARGIN_SECONDS)
            )
        # What is read from a file, or sent again, waits in the socket, as far ahead of the service as there is room.
        self._marked = min(sent, self._marked + CATCHING_UP * (now - self._marked_at))
        self._marked_at = now

    def _fail(self, reason: str, *, permanent: bool = False) -> None:
        if self.failure is None and not self.ended:
            self.failure, self.permanent = reason, permanent
