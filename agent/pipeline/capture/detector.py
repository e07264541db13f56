"""The interface of voice activity detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Detector(Protocol):
    """Classifies the frames of one audio stream as speech or not.

    Not thread-safe; owned by the recognizer thread.
    """

    @property
    def starts_segment(self) -> bool:
        """Whether the last frame completes enough speech for the start of a segment."""

    @property
    def silent_seconds(self) -> float:
        """Silence at the end of the last speech frame, in seconds; shorter than a frame."""

    def is_speech(self, frame: bytes) -> bool:
        """Return whether the frame contains speech.

        The detector divides the audio into chunks. It keeps an incomplete chunk at the end of a frame and judges it
        with the next frame. A frame that completes no chunk gets the previous answer.

        Args:
            frame: 16 kHz mono s16le, of any length.
        """

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        """Note the result of a segment, so that the detector adapts to sounds without words.

        Args:
            has_words: whether its transcript has words.
            is_cut: whether it ended at its maximum length instead of a pause.
        """


def silent_at_end(results: Sequence[bool]) -> int:
    """Return the number of chunks after the last speech chunk; 0 if no chunk is speech."""
    return next((count for count, is_speech in enumerate(reversed(results)) if is_speech), 0)
