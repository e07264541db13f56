"""Base class of the pipeline's workers, and connections in standby that report their state as events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.errors import ServiceError
from agent.pipeline.events import BreakerChanged, Event, ServiceConnected, ServiceDown, ServiceUp, WorkerCrashed
from agent.services.connection.standby import Standby
from agent.system.threads import Deadline, Worker

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection


class Stage(Worker):
    """A worker that reports events; a crash of its thread becomes ``WorkerCrashed``.

    ``start``, ``stop``, ``abort`` and ``join`` are thread-safe. Everything else is owned by the worker's own thread.

    Args:
        name: Name of the thread, shown in log lines and stack dumps.
        report: Receives each event, in the worker's thread. It must not block.
    """

    def __init__(self, name: str, report: Callable[[Event], None]) -> None:
        super().__init__(name, lambda worker, error: report(WorkerCrashed(worker, error)))
        self.report = report


def make_standby(
    service: str,
    open: Callable[[Deadline], Connection],
    report: Callable[[Event], None],
    *,
    config_generation: int = 0,
    **options: Any,
) -> Standby:
    """Create a ``Standby`` that reports ``ServiceConnected``, ``ServiceDown``, ``ServiceUp`` and ``BreakerChanged``.

    Args:
        service: Name of the service in the configuration.
        open: Dials the service, as for ``Standby``.
        report: Receives the events, in the thread that owns the standby.
        config_generation: The number that each event carries (see ``ServiceDown``).
        options: Keyword arguments for ``Standby``.
    """

    def on_down(error: ServiceError) -> None:
        report(ServiceDown(service, str(error), error.permanent, error.status, config_generation))

    def on_up(tries: int) -> None:
        report(ServiceUp(service, tries, config_generation))

    def on_connected() -> None:
        report(ServiceConnected(service, config_generation))

    def on_breaker(state: str) -> None:
        report(BreakerChanged(service, state, config_generation))

    return Standby(service, open, on_down, on_up, on_connected, on_breaker=on_breaker, **options)
