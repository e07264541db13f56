"""Chooses how much silence ends a turn, depending on the text of the turn so far."""

from __future__ import annotations

from collections.abc import Callable

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple


@distinct
class PauseChooser(NamedTuple):
    """The silence in seconds that ends a turn, by the completeness of its text. Immutable.

    ``matches`` returns whether a text is a request that the responder knows.
    """

    complete: float
    unsure: float
    incomplete: float
    matches: Callable[[str], bool]

    def choose(self, text: str) -> float:
        """Return the silence in seconds that ends a turn with this text so far."""
        # The tables of words are imported with the first partial: an import at the start would delay READY.
        from agent.pipeline.capture.turn_end import Completeness, judge

        match judge(text, self.matches):
            case Completeness.COMPLETE:
                return self.complete
            case Completeness.INCOMPLETE:
                return self.incomplete
            case _:
                return self.unsure
