"""The period of a sound card for playback."""

from __future__ import annotations


def playback_period(period_seconds: float, buffer_seconds: float) -> float:
    """Return the period of a card for playback, in seconds: a card buffers at least two periods, and some time more.

    With 0.09 s of the default buffer of 0.2 s it starts at once with a message of 0.1 s, the usual length.
    """
    return max(period_seconds, 0.45 * buffer_seconds)
