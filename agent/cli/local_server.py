"""The local speech server that a command needs: the one that already listens, or one of its own for the while."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from dataclasses import replace

from agent.daemon.builder import own_server
from agent.daemon.local_server import LocalServer
from agent.settings.model import Config

PROBE_SECONDS = 0.5


@contextlib.contextmanager
def local_server(config: Config) -> Iterator[LocalServer | None]:
    """A local server for as long as the block lasts, on any free port; ``None`` where none is needed, or where one
    listens already at the configured place."""
    settings = own_server(config)
    if settings is None or listens(config.server.host, config.server.port):
        yield None
        return
    server = LocalServer(replace(settings, host="127.0.0.1", port=0))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def listens(host: str, port: int) -> bool:
    """Whether a local speech server answers there."""
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
