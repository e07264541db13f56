"""A trouble that repeats: one line when it begins, one when it is over, a count between."""

from __future__ import annotations

import logging
import threading
import time


class Flood:
    """One kind of trouble, told twice however often it happens.

    ``happened(...)`` writes its line the first time and counts from then on; ``over(...)`` writes its line, with how
    often and how long it was, if anything had happened at all. Any thread may call both. ``count`` is how often it has
    happened since it began.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._began = 0.0
        self.count = 0

    def happened(self, message: str, *args: object) -> bool:
        """Whether this was the first time, and the line was written."""
        with self._lock:
            self.count += 1
            if self.count > 1:
                return False
            self._began = time.monotonic()
        self._log.warning(message, *args)
        return True

    def over(self, message: str, *args: object) -> int:
        """How often it had happened; 0, and no line, where it had not."""
        with self._lock:
            count, self.count = self.count, 0
            seconds = time.monotonic() - self._began
        if count:
            times = "once" if count == 1 else f"{count} times"
            self._log.info(f"{message} (%s in %.1f s)", *args, times, seconds)
        return count
