"""Removes the echo of the speaker from the audio of the microphone, and measures how well."""

from __future__ import annotations

import math
import operator
from array import array
from collections import deque
from collections.abc import Sequence

from agent.audio.echo.delay import DelayFinder
from agent.audio.echo.reference import LEAD_SECONDS, EchoReference, is_audible
from agent.audio.echo.speex import AdaptiveFilter, FractionalDelay, ResidualSuppressor
from agent.audio.format import SAMPLE_BYTES, SPEECH
from agent.system.named_tuple import NamedTuple

BLOCK_SECONDS = 0.02
BLOCK_SAMPLES = round(BLOCK_SECONDS * SPEECH.rate)
BLOCK_BYTES = BLOCK_SAMPLES * SAMPLE_BYTES
_SILENCE = bytes(BLOCK_BYTES)

MARGIN_SECONDS = 0.01
"""The filter begins this long before the strongest echo, because an earlier echo may be weaker."""
REALIGN_SECONDS = 0.008
"""The reference is aligned again when the delay changes by more than this; the filter adapts to a smaller change."""
ROOM_SECONDS = 0.4
"""Time for which the room reverberates after the end of the reference."""

SUPPRESS_BELOW_DB = 20.0
"""If the return loss is lower, the rest of the echo is suppressed too."""
WINDOW_BLOCKS = 25
"""Number of audible blocks over which one value of the return loss is measured."""
WINDOWS = 12
QUANTILE = 0.75
"""The return loss is this quantile of the last ``WINDOWS`` windows: the value is lower while the user speaks too."""
MIN_WINDOWS = 4


ALIGN_BLOCKS, TRACK_BLOCKS = 6, 40
"""Number of audible blocks that the alignment of a new utterance and the tracking after it compare."""
MAX_HELD_BLOCKS = 12
"""Maximum number of blocks that are held for the alignment."""
ALIGN_SAMPLES, TRACK_SAMPLES = 64, 2
"""Largest error in samples that the alignment and the tracking correct."""
PREDICTING_TAPS = 32
"""Number of the strongest taps that predict the echo for the alignment."""
SETTLING_SAMPLES = 0.25
"""The filter adapts immediately to a correction up to this number of samples."""
TRACKED_PPM = 20.0
"""Correction of the drift in ppm for each sample of offset. A drift error of 1 ppm moves the echo by 0.013 samples in
0.8 s (``TRACK_BLOCKS``). Measured with a drift of 100 ppm, which the clock readings state as 93 ppm: four false stops
in five minutes without this correction."""
# Measured over 0.12 s of whitened speech: correlation of 0.59 to 0.81 at the right offset, 0.46 at the best wrong one.
MIN_CORRELATION = 0.4
FAR_PENALTY = 0.4
"""The correlation counts less by this fraction at the largest offset: the clocks rarely have such an error."""
MAX_ALIGNMENTS = 4
"""Maximum number of attempts to align an utterance."""
SETTLING_BLOCKS = 25
"""Number of blocks after a correction that do not count as aligned: the filter still holds 0.4 s of the reference at
the wrong place. Measured after a correction of one sample: six false stops in five minutes without this time, and none
in two minutes with it."""


class EchoMeasures(NamedTuple):
    """Measurements of the echo. Immutable.

    ``delay_seconds``: delay of the echo after the time at which the clocks place the playback; ``drift_ppm``: how much
    faster the clock of the speaker is than that of the microphone; ``return_loss_db``: by how much the canceller
    weakens the echo. These three are ``None`` until they are known. ``searched_seconds``: duration of the playback in
    which the delay was searched; ``adapted_seconds``: duration of the playback to which the filter has adapted.
    """

    delay_seconds: float | None = None
    drift_ppm: float | None = None
    return_loss_db: float | None = None
    searched_seconds: float = 0.0
    adapted_seconds: float = 0.0


class Block(NamedTuple):
    """One block of ``BLOCK_SECONDS`` after the canceller. Immutable.

    ``pcm``: 16 kHz mono s16le; ``level``: its root mean square; ``echo_level``: the root mean square of the removed
    echo; ``has_echo``: whether the block may contain echo of the speaker; ``is_aligned``: whether the delay of this
    utterance is exact; ``return_loss_db``: as in ``EchoMeasures``.
    """

    pcm: bytes
    level: float = 0.0
    echo_level: float = 0.0
    has_echo: bool = False
    is_aligned: bool = False
    return_loss_db: float | None = None


