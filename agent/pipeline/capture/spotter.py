"""The interface of the engines that find wake words and stop words."""

from __future__ import annotations

from typing import Protocol

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline


@distinct
class Spot(NamedTuple):
    """A word that was found, or nearly found, in the audio. Immutable.

    ``score`` is 0 to 1. A near miss (``is_found`` is false) is below the threshold. ``after_seconds``: length of the
    audio after the end of the word.
    """

    word: str
    score: float
    is_found: bool = True
    after_seconds: float = 0.0


class Spotter(Protocol):
    """Finds words in a stream of frames. Not thread-safe; owned by the recognizer thread."""

    def find(self, frame: bytes) -> Spot | None:
        """Process a frame; return the word that is found, or nearly found, in the audio so far.

        Args:
            frame: 16 kHz mono s16le, of any length.

        Raises:
            AudioError: The engine cannot be used.
        """

    def close(self, deadline: Deadline) -> None:
        """Release the resources of the engine. Idempotent."""
