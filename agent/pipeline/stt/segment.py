"""The audio and the transcripts of one speech segment, from its first frame to its final transcript."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from agent.audio.format import SPEECH
from agent.pipeline.events import Heard
from agent.services.protocols.codec import Transcript

BYTES_PER_SECOND = SPEECH.bytes_of(1.0)


class SpeechSegment:
    """One segment of user speech: the audio that the service has not answered yet, and its transcripts so far.

    A single buffer holds the audio. Its first part was sent to a connection; if the connection is lost, this part is
    sent again over a new connection (replay). Its second part waits to be sent. Each of the two parts keeps at most
    ``max_seconds`` and drops its oldest frame if it is full. Each loss becomes a gap: (start in seconds since the
    microphone was opened, length in seconds). Positions are seconds from the start of the segment. Frames are 16 kHz
    mono s16le. Not thread-safe; owned by the recognizer thread.

    Args:
        max_seconds: length of the audio to keep while the service is unavailable.
        start_seconds: position of the first frame, in seconds since the microphone was opened.
        keeps_unsent: whether unsent audio is never dropped, because its source waits until it is sent.
    """

    def __init__(self, max_seconds: float, start_seconds: float = 0.0, *, keeps_unsent: bool = False) -> None:
        self.start_seconds = start_seconds
        self.is_complete = False  # whether the last frame was appended
        self.is_cut = False  # whether the segment ended at its maximum length, without a pause
        self.losses = 0  # consecutive connections that were lost without progress
        self.partial = ""
        self.partial_until = 0.0  # position up to which the partial covers the audio
        self.finals: list[Transcript] = []
        self.early: Transcript | None = None  # transcript after the finals; invalid if more speech follows
        self.wants_early = False  # whether to request an early final after the frames so far
        self.has_stop_word = False  # whether a stop word was reported
        self.best: list[Transcript] = []  # the longest result of a lost connection, used if no other result follows
        self._max_bytes = SPEECH.bytes_of(max_seconds)
        self._keeps_unsent = keeps_unsent
        # Positions at which microphone audio was left out of the segment, each with the total length in seconds of the
        # audio that was left out up to there.
        self._skips: list[tuple[int, float]] = []
        # Each frame with its position. The first _sent_count frames were sent to a connection.
        self._frames: deque[tuple[int, bytes]] = deque()
        self._sent_count = self._next = 0  # _next: index of the next frame to send; below _sent_count during a replay
        self._sent_bytes = self._unsent_bytes = self._replay_bytes = 0
        # Positions in the segment, in bytes.
        self._total = 0  # end of the captured audio
        self._sent_until = 0  # end of the audio that was ever sent
        self._confirmed = 0  # end of the audio that is answered or reported as a gap
        self._assumed = 0  # the same, estimated from the finals without a position
        self._reported_until = 0  # end of the audio that the service had received at the last final without a position
        self.reported_words = 0  # reported words of finals without a position, since the confirmed position
        self._confirmed_at_loss = 0
        self._dropped: list[tuple[int, int]] = []  # start and end of unsent audio that was dropped
        self._expired: list[tuple[int, int]] = []  # the same for sent, unanswered audio that is not kept

    @property
    def seconds(self) -> float:
        """Length of the audio so far."""
        return SPEECH.seconds_of(self._total)

    @property
    def sent_seconds(self) -> float:
        """Position up to which the current connection has received the segment."""
        if self._next < self._sent_count:
            return SPEECH.seconds_of(self._frames[self._next][0])
        return SPEECH.seconds_of(self._sent_until)

    @property
    def replay_from_seconds(self) -> float:
        """Position at which a replay starts."""
        return SPEECH.seconds_of(self._frames[0][0] if self._sent_count else self._sent_until)

    @property
    def confirmed_bytes(self) -> int:
        """Position of the first audio without a confirmed answer, in bytes."""
        return self._confirmed

    @property
    def is_replaying(self) -> bool:
        """Whether the next frame was already sent to a connection that was lost."""
        return self._next < self._sent_count

    @property
    def unsent_count(self) -> int:
        """Number of frames that were never sent."""
        return len(self._frames) - self._sent_count

    @property
    def pending_count(self) -> int:
        """Number of frames that the current connection has not received, replay included."""
        return len(self._frames) - self._next

    # --- audio

    def append(self, frame: bytes) -> None:
        """Append a captured frame."""
        self._frames.append((self._total, frame))
        self._total += len(frame)
        self._unsent_bytes += len(frame)
        while self._unsent_bytes > self._max_bytes and self.unsent_count > 1 and not self._keeps_unsent:
            start, oldest = self._frames[self._sent_count]
            del self._frames[self._sent_count]
            self._unsent_bytes -= len(oldest)
            _add_range(self._dropped, start, start + len(oldest))

    def skip(self, seconds: float) -> None:
        """Note that the ``seconds`` of microphone audio after the last frame are not part of the segment."""
        skipped = self._skips[-1][1] if self._skips else 0.0
        if self._skips and self._skips[-1][0] == self._total:
            self._skips.pop()
        self._skips.append((self._total, skipped + seconds))
        while len(self._skips) > 1 and self._skips[1][0] <= self._confirmed:
            del self._skips[0]  # no gap starts before the confirmed position

    def captured_at(self, seconds: float) -> float:
        """Return a position of the segment in seconds since the microphone was opened."""
        position = round(seconds * BYTES_PER_SECOND)
        skipped = next((skipped for at, skipped in reversed(self._skips) if at <= position), 0.0)
        return self.start_seconds + seconds + skipped

    def next_audio(self, max_bytes: int = 0) -> tuple[float, bytes] | None:
        """Take the next frame to send, and keep it for a replay.

        Args:
            max_bytes: join adjacent frames up to this length; 0: one frame.

        Returns:
            The position in seconds and the audio; ``None`` if no frame is pending.
        """
        start = end = self._frames[self._next][0] if self.pending_count else 0
        audio: list[bytes] = []
        while self.pending_count and self._frames[self._next][0] == end:
            size = len(self._frames[self._next][1])
            if audio and end - start + size > max_bytes:
                break
            audio.append(self._next_frame())
            end += size
        return (SPEECH.seconds_of(start), b"".join(audio)) if audio else None

    def _next_frame(self) -> bytes:
        start, frame = self._frames[self._next]
        self._next += 1
        if self._next <= self._sent_count:
            self._replay_bytes -= len(frame)
            return frame
        self._sent_count += 1
        self._unsent_bytes -= len(frame)
        self._sent_bytes += len(frame)
        self._sent_until = start + len(frame)
        while self._sent_bytes > self._max_bytes and self._sent_count > 1:
            self._expire(*self._pop_sent())
        return frame

    def replay(self) -> None:
        """Start again with the first unanswered frame: the next frames go to a new connection."""
        self._next, self._replay_bytes = 0, self._sent_bytes

    def rewind(self) -> float:
        """Discard all unanswered audio, because it is read again from its source; return the position in seconds."""
        self._clear(0)
        self._expired.clear()
        self._dropped.clear()
        self._total = self._sent_until = self._confirmed
        self.is_complete = False
        return SPEECH.seconds_of(self._confirmed)

    def assume(self, until_seconds: float, sent_seconds: float, words: int) -> None:
        """Note a final without a position. A replay may repeat its words, so they are counted.

        Args:
            until_seconds: estimated position up to which the final certainly covers the audio.
            sent_seconds: position up to which the service had received the audio.
            words: number of words of all finals since the confirmed position.
        """
        self._assumed = max(self._assumed, round(until_seconds * BYTES_PER_SECOND))
        self._reported_until = round(sent_seconds * BYTES_PER_SECOND)
        self.reported_words = max(self.reported_words, words)

    def confirm(self, until_seconds: float) -> None:
        """Mark audio as answered: frames that end at or before this position are not sent again."""
        self._confirmed = max(self._confirmed, round(until_seconds * BYTES_PER_SECOND))
        self.reported_words = 0
        while self._sent_count and self._frames[0][0] + len(self._frames[0][1]) <= self._confirmed:
            self._pop_sent()
        expired, self._expired = self._expired, []
        for start, end in expired:
            self._expire(start, end)

    def _pop_sent(self) -> tuple[int, int]:
        """Remove the oldest sent frame; return its start and its end."""
        start, frame = self._frames.popleft()
        self._sent_count -= 1
        self._sent_bytes -= len(frame)
        if self._next:
            self._next -= 1
        else:
            self._replay_bytes -= len(frame)
        return start, start + len(frame)

    def _expire(self, start: int, end: int) -> None:
        if end > self._confirmed:
            _add_range(self._expired, max(start, self._confirmed), end)

    # --- gaps

    def take_overflow_gap(self) -> tuple[float, float] | None:
        """Return the gap of the unsent audio that was dropped since the last call; ``None`` if there is none."""
        return self._take_gap(self._dropped)

    def take_replay_gap(self) -> tuple[float, float] | None:
        """Return the gap of unanswered audio of a lost connection that is no longer kept; ``None`` if there is none.

        If finals without a position were reported, the gap includes all audio that they may cover: only a complete
        replay from the confirmed position shows which words follow the reported words.
        """
        if not self._expired:
            return None
        if self.reported_words:
            self.reported_words = 0
            while self._sent_count and self._frames[0][0] < self._reported_until:
                _add_range(self._expired, *self._pop_sent())
            self._expired = [(max(start, self._assumed), end) for start, end in self._expired if end > self._assumed]
        self._confirmed = max(self._confirmed, self._expired[-1][1] if self._expired else self._assumed)
        return self._take_gap(self._expired)

    def discard(self) -> list[tuple[float, float]]:
        """Discard all audio that is not answered, because no transcript of it will follow; return its gaps."""
        gaps = [gap for gap in (self.take_overflow_gap(), self.take_replay_gap()) if gap is not None]
        gaps += self._clear(self._sent_bytes + self._unsent_bytes)
        self._confirmed = self._total
        return gaps

    def discard_pending(self) -> list[tuple[float, float]]:
        """Discard the audio that the current connection has not received; return its gap.

        The service may still answer the audio that it has received, but this audio is no longer kept for a replay.
        """
        for start, frame in list(self._frames)[: self._next]:
            self._expire(start, start + len(frame))
        return self._clear(self._replay_bytes + self._unsent_bytes)

    def _take_gap(self, ranges: list[tuple[int, int]]) -> tuple[float, float] | None:
        if not ranges:
            return None
        start, size = ranges[0][0], sum(end - start for start, end in ranges)
        ranges.clear()
        return self.captured_at(SPEECH.seconds_of(start)), SPEECH.seconds_of(size)

    def _clear(self, lost_bytes: int) -> list[tuple[float, float]]:
        self._frames.clear()
        self._sent_count = self._next = self._sent_bytes = self._unsent_bytes = self._replay_bytes = 0
        self._sent_until = self._total
        seconds = SPEECH.seconds_of(lost_bytes)
        return [(self.captured_at(self.seconds - seconds), seconds)] if lost_bytes else []

    # --- transcripts

    def text(self) -> str:
        """Return the transcript so far, including the last partial."""
        return " ".join(text for text in [*(final.text for final in self.finals), self.partial] if text)

    def count_loss(self) -> None:
        """Count the loss of a connection.

        Only confirmed audio counts as progress: connections that always break at the same point repeat the same words.
        """
        self.losses = self.losses + 1 if self._confirmed <= self._confirmed_at_loss else 1
        self._confirmed_at_loss = self._confirmed

    def restart_transcript(self) -> None:
        """Start the transcript again with the next connection, and keep the longest result so far."""
        result = [*self.finals, *([Transcript(self.partial, is_final=True)] if self.partial else [])]
        self.best = max(self.best, result, key=lambda finals: sum(len(final.text) for final in finals))
        self.finals, self.partial = [], ""
        self.early, self.wants_early = None, False


def _add_range(ranges: list[tuple[int, int]], start: int, end: int) -> None:
    """Append a range, merged with the last one if they are adjacent."""
    if ranges and ranges[-1][1] == start:
        start = ranges.pop()[0]
    ranges.append((start, end))


def seconds_of(frames: Iterable[bytes]) -> float:
    """Return the total length of frames (16 kHz mono s16le), in seconds."""
    return SPEECH.seconds_of(sum(map(len, frames)))


def to_heard(finals: list[Transcript], export_id: str | None = None) -> Heard:
    """Join final transcripts into one event."""
    return Heard(
        " ".join(final.text for final in finals if final.text),
        tuple(
            (word.word, word.start_seconds, word.end_seconds, word.confidence)
            for final in finals
            for word in final.words
        ),
        export_id,
    )
