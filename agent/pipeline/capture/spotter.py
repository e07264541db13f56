"""The interface of the engines that find wake words and stop words."""

from __future__ import annotations

from typing import Protocol

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline


@distinct
class Spot(NamedTuple):
    """A word that ends in a frame. Immutable.

    ``score`` is 0 to 1. A near miss (``is_found`` is false) is below the threshold. The last ``after_seconds`` of the
    audio follow the word.
    """

    word: str
    score: float
    is_found: bool = True
    after_seconds: float = 0.0


class Spotter(Protocol):
    """Finds words in a stream of frames. Not thread-safe; owned by the recognizer thread."""

    def find(self, frame: bytes) -> Spot | None:
        """Return the word that is found, or nearly found, in the audio until the end of this frame.

        Args:
            frame: 16 kHz mono s16le, of any length.

        Raises:
            AudioError: The engine cannot be used.
        """

    def close(self, deadline: Deadline) -> None:
        """Release what the engine holds. Idempotent."""
