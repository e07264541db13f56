"""The interface that every frontend implements."""

from __future__ import annotations

from collections.abc import Callable

from agent.pipeline.actions import Record
from agent.pipeline.events import Event
from agent.pipeline.stage import Stage
from agent.pipeline.status import Status
from agent.system.named_tuple import NamedTuple

Notification = Record | Status | Event
"""A notification of the daemon to its frontends: a recorded end of an utterance, a change of the status, or an event
of the inbox."""


class Frontends(NamedTuple):
    """The frontends of a daemon. Immutable.

    Args:
        workers: The frontends.
        notify: Passes each notification on to them, in the main thread. Never blocks.
        stop_accepting: Refuses new requests of all frontends, as the first step of the shutdown. Earlier requests still
            get their responses.
        close: Answers the requests that still wait, before the frontends stop.
    """

    workers: tuple[Frontend, ...] = ()
    notify: Callable[[Notification], None] | None = None
    stop_accepting: Callable[[], None] = lambda: None
    close: Callable[[], None] = lambda: None


class Frontend(Stage):
    """A worker that reports requests from outside as events.

    Thread-safe: the main thread calls every method but ``run``. Each may be called twice, and without ``start``.
    """

    def open(self) -> None:
        """Acquire the resources of the frontend (a path, a pin) before any thread runs.

        Raises:
            ConfigError: The resource is not available.
        """
        raise NotImplementedError(f"{type(self).__name__}.open")

    def stop_accepting(self) -> None:
        """Refuse new clients, as the first step of the shutdown. Earlier requests still get their responses."""
        raise NotImplementedError(f"{type(self).__name__}.stop_accepting")
