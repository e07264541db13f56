"""One WebSocket, one codec, one owner thread: limits, deadlines, the End guarantee, and one kept warm.

The network's libraries are loaded by the first ``connect``, in the thread that dials: the daemon is ready before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.connection.waiting import HasFileno, wait

if TYPE_CHECKING:
    from agent.connection.connection import Connection, connect

__all__ = ["Connection", "HasFileno", "connect", "wait"]


def __getattr__(name: str) -> Any:
    if name not in ("Connection", "connect"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agent.connection import connection

    return getattr(connection, name)
