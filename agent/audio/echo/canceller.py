"""Removes the echo of the speaker from the audio of the microphone, and measures how well."""

from __future__ import annotations

import math
import operator
from array import array
from collections import deque

from agent.audio.echo.delay import DelayFinder
from agent.audio.echo.reference import LEAD_SECONDS, EchoReference, is_audible
from agent.audio.echo.speex import AdaptiveFilter, ResidualSuppressor
from agent.audio.format import SAMPLE_BYTES, SPEECH
from agent.system.named_tuple import NamedTuple

BLOCK_SECONDS = 0.02
BLOCK_SAMPLES = round(BLOCK_SECONDS * SPEECH.rate)
BLOCK_BYTES = BLOCK_SAMPLES * SAMPLE_BYTES
_SILENCE = bytes(BLOCK_BYTES)

MARGIN_SECONDS = 0.01
"""The filter begins this long before the strongest echo, which need not be the first."""
REALIGN_SECONDS = 0.008
"""A delay that has changed by more than this is followed; the filter itself follows a smaller change."""
ROOM_SECONDS = 0.4
"""After the end of the reference, the room still reverberates for this time."""

SUPPRESS_BELOW_DB = 20.0
WINDOW_BLOCKS = 25
WINDOWS = 12
QUANTILE = 0.6
"""Of the windows: those in which the user speaks too have less return loss."""
MIN_WINDOWS = 4


ALIGN_BLOCKS, TRACK_BLOCKS = 6, 40
"""Audible blocks that the alignment of a new utterance, and its tracking afterwards, compare."""
ALIGN_SAMPLES, TRACK_SAMPLES = 64, 4
"""Largest error that each corrects."""
MIN_CORRELATION = 0.6
MAX_ALIGNMENTS = 4
SETTLING_BLOCKS = 25
"""After a correction the filter still holds 0.4 s of the reference at the wrong place. Measured: six false stops in
five minutes without this time after a correction of one sample, and none in two minutes with it."""


class EchoMeasures(NamedTuple):
    """What is known about the echo. Immutable. Each is ``None`` until it is known.

    ``delay_seconds``: between the clocks' time of the playback and the echo; ``drift_ppm``: of the speaker's clock
    against that of the microphone; ``return_loss_db``: by how much the canceller weakens the echo;
    ``searched_seconds``: playback in which the delay was searched.
    """

    delay_seconds: float | None = None
    drift_ppm: float | None = None
    return_loss_db: float | None = None
    searched_seconds: float = 0.0


class Block(NamedTuple):
    """One block of ``BLOCK_SECONDS`` after the canceller. Immutable.

    ``pcm``: 16 kHz mono s16le; ``level``: its root mean square; ``echo_level``: that of the echo which was removed;
    ``has_echo``: whether the speaker is audible in it; ``is_aligned``: whether the delay of this utterance is exact;
    ``return_loss_db``: as in the measures.
    """

    pcm: bytes
    level: float = 0.0
    echo_level: float = 0.0
    has_echo: bool = False
    is_aligned: bool = False
    return_loss_db: float | None = None


