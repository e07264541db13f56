"""The audio that the speaker plays, on the time line of the microphone."""

from __future__ import annotations

import math
import threading
from array import array
from collections import deque

from agent.audio.convert import FormatConverter
from agent.audio.echo.clock_rate import ClockRate
from agent.audio.echo.speex import Stretcher
from agent.audio.format import SAMPLE_BYTES, SPEECH, Format

LEAD_SECONDS = 0.012
"""The reference is this much earlier than the clocks say: the filters of the devices make some echoes look early."""

AUDIBLE_LEVEL = 30.0
"""Root mean square, in units of a 16-bit sample: less is silence."""

MAX_SECONDS = 8.0
"""Audio that is kept: the buffer of a card and the time until a frame of the microphone is processed."""
MAX_RUNS = 16

NEW_RUN_SECONDS = 0.02
"""A later or earlier piece does not continue the audio before it: the card was empty, or was opened again."""
AVERAGED_READINGS = 40
"""Readings of a clock that count for its current time; each has an error of up to a millisecond."""
EARLY_READINGS = 2
"""First readings of a run, which the next one replaces: a card with less than a period of audio does not play yet, and
its clock seems to be ahead by the time until it does."""
JUMP_SAMPLES = 160
"""A position that is wrong by more than this is corrected at once; a smaller error is corrected by the rate."""
STEER_SAMPLES = 32
STEER_EVERY_SAMPLES = 3000
STEER_SECONDS = 4.0

MIN_DRIFT_PPM = 8.0
"""A smaller drift counts as one clock: the canceller follows it, and the estimate may be as wrong."""
SIGNIFICANCE = 5.0
MIN_CORRECTION_PPM, MAX_CORRECTION_PPM = 3.0, 20.0
"""Limits of the correction of the drift by the echo: a smaller one does not make one clock two."""


class _TimeLine:
    """Relates a count of samples to the monotonic clock. Not thread-safe; owned by the reference, under its lock."""

    def __init__(self, rate: ClockRate) -> None:
        self.rate = rate
        self._count = 0
        self._start = 0.0  # time of sample 0

    @property
    def samples_per_second(self) -> float:
        ppm = self.rate.ppm if self.rate.error_ppm < MIN_DRIFT_PPM else 0.0
        return SPEECH.rate * (1 + ppm * 1e-6)

    def note(self, samples: float, at: float) -> None:
        start = at - samples / self.samples_per_second
        if self._count and abs(start - self._start) > NEW_RUN_SECONDS:
            self._count = 0
            self.rate.pause()
        self._count = min(self._count + 1, AVERAGED_READINGS)
        self._start += (start - self._start) / max(1, self._count - EARLY_READINGS)
        if self._count > EARLY_READINGS:
            self.rate.observe(samples, at)

    def time_of(self, sample: float) -> float:
        return self._start + sample / self.samples_per_second

    def sample_at(self, time: float) -> float:
        return (time - self._start) * self.samples_per_second


class _Run:
    """Audio that the card plays without a gap. Not thread-safe; owned by the reference, under its lock."""

    def __init__(self, rate: ClockRate) -> None:
        self.line = _TimeLine(rate)
        self.written_seconds = 0.0
        self._samples = bytearray()
        self._first = 0  # number of the first kept sample
        self.is_ended = False

    @property
    def end(self) -> int:
        """The number of samples so far."""
        return self._first + len(self._samples) // SAMPLE_BYTES

    def append(self, pcm: bytes) -> None:
        self._samples += pcm
        excess = len(self._samples) - SPEECH.bytes_of(MAX_SECONDS)
        if excess > 0:
            del self._samples[:excess]
            self._first += excess // SAMPLE_BYTES

    def cut(self, sample: int) -> None:
        del self._samples[max(0, sample - self._first) * SAMPLE_BYTES :]

    def take(self, sample: int, count: int) -> bytes:
        """Return up to ``count`` samples."""
        start = max(0, sample - self._first) * SAMPLE_BYTES
        return bytes(self._samples[start : start + count * SAMPLE_BYTES])


