"""One WebSocket, one codec, one owner thread: limits, deadlines, the End guarantee, and one kept warm."""

from agent.connection.connection import Connection, connect
from agent.connection.waiting import HasFileno, wait

__all__ = ["Connection", "HasFileno", "connect", "wait"]
