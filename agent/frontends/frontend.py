"""The interface that every frontend implements."""

from __future__ import annotations

from agent.pipeline.conversation import Record
from agent.pipeline.stage import Stage
from agent.pipeline.status import Status

Notification = Record | Status
"""What the daemon sends to its frontends: each recorded end of an utterance, and each change of the status."""


class Frontend(Stage):
    """A worker that reports requests from outside as events and receives notifications.

    Thread-safe: the main thread calls every method but ``run``. Each may be called twice, and without ``start``.
    """

    def open(self) -> None:
        """Acquire what the frontend needs (a path, a pin) before any thread runs.

        Raises:
            ConfigError: The resource is not available.
        """
        raise NotImplementedError(f"{type(self).__name__}.open")

    def notify(self, notification: Notification) -> None:
        """Pass a notification on. Never blocks."""
        raise NotImplementedError(f"{type(self).__name__}.notify")

    def stop_accepting(self) -> None:
        """Refuse new requests, as the first step of the shutdown. Requests already made still get their answers."""
        raise NotImplementedError(f"{type(self).__name__}.stop_accepting")
