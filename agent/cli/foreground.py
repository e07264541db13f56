"""Shared parts of the commands that run pipeline workers themselves: signals, crashes and device messages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from agent.cli.notice import notice
from agent.errors import AgentError, ConfigError
from agent.pipeline.events import DeviceBack, DeviceLost, Event, Stop, WorkerCrashed
from agent.system.limits import describe_no_descriptor
from agent.system.signals import CANCEL_SIGNALS, Signals


@contextlib.contextmanager
def stop_signals(report: Callable[[Event], object]) -> Iterator[None]:
    """Report SIGINT, SIGTERM and SIGUSR1 as ``Stop`` for the duration of the block.

    A second SIGINT or SIGTERM ends the process immediately.

    Args:
        report: Receives the event; called by the signal thread.
    """
    signals = Signals(dict.fromkeys(CANCEL_SIGNALS, lambda name: report(Stop(name))))
    try:
        yield
    finally:
        signals.restore()


def crash_error(event: WorkerCrashed) -> AgentError:
    """Return the error of the worker if it is an ``AgentError``, else a new error.

    The new error is a ``ConfigError`` if no file descriptor was free, else an internal error that names the worker.
    """
    if isinstance(event.error, AgentError):
        return event.error
    if reason := describe_no_descriptor(event.error):
        return ConfigError(reason)
    return AgentError(f"the {event.worker} thread crashed: {event.error!r}")


def print_device_event(event: DeviceLost | DeviceBack) -> None:
    """Print to standard error that a sound device is missing or available again."""
    if isinstance(event, DeviceLost):
        notice(f"no {event.device}: {event.reason}; waiting for it")
    else:
        notice(f"the {event.device} is back after {event.seconds:.1f} s")
