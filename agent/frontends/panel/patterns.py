"""Defines the patterns that the light shows in each state."""

from __future__ import annotations

from agent.system.named_tuple import NamedTuple


class Step(NamedTuple):
    """One part of a pattern. Immutable.

    ``levels``: 1 (on) or 0 (off) for each part of the LED. ``seconds``: the duration; ``None``: until the state
    changes.
    """

    levels: tuple[int, ...]
    seconds: float | None = None


Pattern = tuple[Step, ...]
"""The steps of a pattern, which are repeated until the state changes."""


def _blink(levels: tuple[int, ...], *on_and_off_seconds: float) -> Pattern:
    dark = (0,) * len(levels)
    return tuple(Step(dark if index % 2 else levels, each) for index, each in enumerate(on_and_off_seconds))


_ON = (1,)
SINGLE: dict[str, Pattern] = {
    "idle": (Step((0,)),),
    "listening": (Step(_ON),),
    "thinking": _blink(_ON, 0.2, 0.2),
    "speaking": _blink(_ON, 0.8, 0.2),
    "muted": _blink(_ON, 0.1, 2.9),
    "error": _blink(_ON, 0.1, 0.2, 0.1, 1.6),
}
"""The patterns of an LED with one color, by state."""

_RED, _GREEN, _BLUE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
COLOR: dict[str, Pattern] = {
    "idle": (Step((0, 0, 0)),),
    "listening": (Step(_BLUE),),
    "thinking": _blink(_BLUE, 0.2, 0.2),
    "speaking": (Step(_GREEN),),
    "muted": (Step(_RED),),
    "error": _blink(_RED, 0.1, 0.2, 0.1, 1.6),
}
"""The patterns of a color LED, by state. The levels are red, green and blue."""
