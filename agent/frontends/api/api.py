"""Executes the JSON-RPC requests of other programs, for every transport."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.errors import UsageError
from agent.frontends.api.caller import Caller as Caller
from agent.frontends.api.hub import Hub

# Imported by the first request: these modules need json and re, which would delay the start of the daemon.
if TYPE_CHECKING:
    from agent.frontends.api.json_rpc import RpcError

log = logging.getLogger(__name__)


class Api(Hub):
    """Executes requests and distributes events. Thread-safe.

    A callback must not block and must not call the ``Api``. The methods of the API do not block, with one exception:
    methods that change the volume or a mute test whether the disk can be written, and wait at most
    ``agent.daemon.volume.PROBE_SECONDS`` for it.
    """

    def call(self, request: bytes, caller: Caller, answer: Callable[[bytes], None]) -> bool:
        """Execute one request.

        Args:
            request: One JSON-RPC request or notification.
            caller: The program that sent the request.
            answer: Receives the response, without a line end. It is called before this method returns, or later by
                another thread.

        Returns:
            ``True`` if ``answer`` is called exactly once; ``False`` for a JSON-RPC notification, which has no response.
        """
        from agent.frontends.api import json_rpc
        from agent.frontends.api.methods import METHODS

        parsed = json_rpc.parse_request(request)
        if isinstance(parsed, json_rpc.InvalidRequest):
            answer(json_rpc.encode_error(parsed.id, parsed.error))
            return True

        def respond(result: dict[str, object] | RpcError) -> None:
            if parsed.is_notification:
                return
            if isinstance(result, json_rpc.RpcError):
                answer(json_rpc.encode_error(parsed.id, result))
            else:
                answer(json_rpc.encode_result(parsed.id, result))

        result: dict[str, object] | RpcError | None
        try:
            result = METHODS.run(self, caller, parsed, respond)
        except json_rpc.RpcError as error:
            result = error
        except UsageError as error:
            result = json_rpc.RpcError(json_rpc.INVALID_PARAMS, str(error))
        except Exception:  # noqa: BLE001 - a request must not end the thread that serves all clients
            log.exception("api: a request failed, method=%s", parsed.method)
            result = json_rpc.RpcError(json_rpc.INTERNAL_ERROR, "the request failed: see the log of the daemon")
        if result is not None:
            respond(result)
        return not parsed.is_notification