class EchoCanceller:
    """Cancels the echo in the frames of the microphone. Not thread-safe; owned by the thread that processes frames.

    While nothing is played, the audio is returned unchanged and costs no CPU time. Measured on one x86 core with a tail
    of 0.4 s: 33 ms per second of playback.

    Args:
        reference: What the speaker plays.
        tail_seconds: Length of the filter, from the first echo to the end of the reverberation.
        delay_seconds: The delay of the echo after the playback time of the clocks; ``None``: it is measured.

    Raises:
        AudioError: If libspeexdsp is missing.
    """

    def __init__(self, reference: EchoReference, tail_seconds: float, delay_seconds: float | None = None) -> None:
        self._reference = reference
        self._filter = AdaptiveFilter(BLOCK_SAMPLES, round(tail_seconds * SPEECH.rate), SPEECH.rate)
        self._suppressor = ResidualSuppressor(self._filter, BLOCK_SAMPLES, SPEECH.rate)
        self._interpolator = FractionalDelay()
        self._finder = None if delay_seconds is not None else DelayFinder()
        self._delay = delay_seconds
        self._applied: float | None = None
        self._fine_samples = 0.0  # correction of the delay for this utterance
        self._placements = 0
        self._aligned = False
        self._alignments = 0  # attempts for this utterance
        self._settling_blocks = 0
        self._compared = (array("h"), array("h"))  # audible blocks: the microphone and the echo in it
        self._line = bytearray()  # the latest reference audio, from which the delayed reference is cut
        self._held: list[bytes] = []  # first blocks of a new utterance, until its delay is exact
        self._audible_blocks = 0  # number of audible ones among the held blocks
        self._tail_bytes = SPEECH.bytes_of(tail_seconds)
        self._pending = bytearray()
        self._position = 0  # number of the first pending sample
        self._quiet_seconds = math.inf  # since the reference was audible
        self._searched_seconds = 0.0
        self._adapted_blocks = 0
        self._window: list[tuple[float, float]] = []  # power of each block before and after the filter
        self._losses: deque[float] = deque(maxlen=WINDOWS)

    @property
    def measures(self) -> EchoMeasures:
        drift, loss = self._reference.drift_ppm, self._return_loss_db
        return EchoMeasures(self._delay, drift, loss, self._searched_seconds, self._adapted_blocks * BLOCK_SECONDS)

    def process(self, frame: bytes, position: int) -> list[Block]:
        """Cancel the echo in a frame (16 kHz mono s16le) whose first sample is number ``position``.

        Returns:
            Blocks of ``BLOCK_SECONDS``. The rest of the frame is returned with the next frame; the first blocks of an
            utterance are held until its delay is exact.
        """
        if position != self._position + len(self._pending) // SAMPLE_BYTES:
            self._pending.clear()  # audio was lost
        if not self._pending:
            self._position = position
        self._pending += frame
        blocks = []
        while len(self._pending) >= BLOCK_BYTES:
            blocks += self._process(bytes(self._pending[:BLOCK_BYTES]))
            del self._pending[:BLOCK_BYTES]
            self._position += BLOCK_SAMPLES
        return blocks

    @property
    def _return_loss_db(self) -> float | None:
        if len(self._losses) < MIN_WINDOWS:
            return None
        return sorted(self._losses)[int(len(self._losses) * QUANTILE)]

    def _process(self, block: bytes) -> list[Block]:
        reference = self._reference.read(self._position, BLOCK_SAMPLES)
        if unplayed := min(self._reference.unplayed_samples * SAMPLE_BYTES, len(self._line)):
            self._line[-unplayed:] = bytes(unplayed)
        if reference is not None and is_audible(reference):
            self._quiet_seconds = 0.0
        elif self._quiet_seconds > (1.0 if self._delay is None else self._delay) + ROOM_SECONDS:
            # Held blocks are released before the line is cleared. Some are left if the delay has become shorter.
            blocks = [*self._release(), Block(block)]
            self._line.clear()
            return blocks
        else:
            self._quiet_seconds += BLOCK_SECONDS
        reference = reference or _SILENCE
        self._search(block, reference)
        if self._delay is None:
            level = _level(array("h", block))
            # The search covers 1 s of delay, but has_echo for 1 s would block the microphone after each utterance.
            return [Block(block, level, level, has_echo=self._quiet_seconds <= ROOM_SECONDS)]
        self._place(reference, self._delay)
        if self._held or (not self._aligned and len(self._losses) >= MIN_WINDOWS):
            return self._hold(block)
        return [self._cancel(block)]

    def _search(self, block: bytes, reference: bytes) -> None:
        if self._finder is None:
            return
        if self._delay is None and not self._quiet_seconds:
            self._searched_seconds += BLOCK_SECONDS
        self._finder.feed(block, reference)
        if (found := self._finder.seconds) is not None:
            self._delay = found - LEAD_SECONDS

    def _place(self, reference: bytes, delay: float) -> None:
        """Add the reference of a block to the line; reset the filter if the delay has changed."""
        if self._applied is None or abs(delay - self._applied) > REALIGN_SECONDS:
            self._applied = delay
            self._adapted_blocks = 0
            self._filter.reset()
            self._losses.clear()
            self._fine_samples = 0.0
        if self._reference.placements != self._placements:
            self._placements = self._reference.placements
            self._aligned, self._alignments = False, 0
            self._compared = (array("h"), array("h"))
        self._line += reference
        kept = (round(self._shift) + ALIGN_SAMPLES + FractionalDelay.AROUND) * SAMPLE_BYTES
        kept += MAX_HELD_BLOCKS * BLOCK_BYTES + self._tail_bytes
        if len(self._line) < kept:
            self._line[:0] = bytes(kept - len(self._line))
        del self._line[: len(self._line) - kept]

    @property
    def _shift(self) -> float:
        """The delay of the reference in samples."""
        assert self._applied is not None
        shift = (self._applied + LEAD_SECONDS - MARGIN_SECONDS) * SPEECH.rate + self._fine_samples
        return max(float(FractionalDelay.AROUND), shift)

    def _delayed(self, later_blocks: int = 0) -> bytes:
        """Return the delayed reference of the newest block, or of the one before ``later_blocks`` blocks."""
        whole = round(self._shift)
        end = len(self._line) - whole * SAMPLE_BYTES - later_blocks * BLOCK_BYTES
        around = FractionalDelay.AROUND * SAMPLE_BYTES
        return self._interpolator.delay(
            bytes(self._line[end - BLOCK_BYTES - around : end + around]), self._shift - whole
        )

    def _hold(self, block: bytes) -> list[Block]:
        """Hold the first audible blocks of an utterance until its delay is exact.

        The filter gets these blocks only then. Otherwise it would hold the reference at the wrong place for the length
        of its tail.
        """
        has_echo = is_audible(self._delayed())
        if not self._held and not has_echo:
            return [self._cancel(block)]
        self._held.append(block)
        self._audible_blocks += has_echo
        if self._audible_blocks < ALIGN_BLOCKS and len(self._held) < MAX_HELD_BLOCKS:
            return []
        offset = find_offset(array("h", b"".join(self._held)), self._predicted(), ALIGN_SAMPLES)
        if offset is not None:
            self._fine_samples += round(self._shift) - self._shift + offset
        if self._alignments:
            self._settling_blocks = SETTLING_BLOCKS  # the filter has already processed blocks
        self._alignments += 1
        # After this many failures the user speaks, or the clocks were wrong.
        self._aligned = offset is not None or self._alignments >= MAX_ALIGNMENTS
        return self._release()

    def _predicted(self) -> list[int]:
        """Return the echo in the held blocks that the strongest taps predict, with the delay in whole samples."""
        taps = self._filter.impulse_response()
        size = len(self._held) * BLOCK_SAMPLES
        end = len(self._line) - round(self._shift) * SAMPLE_BYTES
        begin = max(0, end - (size + len(taps)) * SAMPLE_BYTES)
        reference = array("h", bytes(self._line[begin:end]))
        echo = [0] * size
        for tap in sorted(range(len(taps)), key=lambda each: -abs(taps[each]))[:PREDICTING_TAPS]:
            first = len(reference) - size - tap
            if first >= 0:
                gain = taps[tap]
                echo = [value + gain * sample for value, sample in zip(echo, reference[first:], strict=False)]
        return echo

    def _release(self) -> list[Block]:
        """Cancel the echo of the held blocks."""
        held, self._held, self._audible_blocks = self._held, [], 0
        return [self._cancel(block, later) for block, later in zip(held, reversed(range(len(held))), strict=True)]

    def _cancel(self, block: bytes, later_blocks: int = 0) -> Block:
        reference = self._delayed(later_blocks)
        out = self._filter.cancel(block, reference)
        before, after = array("h", block), array("h", out)
        self._settling_blocks = max(0, self._settling_blocks - 1)
        level = _level(after)
        echo = math.dist(before, after) / math.sqrt(BLOCK_SAMPLES)
        if is_audible(reference):
            self._adapted_blocks += 1
            self._measure(_level(before) ** 2, level**2)
            if self._aligned:
                self._track(before, array("h", map(_subtract, before, after)))
        loss = self._return_loss_db
        if loss is not None and loss < SUPPRESS_BELOW_DB:
            out = self._suppressor.suppress(out)
        is_aligned = self._aligned and not self._settling_blocks
        return Block(out, level, echo, has_echo=True, is_aligned=is_aligned, return_loss_db=loss)

    def _track(self, recorded: array[int], echo: array[int]) -> None:
        """Follow the delay with an audible block: ``recorded``, and the ``echo`` that the filter predicts in it."""
        self._compared[0].extend(recorded)
        self._compared[1].extend(echo)
        if len(self._compared[0]) == TRACK_BLOCKS * BLOCK_SAMPLES:
            offset = find_offset(*self._compared, TRACK_SAMPLES)
            self._compared = (array("h"), array("h"))
            if offset is None:
                return
            self._fine_samples += offset
            if abs(offset) > SETTLING_SAMPLES:
                self._settling_blocks = SETTLING_BLOCKS
            else:
                self._reference.correct_drift(-TRACKED_PPM * offset)

    def _measure(self, before: float, after: float) -> None:
        self._window.append((before, after))
        if len(self._window) == WINDOW_BLOCKS:
            powers = [sum(each) for each in zip(*self._window, strict=True)]
            self._losses.append(10 * math.log10(max(1.0, powers[0]) / max(1.0, powers[1])))
            self._window.clear()


