"""The period of a sound card for playback."""

from __future__ import annotations


def playback_period(period_seconds: float, buffer_seconds: float) -> float:
    """Return the period of a card for playback, in seconds: at least 45 % of the buffer.

    A card buffers at least two periods and slightly more. With the default buffer of 0.2 s the period is 0.09 s, so
    the card starts as soon as the first message of a service arrives, which usually has 0.1 s of audio.
    """
    return max(period_seconds, 0.45 * buffer_seconds)
