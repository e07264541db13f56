"""Voice activity detection: decides whether one microphone frame contains speech.

The detector classifies each frame independently. The endpointer decides how much silence ends a turn.
"""

from __future__ import annotations

import errno
import math
from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent.audio.format import SPEECH
from agent.errors import AudioError

CHUNK_SECONDS = 0.02
CHUNK_BYTES = SPEECH.bytes_of(CHUNK_SECONDS)
# A frame is speech when one third of its chunks are, or this many chunks of a long frame: a short word in one second of
# silence is speech.
_CHUNKS_PER_SPEECH_CHUNK = 3
_MAX_REQUIRED_CHUNKS = 5

_WINDOW_CHUNKS = 90
_FLOOR_DIVISOR = 10
# Measured with speech 10 dB above white noise: these values detect five frames in six and no noise frame as speech.
# With 9 and 6 dB only two frames in three are detected; with 6 and 3 dB one frame in sixteen of rumble counts as
# speech.
_ONSET_DECIBELS = 7.0
_SUSTAIN_DECIBELS = 4.0
# Decibels relative to one unit of a 16-bit sample. A lower level is a muted or digital input, not noise, and a signal
# only a few decibels above it is not speech directed at the device.
_MIN_FLOOR_DECIBELS = 26.0


class Detector(Protocol):
    """Classifies frames as speech or not. Not thread-safe; one instance per audio stream, owned by one thread."""

    def is_speech(self, frame: bytes) -> bool:
        """Return whether the frame contains speech.

        The detector keeps the rest of a frame that is not a multiple of 20 ms and judges it with the next frame. A
        frame that completes no chunk of 20 ms gets the previous answer.

        Args:
            frame: 16 kHz mono s16le, of any length.
        """


def create_detector(kind: str) -> Detector:
    """Create a detector.

    Args:
        kind: ``energy``, ``webrtc``, or ``auto`` (both, or only ``energy`` if webrtcvad is not installed).

    Raises:
        AudioError: the kind is unknown, or ``webrtc`` is not installed (the message names the package).
    """
    if kind == "energy":
        return _ChunkDetector([EnergyGate().is_loud])
    if kind == "webrtc":
        return _ChunkDetector([_load_webrtc()])
    if kind == "auto":
        return _ChunkDetector([EnergyGate().is_loud, _webrtc_if_installed()])
    raise AudioError(f"unknown voice activity detector {kind!r}: use auto, energy or webrtc")


class EnergyGate:
    """Classifies a chunk as speech if it is clearly louder than the noise of the last 1.8 s.

    The noise floor is the level below which a tenth of the window stays. Speech has pauses and does not raise it; a fan
    counts as noise once it fills the window. The floor follows a drop immediately. A sound that has started may become
    slightly softer before it ends, so that word endings stay complete. Costs 0.6 ms of one x86 core per second of
    audio. Not thread-safe; owned by the thread that owns the detector.
    """

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=_WINDOW_CHUNKS)
        # Assume low noise until the window is full: the user may speak immediately.
        self._levels.extend([_MIN_FLOOR_DECIBELS] * _WINDOW_CHUNKS)
        self._is_loud = False

    @property
    def noise_floor(self) -> float:
        """The noise level, in decibels relative to one unit of a 16-bit sample."""
        return max(_MIN_FLOOR_DECIBELS, sorted(self._levels)[_WINDOW_CHUNKS // _FLOOR_DIVISOR])

    def is_loud(self, chunk: bytes) -> bool:
        """Return whether 20 ms of audio (16 kHz mono s16le) exceed the noise, and add them to the noise window."""
        samples = array("h", chunk)
        # The mean is removed: the constant offset of a cheap microphone is not sound.
        power = math.hypot(*samples) ** 2 / len(samples) - (sum(samples) / len(samples)) ** 2
        level = 10 * math.log10(max(1.0, power))
        self._is_loud = level > self.noise_floor + (_SUSTAIN_DECIBELS if self._is_loud else _ONSET_DECIBELS)
        self._levels.append(level)
        return self._is_loud


class _ChunkDetector:
    """Splits frames into chunks of 20 ms; a chunk is speech if every classifier accepts it.

    Not thread-safe; owned by the recognizer thread.
    """

    def __init__(self, classifiers: list[Callable[[bytes], bool]]) -> None:
        self._classifiers = classifiers
        self._remainder = b""
        self._last_result = False

    def is_speech(self, frame: bytes) -> bool:
        audio = self._remainder + frame
        usable = len(audio) - len(audio) % CHUNK_BYTES
        self._remainder = audio[usable:]
        if usable:
            chunks = [audio[start : start + CHUNK_BYTES] for start in range(0, usable, CHUNK_BYTES)]
            # Every classifier gets every chunk, even if another one rejects it: each tracks the noise on its own.
            results = [[classify(chunk) for chunk in chunks] for classify in self._classifiers]
            speech_chunks = sum(map(all, zip(*results, strict=True)))
            required = min(_MAX_REQUIRED_CHUNKS, math.ceil(len(chunks) / _CHUNKS_PER_SPEECH_CHUNK))
            self._last_result = speech_chunks >= required
        return self._last_result


def _webrtc_if_installed() -> Callable[[bytes], bool]:
    """Return a classifier that loads webrtcvad with its first chunk.

    Loading takes 15 ms, which would delay the start of the daemon. Without webrtcvad, or while no file
    descriptor is left to load it, the classifier accepts every chunk, so that the others decide.
    """
    classify: Callable[[bytes], bool] | None = None

    def is_voiced(chunk: bytes) -> bool:
        nonlocal classify
        if classify is None:
            try:
                classify = _load_webrtc()
            except AudioError:
                classify = lambda chunk: True  # noqa: E731
            except OSError:
                return True
        return classify(chunk)

    return is_voiced


def _load_webrtc() -> Callable[[bytes], bool]:
    try:
        import webrtcvad
    except ImportError as error:
        raise AudioError(
            "voice activity detector webrtc: webrtcvad is not installed. "
            "Install the package webrtcvad-wheels, or use energy."
        ) from error
    except NameError as error:
        # webrtcvad handles a failure of its import of importlib.metadata with ``except PackageNotFoundError``, a name
        # that the failed import did not define. The import fails if the process has no free file descriptor.
        raise OSError(errno.EMFILE, "cannot load webrtcvad: no free file descriptor") from error
    engine = webrtcvad.Vad(2)

    def is_voiced(chunk: bytes) -> bool:
        return bool(engine.is_speech(chunk, SPEECH.rate))

    return is_voiced
