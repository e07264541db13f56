"""A voice activity detector whose answer a test gives for each frame."""

from __future__ import annotations

from collections.abc import Callable

from agent.audio.format import SPEECH


class FrameDetector:
    """Asks a function about each frame; a turn starts after ``onset_seconds`` of frames without a pause.

    ``turns``: the reported results, each with whether it has words and whether it was cut.
    """

    def __init__(self, is_speech: Callable[[bytes], bool], onset_seconds: float = 0.15) -> None:
        self._is_speech, self._onset_seconds = is_speech, onset_seconds
        self._speech_seconds = 0.0
        self.turns: list[tuple[bool, bool]] = []

    silent_seconds = 0.0

    @property
    def starts_segment(self) -> bool:
        return self._speech_seconds > 0 and self._speech_seconds + 1e-9 >= self._onset_seconds

    def is_speech(self, frame: bytes) -> bool:
        is_speech = self._is_speech(frame)
        self._speech_seconds = self._speech_seconds + SPEECH.seconds_of(len(frame)) if is_speech else 0.0
        return is_speech

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        self.turns.append((has_words, is_cut))
