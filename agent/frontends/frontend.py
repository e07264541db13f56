"""What the daemon asks of a door for the outside, whatever stands in front of it."""

from __future__ import annotations

from agent.pipeline.conversation import Record
from agent.pipeline.stage import Stage
from agent.pipeline.status import Status

News = Record | Status
"""What the daemon tells its frontends: how an utterance ended, and how the daemon itself is, whenever that changes."""


class Frontend(Stage):
    """A worker through which wishes come in: it puts events into the inbox and is told the news.

    ``open()`` takes what the frontend needs (a path, a pin) before anything runs, and raises ``ConfigError``.
    ``tell(news)`` comes from the main thread and never blocks. ``shut()`` is the first step of the daemon's end: no
    new wish is accepted, while who has made one is still told how it ended. Then ``stop()`` or ``abort()``, as of any
    worker. Calling one of them twice, or without ``start()``, is safe.
    """

    def open(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.open")

    def tell(self, news: News) -> None:
        raise NotImplementedError(f"{type(self).__name__}.tell")

    def shut(self) -> None:
        raise NotImplementedError(f"{type(self).__name__}.shut")
