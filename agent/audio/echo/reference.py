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
"""The reference is moved this much ahead of the clocks: the filters of the devices make some echoes appear early."""

AUDIBLE_LEVEL = 30.0
"""Audio with a higher root mean square, in units of a 16-bit sample, is audible; other audio counts as silence."""

MAX_SECONDS = 8.0
"""Audio that is kept for each run: the buffer of a card plus the time until a microphone frame is processed."""
MAX_RUNS = 16

NEW_RUN_SECONDS = 0.02
"""A piece that is later or earlier than expected by more than this begins a new run: the card was empty or reopened."""
AVERAGED_READINGS = 40
"""Number of clock readings that are averaged for the current time; each has an error of up to a millisecond."""
EARLY_READINGS = 2
"""Number of readings at the start of a run that the next reading replaces: a card does not play before it has a period
of audio, so its clock seems to be ahead by the time until then."""
JUMP_SAMPLES = 160
"""A larger error of the position is corrected immediately; a smaller one by the ratio of the resampler."""
STEER_SAMPLES = 32
STEER_EVERY_SAMPLES = 3000
STEER_SECONDS = 4.0
"""The ratio of the resampler is set every ``STEER_EVERY_SAMPLES``. It corrects errors of the position that are larger
than ``STEER_SAMPLES`` within ``STEER_SECONDS``."""

MIN_DRIFT_PPM = 8.0
"""A smaller drift counts as none: the canceller follows it, and the error of the estimate may be as large."""
SIGNIFICANCE = 5.0
"""A drift counts only if it is larger than this multiple of its standard error."""
MIN_CORRECTION_PPM, MAX_CORRECTION_PPM = 3.0, 20.0
"""Limits of the drift correction that the echo gives. Without a measured drift, a correction below the minimum is
ignored."""


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
        """Note that the count was ``samples`` at the monotonic time ``at``."""
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
        """The number of samples so far, including those that are no longer kept."""
        return self._first + len(self._samples) // SAMPLE_BYTES

    def append(self, pcm: bytes) -> None:
        self._samples += pcm
        excess = len(self._samples) - SPEECH.bytes_of(MAX_SECONDS)
        if excess > 0:
            del self._samples[:excess]
            self._first += excess // SAMPLE_BYTES

    def cut(self, sample: int) -> None:
        """Remove the audio from number ``sample`` on."""
        del self._samples[max(0, sample - self._first) * SAMPLE_BYTES :]

    def take(self, sample: int, count: int) -> bytes:
        """Return up to ``count`` samples from number ``sample`` on."""
        start = max(0, sample - self._first) * SAMPLE_BYTES
        return bytes(self._samples[start : start + count * SAMPLE_BYTES])


class EchoReference:
    """Buffers the audio that the speaker plays for the canceller, which needs it later. The buffer is bounded.

    Each pair of clock readings refines the rates of both cards. If the rates differ, the audio is resampled to the
    clock of the microphone.

    Thread-safe if the speaker thread calls ``note_written``, ``finished`` and ``dropped``, the microphone thread calls
    ``captured``, and one thread calls ``read``. The reading thread owns the attributes.

    Attributes:
        placements: How often the position in the audio was determined only by the clocks, with an error of up to some
            milliseconds.
        unplayed_samples: Number of samples at the end of earlier reads that the card has dropped since the previous
            read.
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
        self._next = 0  # number of the next sample to use of the run
        self._position = 0.0  # number of the sample of the run that the next output represents
        self._steered_at = self._balance = 0.0
        self._correction_ppm = 0.0  # of the drift, from the echo
        self._dropped = 0
        self.placements = self.unplayed_samples = 0

    # --- speaker thread

    def note_written(self, pcm: bytes, format: Format, ends_at: float) -> None:
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
        """How much faster the clock of the speaker is than that of the microphone; ``None`` until this is known."""
        with self._lock:
            return self._drift()

    def correct_drift(self, ppm: float) -> None:
        """Add ``ppm`` to the drift correction, up to ``MAX_CORRECTION_PPM``; no effect until the drift is known."""
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
            self.unplayed_samples, self._dropped = self._dropped, 0
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
        """Return ``count`` samples from number ``wanted`` of the run on; a negative number is before its start."""
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
            self._reading = None  # the run ends, or its writer is late: the clocks determine the next position
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
                return  # the cards have the same clock
            self._stretcher = Stretcher()
            self._balance = 0.0
        ratio = 1 + drift * 1e-6
        if abs(error) > STEER_SAMPLES:
            ratio += math.copysign(abs(error) - STEER_SAMPLES, error) / (STEER_SECONDS * SPEECH.rate)
        # The ratios of the resampler are coarse: the ratios of the next intervals compensate the rounding.
        self._balance += ratio * elapsed
        self._stretcher.set_ratio(self._balance / elapsed)
        self._balance -= self._stretcher.ratio * elapsed

    def _drift(self) -> float | None:
        """Return the drift in ppm, 0.0 if it is negligible, ``None`` until it is known."""
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
