"""The methods that read what the daemon keeps for people: queue, turns, log, metrics, configuration and checks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from agent.frontends.api.errors import UNAVAILABLE, failure
from agent.frontends.api.json_rpc import INTERNAL_ERROR, RpcError
from agent.system.named_tuple import NamedTuple

Rows = list[dict[str, object]]


class SlowReader:
    """Runs a slow function in a thread of its own, one call at a time. Thread-safe.

    Args:
        name: The name of the thread.
        read: The function.
    """

    def __init__(self, name: str, read: Callable[[], Rows]) -> None:
        self._name, self._read = name, read
        self._lock = threading.Lock()

    def start(self, key: str, respond: Callable[[dict[str, object] | RpcError], None]) -> None:
        """Call ``respond`` with the result under ``key`` when the function has ended.

        Raises:
            RpcError: The function is running for another request.
        """
        if not self._lock.acquire(blocking=False):
            raise failure(UNAVAILABLE, f"{self._name} is running for another request: try again")
        try:
            threading.Thread(target=self._run, args=(key, respond), name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._lock.release()
            raise failure(UNAVAILABLE, f"{self._name} cannot start: {error}") from error

    def _run(self, key: str, respond: Callable[[dict[str, object] | RpcError], None]) -> None:
        result: dict[str, object] | RpcError
        try:
            result = {key: self._read()}
        except Exception as error:  # noqa: BLE001 - the caller gets a response in any case
            result = RpcError(INTERNAL_ERROR, f"{self._name} failed: {error}")
        finally:
            self._lock.release()
        respond(result)


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