class EchoCanceller:
    """Cancels the echo in the frames of the microphone. Not thread-safe; owned by the thread that processes frames.

    While nothing is played it passes the frames unchanged and costs no CPU time. Measured on one x86 core with a tail
    of 0.4 s: 8 ms per second of playback.

    Args:
        reference: What the speaker plays.
        tail_seconds: Length of the filter, from the first echo to the end of the reverberation.
        delay_seconds: The delay of the echo; ``None``: it is measured.

    Raises:
        AudioError: If libspeexdsp is missing.
    """

    def __init__(self, reference: EchoReference, tail_seconds: float, delay_seconds: float | None = None) -> None:
        self._reference = reference
        self._filter = AdaptiveFilter(BLOCK_SAMPLES, round(tail_seconds * SPEECH.rate), SPEECH.rate)
        self._suppressor = ResidualSuppressor(self._filter, BLOCK_SAMPLES, SPEECH.rate)
        self._finder = None if delay_seconds is not None else DelayFinder()
        self._delay = delay_seconds
        self._applied: float | None = None
        self._fine_samples = 0  # correction of the delay for this utterance
        self._placements = 0
        self._aligned = False
        self._alignments = 0  # attempts for this utterance
        self._settling_blocks = 0
        self._compared: list[tuple[array[int], array[int]]] = []  # audible blocks: the microphone and the echo in it
        self._line = bytearray()  # the reference so far, for the delay
        self._pending = bytearray()
        self._position = 0  # of the first pending sample
        self._quiet_seconds = math.inf  # since the reference was audible
        self._searched_seconds = 0.0
        self._window: list[tuple[float, float]] = []  # power before and after
        self._losses: deque[float] = deque(maxlen=WINDOWS)

    @property
    def measures(self) -> EchoMeasures:
        return EchoMeasures(self._delay, self._reference.drift_ppm, self._return_loss_db, self._searched_seconds)

    def process(self, frame: bytes, position: int) -> list[Block]:
        """Cancel the echo in a frame (16 kHz mono s16le) whose first sample is number ``position``.

        Returns:
            Blocks of ``BLOCK_SECONDS``; a frame that ends within a block is continued by the next one.
        """
        if position != self._position + len(self._pending) // SAMPLE_BYTES:
            self._pending.clear()  # audio was lost
        if not self._pending:
            self._position = position
        self._pending += frame
        blocks = []
        while len(self._pending) >= BLOCK_BYTES:
            blocks.append(self._process(bytes(self._pending[:BLOCK_BYTES])))
            del self._pending[:BLOCK_BYTES]
            self._position += BLOCK_SAMPLES
        return blocks

    @property
    def _return_loss_db(self) -> float | None:
        if len(self._losses) < MIN_WINDOWS:
            return None
        return sorted(self._losses)[int(len(self._losses) * QUANTILE)]

    def _process(self, block: bytes) -> Block:
        reference = self._reference.read(self._position, BLOCK_SAMPLES)
        if reference is not None and is_audible(reference):
            self._quiet_seconds = 0.0
        elif self._quiet_seconds > (1.0 if self._delay is None else self._delay) + ROOM_SECONDS:
            self._line.clear()
            return Block(block)
        else:
            self._quiet_seconds += BLOCK_SECONDS
        reference = reference or _SILENCE
        self._search(block, reference)
        if self._delay is None:
            level = _level(array("h", block))
            return Block(block, level, level, has_echo=True)
        return self._cancel(block, self._delayed(reference, self._delay))

    def _search(self, block: bytes, reference: bytes) -> None:
        if self._finder is None:
            return
        if self._delay is None and not self._quiet_seconds:
            self._searched_seconds += BLOCK_SECONDS
        self._finder.feed(block, reference)
        if (found := self._finder.seconds) is not None:
            self._delay = found - LEAD_SECONDS

    def _delayed(self, reference: bytes, delay: float) -> bytes:
        """Return the reference of the block, delayed so that the filter begins shortly before the echo."""
        if self._applied is None or abs(delay - self._applied) > REALIGN_SECONDS:
            self._applied = delay
            self._filter.reset()
            self._losses.clear()
            self._fine_samples = 0
        if self._reference.placements != self._placements:
            self._placements = self._reference.placements
            self._aligned, self._alignments = False, 0
            self._compared.clear()
        shift = round((self._applied + LEAD_SECONDS - MARGIN_SECONDS) * SPEECH.rate) + self._fine_samples
        shift = max(0, shift) * SAMPLE_BYTES
        self._line += reference
        missing = shift + BLOCK_BYTES - len(self._line)
        if missing > 0:
            self._line[:0] = bytes(missing)
        del self._line[: len(self._line) - shift - BLOCK_BYTES]
        return bytes(self._line[:BLOCK_BYTES])

    def _cancel(self, block: bytes, reference: bytes) -> Block:
        out = self._filter.cancel(block, reference)
        before, after = array("h", block), array("h", out)
        self._settling_blocks = max(0, self._settling_blocks - 1)
        level = _level(after)
        echo = math.dist(before, after) / math.sqrt(BLOCK_SAMPLES)
        if is_audible(reference):
            self._measure(_level(before) ** 2, level**2)
            self._compared.append((before, array("h", map(_subtract, before, after))))
            if len(self._compared) >= (TRACK_BLOCKS if self._aligned else ALIGN_BLOCKS):
                self._align()
        loss = self._return_loss_db
        if loss is not None and loss < SUPPRESS_BELOW_DB:
            out = self._suppressor.suppress(out)
        return Block(
            out, level, echo, has_echo=True, is_aligned=self._aligned and not self._settling_blocks, return_loss_db=loss
        )

    def _align(self) -> None:
        """Correct the delay by the offset between the microphone and the echo that the filter predicts.

        The filter knows the path from the utterances before. The clocks know the start of an utterance to a
        millisecond, but a quarter of a millisecond doubles the echo at 1 kHz.
        """
        if len(self._losses) < MIN_WINDOWS:
            self._compared.clear()
            return
        heard, echo = array("h"), array("h")
        for each in self._compared:
            heard += each[0]
            echo += each[1]
        self._compared.clear()
        limit = TRACK_SAMPLES if self._aligned else ALIGN_SAMPLES
        middle = echo[limit:-limit]
        similar = {lag: sum(map(operator.mul, heard[limit + lag :], middle)) for lag in range(-limit, limit + 1)}
        best = max(similar, key=similar.__getitem__)
        if similar[best] > MIN_CORRELATION * math.hypot(*middle) * math.hypot(*heard):
            self._fine_samples += best
            self._settling_blocks = SETTLING_BLOCKS if best else 0
            self._aligned = True
        self._alignments += 1
        self._aligned = self._aligned or self._alignments >= MAX_ALIGNMENTS  # the user speaks

    def _measure(self, before: float, after: float) -> None:
        self._window.append((before, after))
        if len(self._window) == WINDOW_BLOCKS:
            powers = [sum(each) for each in zip(*self._window, strict=True)]
            self._losses.append(10 * math.log10(max(1.0, powers[0]) / max(1.0, powers[1])))
            self._window.clear()


def _subtract(first: int, second: int) -> int:
    return max(-32768, min(32767, first - second))


def _level(samples: array[int]) -> float:
    return math.hypot(*samples) / math.sqrt(len(samples))
