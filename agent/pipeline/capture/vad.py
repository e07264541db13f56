"""Voice activity: does a frame of the microphone hold speech?

Each frame is judged as it is. That a turn ends only after a silence, and that a short dip inside a word is no silence,
is the business of whoever asks.
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

PIECE_SECONDS = 0.02
_PIECE_BYTES = SPEECH.bytes_of(PIECE_SECONDS)
_SHARE = 3  # one piece in so many makes a frame speech ...
_ENOUGH_PIECES = 5  # ... and so many do in a long frame: a short word in a second of silence is speech

_WINDOW_PIECES = 90
_LOW_SHARE = 10
# At 10 dB of speech over white noise these find five frames in six and take no frame of the noise for speech; with 9
# and 6 it is two frames in three, and with 6 and 3 one frame in sixteen of rumbling noise is taken for speech.
_ONSET_DECIBELS = 7.0
_STAY_DECIBELS = 4.0
# Decibels over one unit of a 16-bit sample. A floor below this is no noise but a muted or digital silence, and what
# hardly rises above it is nobody speaking to the device.
_LOWEST_FLOOR = 26.0


class Detector(Protocol):
    """Tells speech from everything else, frame by frame. Made for one stream of sound, used by one thread."""

    def speech(self, frame: bytes) -> bool:
        """Whether this frame (16 kHz mono s16le, of any length) holds speech.

        What is left over of a frame that is no multiple of 20 ms is judged with the next one; a frame that completes
        no such piece gets the answer of the one before.
        """


def detector(kind: str) -> Detector:
    """The detector called ``kind``: ``energy``, ``webrtc``, or ``auto``, which is both where webrtcvad is installed.

    ``AudioError`` where ``webrtc`` is wanted and not installed (it names the package), or where there is no such kind.
    """
    if kind == "energy":
        return _ByPieces([EnergyGate().loud])
    if kind == "webrtc":
        return _ByPieces([_webrtc()])
    if kind == "auto":
        return _ByPieces([EnergyGate().loud, _webrtc_where_installed()])
    raise AudioError(f"there is no voice activity detector called {kind!r}: use auto, energy or webrtc")


class EnergyGate:
    """Speech is what is clearly louder than the noise of the last two seconds. Costs 0.6 ms of an x86 core a second.

    The noise is the level that a tenth of the last 1.8 s stays below: speech has its gaps and never lifts it, a fan
    that starts is noise as soon as it fills the window, and quiet is followed at once. A sound that has begun may get
    a little softer before it ends, so that the ends of words stay whole.
    """

    def __init__(self) -> None:
        self._levels: deque[float] = deque(maxlen=_WINDOW_PIECES)
        # Until enough has been heard the noise is taken to be low: the first word may come at once.
        self._levels.extend([_LOWEST_FLOOR] * _WINDOW_PIECES)
        self._loud = False

    @property
    def floor(self) -> float:
        """The noise, in decibels over one unit of a 16-bit sample."""
        return max(_LOWEST_FLOOR, sorted(self._levels)[_WINDOW_PIECES // _LOW_SHARE])

    def loud(self, piece: bytes) -> bool:
        """Whether these 20 ms are louder than the noise, which they become a part of."""
        samples = array("h", piece)
        # Without the mean: the constant offset of a cheap microphone is no sound.
        power = math.hypot(*samples) ** 2 / len(samples) - (sum(samples) / len(samples)) ** 2
        level = 10 * math.log10(max(1.0, power))
        self._loud = level > self.floor + (_STAY_DECIBELS if self._loud else _ONSET_DECIBELS)
        self._levels.append(level)
        return self._loud


class _ByPieces:
    """Cuts frames into pieces of 20 ms and asks every judge about each: speech is what all of them take for it."""

    def __init__(self, judges: list[Callable[[bytes], bool]]) -> None:
        self._judges = judges
        self._rest = b""
        self._last = False

    def speech(self, frame: bytes) -> bool:
        sound = self._rest + frame
        whole = len(sound) - len(sound) % _PIECE_BYTES
        self._rest = sound[whole:]
        if whole:
            pieces = [sound[start : start + _PIECE_BYTES] for start in range(0, whole, _PIECE_BYTES)]
            # Every judge hears every piece, also where another has said no: each follows the noise in its own way.
            verdicts = [[judge(piece) for piece in pieces] for judge in self._judges]
            spoken = sum(map(all, zip(*verdicts, strict=True)))
            self._last = spoken >= min(_ENOUGH_PIECES, math.ceil(len(pieces) / _SHARE))
        return self._last


def _webrtc_where_installed() -> Callable[[bytes], bool]:
    """Loaded with the first piece, in the thread that listens: it takes 15 ms, and nobody is to wait for it before.

    Where it is missing everything passes, so that the other judges decide; also for as long as it cannot be loaded for
    want of descriptors.
    """
    judge: Callable[[bytes], bool] | None = None

    def voiced(piece: bytes) -> bool:
        nonlocal judge
        if judge is None:
            try:
                judge = _webrtc()
            except AudioError:
                judge = lambda piece: True  # noqa: E731
            except OSError:
                return True
        return judge(piece)

    return voiced


def _webrtc() -> Callable[[bytes], bool]:
    try:
        import webrtcvad
    except ImportError as error:
        raise AudioError(
            "the voice activity detector webrtc is wanted, but webrtcvad is not installed: "
            "install the package webrtcvad-wheels, or use energy"
        ) from error
    except NameError as error:  # what it makes itself of an import that found no descriptor
        raise OSError(errno.EMFILE, "webrtcvad cannot be loaded now") from error
    engine = webrtcvad.Vad(2)

    def voiced(piece: bytes) -> bool:
        return bool(engine.is_speech(piece, SPEECH.rate))

    return voiced
