"""Finds the sentence of an utterance that was audible when its playback stopped."""

from __future__ import annotations

from array import array

from agent.audio.format import Format
from agent.system.named_tuple import NamedTuple

WINDOW_SECONDS = 0.02
SAMPLE_STEP = 5
"""Only every fifth sample of a window is examined, to reduce the CPU time to a fifth."""
PAUSE_WINDOWS = 5
"""Consecutive silent windows that count as a pause between sentences."""
MARK_TOLERANCE_SECONDS = 0.1
"""A boundary counts as played only this long after its mark, because a decoder returns the last audio of a passage
shortly after the mark of the service."""
CHARACTERS_PER_SECOND = 14.0
"""The usual rate of speech in languages with an alphabet. It is used only to estimate how much of an interrupted
sentence was heard, for the history of a language model."""
QUIET_SHARE = 0.03
"""Threshold of silence, as a share of the peak of the speech. A window whose peak is not higher is silent."""
MIN_TOLERANCE_SECONDS, MAX_TOLERANCE_SECONDS, TOLERANCE_SHARE = 0.3, 1.5, 0.1
"""Assumed error of an estimated boundary: a share of the audio between the known boundaries around it, within limits
in seconds."""


class Mark(NamedTuple):
    """A known boundary: the passages before number ``passage`` end at ``seconds`` in the stream. Immutable."""

    seconds: float
    passage: int


class SpokenPosition:
    """Relates the audio of one stream to its passages and sentences.

    The boundary between two passages is known if the service marks it, or if a session ends there. A boundary between
    two sentences of a passage is estimated: the share of the characters before it gives an approximate time, and the
    boundary is the last pause near this time. If the estimate is wrong, a sentence is heard twice; no sentence is
    skipped. Before the next boundary is known, no estimate is possible, and the speech continues after the last known
    boundary.

    Not thread-safe; owned by the synthesizer thread.

    Args:
        format: The format of the stream.
    """

    def __init__(self, format: Format) -> None:
        self._format = format
        self._bytes = 0
        self._marks = [Mark(0.0, 0)]
        self._peaks = array("H")  # of each window
        self._window_bytes = format.bytes_of(WINDOW_SECONDS)
        self._rest = b""

    def add(self, pcm: bytes, *, is_speech: bool = True) -> None:
        """Note audio (s16le) that was written to the stream.

        Args:
            pcm: The audio.
            is_speech: ``False`` for a chime. The first passage begins after it.
        """
        self._bytes += len(pcm)
        self._rest += pcm
        complete = len(self._rest) - len(self._rest) % self._window_bytes
        samples = array("h", self._rest[:complete])
        step = self._window_bytes // samples.itemsize
        for start in range(0, len(samples), step):
            some = samples[start : start + step : SAMPLE_STEP]
            self._peaks.append(max(max(some), -min(some)))
        self._rest = self._rest[complete:]
        if not is_speech:
            self._marks[0] = Mark(self._seconds, 0)

    def mark(self, passages: int) -> None:
        """Note that all audio of the first ``passages`` passages was written to the stream."""
        if passages > self._marks[-1].passage:
            self._marks.append(Mark(self._seconds, passages))

    def rest(self, passages: list[list[str]], played_seconds: float) -> list[str]:
        """Return the passages that are left to speak, beginning with the interrupted sentence.

        Args:
            passages: The sentences of each passage.
            played_seconds: The length of the audio of the stream that was played.
        """
        start, skipped, _ = self._resume_point(passages, played_seconds)
        rest: list[str] = []
        for passage in passages[start.passage :]:
            count = min(skipped, len(passage))
            skipped -= count
            if count < len(passage):
                rest.append(" ".join(passage[count:]))
        return rest

    def spoken(self, passages: list[list[str]], played_seconds: float) -> list[str]:
        """Return the sentences before ``rest``. The arguments are those of ``rest``."""
        start, skipped, _ = self._resume_point(passages, played_seconds)
        before = [sentence for passage in passages[: start.passage] for sentence in passage]
        following = [sentence for passage in passages[start.passage :] for sentence in passage]
        return before + following[:skipped]

    def played_sentences(self, passages: list[list[str]], played_seconds: float) -> list[str]:
        """Return the sentences that were played. The last one is cut, by ``CHARACTERS_PER_SECOND``."""
        spoken = self.spoken(passages, played_seconds)
        sentences = [sentence for passage in passages for sentence in passage]
        seconds = max(0.0, played_seconds - self._resume_point(passages, played_seconds)[2])
        characters = round(seconds * CHARACTERS_PER_SECOND)
        for sentence in sentences[len(spoken) :]:
            if len(sentence) > characters:
                begin = sentence[:characters].rpartition(" ")[0]
                return [*spoken, begin] if begin else spoken
            spoken.append(sentence)
            characters -= len(sentence)
        return spoken

    def rest_start_seconds(self, passages: list[list[str]], played_seconds: float) -> float:
        """Return the time at which ``rest`` begins in the speech of the stream, not counting a chime before it."""
        return self._resume_point(passages, played_seconds)[2] - self._marks[0].seconds

    def _resume_point(self, passages: list[list[str]], played_seconds: float) -> tuple[Mark, int, float]:
        """Return the last known boundary, the number of sentences spoken after it, and the time of their end."""
        passed = [mark for mark in self._marks if mark.seconds + MARK_TOLERANCE_SECONDS <= played_seconds]
        start = passed[-1] if passed else self._marks[0]
        following = [mark for mark in self._marks if mark.passage > start.passage]
        if not (following and passed):
            return start, 0, start.seconds
        sentences = [sentence for passage in passages[start.passage : following[0].passage] for sentence in passage]
        spoken, seconds = self._spoken_sentences(sentences, start.seconds, following[0].seconds, played_seconds)
        return start, spoken, seconds

    @property
    def _seconds(self) -> float:
        return self._format.seconds_of(self._bytes)

    def _spoken_sentences(
        self, sentences: list[str], start: float, end: float, played_seconds: float
    ) -> tuple[int, float]:
        """Return how many sentences between two known boundaries were certainly spoken, and the time of their end."""
        total = sum(map(len, sentences))
        tolerance = min(MAX_TOLERANCE_SECONDS, max(MIN_TOLERANCE_SECONDS, TOLERANCE_SHARE * (end - start)))
        characters = spoken = 0
        spoken_end = start
        for number, sentence in enumerate(sentences[:-1], 1):
            characters += len(sentence)
            estimate = start + (end - start) * characters / total
            pause = self._last_pause(estimate - tolerance, estimate + tolerance)
            if pause > played_seconds:
                break
            spoken, spoken_end = number, pause
        return spoken, spoken_end

    def _last_pause(self, start: float, end: float) -> float:
        """Return the start of the last pause that begins between ``start`` and ``end``; ``end`` if there is none."""
        limit = QUIET_SHARE * max(self._peaks, default=0)
        first, last = max(0, int(start / WINDOW_SECONDS)), min(len(self._peaks), int(end / WINDOW_SECONDS))
        quiet = 0
        for index in range(last - 1, first - 1, -1):
            quiet = quiet + 1 if self._peaks[index] <= limit else 0
            is_start = index == 0 or self._peaks[index - 1] > limit
            if quiet >= PAUSE_WINDOWS and is_start:
                return index * WINDOW_SECONDS
        return end
