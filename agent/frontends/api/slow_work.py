"""Executes slow requests without delaying other requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.errors import AgentError, UsageError

# Imported by the first request: these modules need json, which would delay the start of the daemon.
if TYPE_CHECKING:
    from agent.frontends.api.json_rpc import RpcError

log = logging.getLogger(__name__)

Answer = dict[str, object]
Respond = Callable[["Answer | RpcError"], None]


class SlowWork:
    """Executes requests of one kind, one at a time, each in a thread of its own. Thread-safe.

    Args:
        name: What the requests are about, for log lines and errors.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()

    def start(self, work: Callable[[], Answer], respond: Respond) -> None:
        """Start the work in a new thread, which passes the result or the error to ``respond``.

        Raises:
            RpcError: Another request of this kind is running, or the thread cannot be started.
        """
        from agent.frontends.api.errors import UNAVAILABLE, failure

        if not self._lock.acquire(blocking=False):
            raise failure(UNAVAILABLE, f"another request about {self._name} is running: try again")
        try:
            threading.Thread(target=self._run, args=(work, respond), name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._lock.release()
            raise failure(UNAVAILABLE, f"the request cannot start: {error}") from error

    def _run(self, work: Callable[[], Answer], respond: Respond) -> None:
        from agent.frontends.api.json_rpc import INTERNAL_ERROR, INVALID_PARAMS, RpcError

        result: Answer | RpcError
        try:
            result = work()
        except UsageError as error:
            result = RpcError(INVALID_PARAMS, str(error))
        except Exception as error:  # noqa: BLE001 - the caller gets a response in any case
            is_defect = not isinstance(error, AgentError | OSError)
            log.warning("api: a request failed, about=%s, %s", self._name, error, exc_info=is_defect)
            result = RpcError(INTERNAL_ERROR, f"the request about {self._name} failed: {error}")
        finally:
            self._lock.release()
        respond(result)