def _subtract(first: int, second: int) -> int:
    return max(-32768, min(32767, first - second))


def find_offset(recorded: Sequence[int], echo: Sequence[int], limit: int) -> float | None:
    """Return by how many samples ``recorded`` is later than the predicted ``echo``; ``None`` if they are not similar.

    The clocks give the start of an utterance with an error of about a millisecond. At 1 kHz, an error of a quarter of a
    millisecond doubles the echo, and an error of half a sample leaves a fifth of it.

    Args:
        recorded: Samples of the microphone.
        echo: The echo that the filter predicts in ``recorded``.
        limit: Largest offset in samples, in both directions.
    """
    recorded = _whitened(recorded)
    middle = _whitened(echo)[limit:-limit]
    similar: list[float] = [sum(map(operator.mul, recorded[start:], middle)) for start in range(2 * limit + 1)]
    # The pitch of a voice causes peaks at other offsets too; the clocks rarely have such a large error.
    best = max(range(len(similar)), key=lambda each: similar[each] * (1 - FAR_PENALTY * abs(each / limit - 1)))
    if similar[best] <= MIN_CORRELATION * math.hypot(*middle) * math.hypot(*recorded):
        return None
    if not 0 < best < 2 * limit:
        return float(best - limit)
    before, peak, after = similar[best - 1 : best + 2]
    bend = before - 2 * peak + after
    top = (before - after) / (2 * bend) if bend < 0 else 0.0  # the vertex of the parabola through these values
    return best - limit + max(-1.0, min(1.0, top))  # the vertex for a low tone may be far away


def _whitened(samples: Sequence[int]) -> list[int]:
    """Return the second difference: the spectrum of speech becomes flat, so that its correlation has a sharp peak.

    Low frequencies lose their weight: a high-pass filter in libspeexdsp changes their phase.
    """
    first = list(map(operator.sub, samples[1:], samples))
    return [0, 0, *map(operator.sub, first[1:], first)]


def _level(samples: array[int]) -> float:
    return math.hypot(*samples) / math.sqrt(len(samples))
