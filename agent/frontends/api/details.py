"""The functions behind the methods of the web page: queue, turns, levels, log, metrics, configuration and checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.frontends.api.slow_work import SlowWork
from agent.system.named_tuple import NamedTuple

Rows = list[dict[str, object]]


class SlowReader(SlowWork):
    """Reads details in a thread of its own, because this takes seconds. Thread-safe.

    Args:
        name: What is read, for log lines and errors.
        read: Returns the details. It may block.
    """

    def __init__(self, name: str, read: Callable[[], Rows]) -> None:
        super().__init__(name)
        self.read = read


class DetailReaders(NamedTuple):
    """The functions that return the details. Immutable; all of them are thread-safe.

    Args:
        queue: Returns the announcements that have not ended. Its argument says whether to include their texts.
        turns: Returns the last turns. Its argument says whether to include their texts.
        levels: Returns the level of each sound device in dBFS.
        log: Returns the last lines of the log.
        metrics: Returns the metrics in the text format of Prometheus.
        config: Reads the configuration file, and returns each value with its origin.
        checks: Runs the checks of ``doctor`` that open no sound device. This takes seconds.
    """

    queue: Callable[[bool], Rows]
    turns: Callable[[bool], Rows]
    levels: Callable[[], Mapping[str, float]]
    log: Callable[[], Rows]
    metrics: Callable[[], str]
    config: SlowReader
    checks: SlowReader
