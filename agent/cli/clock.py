"""The local time of day in the output of commands."""

from __future__ import annotations

import time


def clock(at: object) -> str:
    """Return a time in seconds since 1970 as local time of day; ``--:--:--`` if ``at`` is no number."""
    return time.strftime("%H:%M:%S", time.localtime(at)) if isinstance(at, int | float) else "--:--:--"
