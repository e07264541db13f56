"""Executes requests about phrases without delaying other requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agent.errors import UsageError

# Imported by the first request: a daemon that starts needs none of them.
if TYPE_CHECKING:
    from agent.frontends.api.json_rpc import RpcError
    from agent.pipeline.tts.phrase_cache import PhraseCache

Answer = dict[str, object]
Respond = Callable[["Answer | RpcError"], None]


class PhraseAccess:
    """Executes requests about phrases, one at a time, each in a thread of its own. Thread-safe.

    Args:
        cache: Returns the phrases of the configuration in effect.
        warm: Speaks texts silently, with a service or the first one; returns the result. It may take minutes.
    """

    def __init__(self, cache: Callable[[], PhraseCache], warm: Callable[[Sequence[str], str | None], Answer]) -> None:
        self.cache, self.warm = cache, warm
        self._lock = threading.Lock()

    def start(self, work: Callable[[], Answer], respond: Respond) -> None:
        """Call ``respond`` with the result when the work has ended.

        Raises:
            RpcError: Another request is running.
        """
        from agent.frontends.api.errors import UNAVAILABLE, failure

        if not self._lock.acquire(blocking=False):
            raise failure(UNAVAILABLE, "another request about phrases is running: try again")
        try:
            threading.Thread(target=self._run, args=(work, respond), name="phrase request", daemon=True).start()
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
            result = RpcError(INTERNAL_ERROR, f"the request failed: {error}")
        finally:
            self._lock.release()
        respond(result)
