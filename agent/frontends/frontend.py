"""The interface that every frontend implements."""

from __future__ import annotations

from collections.abc import Callable

from agent.pipeline.actions import Record
from agent.pipeline.events import Event
from agent.pipeline.stage import Stage
from agent.pipeline.status import Status
from agent.system.named_tuple import NamedTuple

Notification = Record | Status | Event
"""What the daemon reports to its frontends: the recorded end of an utterance, a new status, or an event of the
inbox."""


class Frontends(NamedTuple):
    """The frontends of a daemon. Immutable.

    Args:
        workers: The frontends.
        notify: Passes a notification to every frontend. Called by the main thread; never blocks.
        stop_accepting: Makes all frontends refuse new requests. This is the first step of the shutdown. Earlier
            requests still get their responses.
        close: Answers the requests that are still pending, before the frontends stop.
    """

    workers: tuple[Frontend, ...] = ()
    notify: Callable[[Notification], None] | None = None
    stop_accepting: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None


class Frontend(Stage):
    """A worker that reports requests of users and other programs as events.

    The main thread calls every method except ``run``. It may call a method more than once, and also without ``start``.
    """

    def open(self) -> None:
        """Acquire the resources of the frontend, such as a socket path or a pin, before any thread runs.

        Raises:
            ConfigError: A resource is not available.
        """
        raise NotImplementedError(f"{type(self).__name__}.open")

    def stop_accepting(self) -> None:
        """Refuse new clients, as the first step of the shutdown. Earlier requests still get their responses."""
        raise NotImplementedError(f"{type(self).__name__}.stop_accepting")
