"""The methods that read what the daemon keeps for people: queue, turns, log, metrics, configuration and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.frontends.api.slow_work import SlowWork
from agent.system.named_tuple import NamedTuple

Rows = list[dict[str, object]]


class SlowReader(SlowWork):
    """Reads details that take a while. Thread-safe.

    Args:
        name: The kind of the details.
        read: Returns them.
    """

    def __init__(self, name: str, read: Callable[[], Rows]) -> None:
        super().__init__(name)
        self.read = read


class Details(NamedTuple):
    """The functions that return the details. Immutable; all of them are thread-safe.

    Args:
        queue: Returns the announcements that have not ended; ``with_texts``: with their texts.
        turns: Returns the last turns, likewise.
        levels: Returns the level of each sound device in dBFS.
        log: Returns the last lines of the log.
        metrics: Returns the metrics in the text format of Prometheus.
        config: Reads the configuration with the origin of each value, from its file.
        checks: Runs the checks of ``doctor`` that open no device, which takes seconds.
    """

    queue: Callable[[bool], Rows]
    turns: Callable[[bool], Rows]
    levels: Callable[[], Mapping[str, float]]
    log: Callable[[], Rows]
    metrics: Callable[[], str]
    config: SlowReader
    checks: SlowReader