class EchoReference:
    """The bounded buffer between the speaker, which plays, and the canceller, which needs the audio later.

    The speaker thread calls ``played``, ``finished`` and ``dropped``; the microphone thread calls ``captured``; one
    thread calls ``read``. ``placements`` counts how often the place in the audio was found by the clocks only, with an
    error of up to some milliseconds; ``unplayed`` counts the last samples of earlier reads that the card has
    dropped since the previous read. Both belong to the reading thread. Each pair of clock readings refines the rates of
    both cards. Where these differ, the audio is resampled to the clock of the microphone. Thread-safe in this sense.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._converter: FormatConverter | None = None  # owned by the speaker thread
        self._playback, self._capture = ClockRate(SPEECH.rate), ClockRate(SPEECH.rate)
        self._microphone = _TimeLine(self._capture)
        self._runs: deque[_Run] = deque(maxlen=MAX_RUNS)
        # Owned by the reading thread.
        self._reading: _Run | None = None
        self._stretcher: Stretcher | None = None
        self._next = 0  # sample of the run that is used next
        self._position = 0.0  # sample of the run that the next output shows
        self._steered_at = self._balance = 0.0
        self._correction_ppm = 0.0  # of the drift, by the echo
        self._dropped = 0
        self.placements = self.unplayed = 0

    # --- speaker thread

    def played(self, pcm: bytes, format: Format, ends_at: float) -> None:
        """Note audio that was written to the card, and the monotonic time at which its last sample will be played."""
        if self._converter is None or self._converter.source != format:
            self._converter = FormatConverter(format, SPEECH)
            self._end_run()
        samples = self._converter.feed(pcm)
        seconds = format.seconds_of(len(pcm))
        with self._lock:
            run = self._runs[-1] if self._runs and not self._runs[-1].is_ended else None
            if run is not None and abs(run.line.time_of(run.written_seconds * SPEECH.rate) - (ends_at - seconds)) > (
                NEW_RUN_SECONDS
            ):
                run.is_ended, run = True, None
            if run is None:
                run = _Run(self._playback)
                self._playback.pause()
                self._runs.append(run)
            run.written_seconds += seconds
            run.append(samples)
            run.line.note(run.written_seconds * SPEECH.rate, ends_at)

    def finished(self) -> None:
        """Note that the card plays the audio so far to its end, and that no audio follows immediately."""
        if self._converter is not None:
            rest = self._converter.finish()
            with self._lock:
                if self._runs and not self._runs[-1].is_ended:
                    self._runs[-1].append(rest)
        self._end_run()

    def dropped(self, at: float) -> None:
        """Note that the card stopped at the monotonic time ``at``: later audio is not played."""
        if self._converter is not None:
            self._converter.finish()
        with self._lock:
            if self._runs and not self._runs[-1].is_ended:
                sample = round(self._runs[-1].line.sample_at(at))
                self._runs[-1].cut(sample)
                if self._reading is self._runs[-1]:
                    self._dropped = max(0, self._next - sample)
        self._end_run()

    def _end_run(self) -> None:
        with self._lock:
            if self._runs:
                self._runs[-1].is_ended = True

    # --- microphone thread

    def captured(self, samples: int, at: float) -> None:
        """Note that the microphone has recorded ``samples`` so far, the last one at the monotonic time ``at``."""
        with self._lock:
            self._microphone.note(samples, at)

    # --- reading thread

    @property
    def drift_ppm(self) -> float | None:
        """How much faster the speaker's clock is than that of the microphone; ``None`` until it is known."""
        with self._lock:
            return self._drift()

    def correct_drift(self, ppm: float) -> None:
        """Add a correction to the measured drift, once it is known: at most ``MAX_CORRECTION_PPM`` in all."""
        with self._lock:
            if self._drift() is None:
                return
            self._correction_ppm = max(-MAX_CORRECTION_PPM, min(MAX_CORRECTION_PPM, self._correction_ppm + ppm))

    def read(self, position: int, count: int) -> bytes | None:
        """Return what the speaker plays while the microphone records ``count`` samples from ``position`` on.

        Returns:
            16 kHz mono s16le; ``None`` for silence.
        """
        with self._lock:
            self.unplayed, self._dropped = self._dropped, 0
            begin = self._microphone.time_of(position) + LEAD_SECONDS
            while self._runs:
                run = self._runs[0]
                wanted = run.line.sample_at(begin)
                if not run.is_ended or wanted < run.end:
                    if -count < wanted <= run.end:
                        return self._read_run(run, wanted, count)
                    break
                self._runs.popleft()
            self._reading = None
            return None

    def _read_run(self, run: _Run, wanted: float, count: int) -> bytes:
        error = wanted - self._position
        if run is not self._reading or abs(error) > JUMP_SAMPLES:
            self._reading, self._stretcher = run, None
            self._position, self._steered_at = wanted, wanted - STEER_EVERY_SAMPLES
            self._next = max(0, round(wanted))
            self.placements += 1
        silence = bytes(max(0, min(count, round(-wanted))) * SAMPLE_BYTES)
        needed = count - len(silence) // SAMPLE_BYTES
        if wanted - self._steered_at >= STEER_EVERY_SAMPLES:
            self._steer(wanted)
        if self._stretcher is None:
            pcm = run.take(self._next, needed)
            self._next += needed
            self._position += count
        else:
            pcm, used = self._stretcher.pull(run.take(self._next, needed + JUMP_SAMPLES), needed)
            self._next += used
            self._position += count * self._stretcher.ratio
        if len(pcm) < needed * SAMPLE_BYTES:
            self._reading = None  # the run ends, or its writer is late: the next read finds its place by the clock
        pcm = silence + pcm
        return pcm + bytes(count * SAMPLE_BYTES - len(pcm))

    def _steer(self, wanted: float) -> None:
        """Choose the ratio of the resampler until the next call."""
        elapsed = wanted - self._steered_at
        self._steered_at = wanted
        drift = self._drift() or 0.0
        error = wanted - self._position
        if self._stretcher is None:
            if not drift and abs(error) <= STEER_SAMPLES:
                return  # one clock
            self._stretcher = Stretcher()
            self._balance = 0.0
        ratio = 1 + drift * 1e-6
        if abs(error) > STEER_SAMPLES:
            ratio += math.copysign(abs(error) - STEER_SAMPLES, error) / (STEER_SECONDS * SPEECH.rate)
        # The ratios of the resampler are coarse: those of the next intervals make up for the rounding.
        self._balance += ratio * elapsed
        self._stretcher.set_ratio(self._balance / elapsed)
        self._balance -= self._stretcher.ratio * elapsed

    def _drift(self) -> float | None:
        error = math.hypot(self._playback.error_ppm, self._capture.error_ppm)
        drift = self._playback.ppm - self._capture.ppm
        if abs(drift) > max(MIN_DRIFT_PPM, SIGNIFICANCE * error):
            return drift + self._correction_ppm
        if error > MIN_DRIFT_PPM:
            return None
        return self._correction_ppm if abs(self._correction_ppm) > MIN_CORRECTION_PPM else 0.0


def is_audible(pcm: bytes) -> bool:
    """Return whether the root mean square of the audio (s16le) is more than ``AUDIBLE_LEVEL``."""
    samples = array("h", pcm)
    return math.hypot(*samples) > AUDIBLE_LEVEL * math.sqrt(len(samples))
