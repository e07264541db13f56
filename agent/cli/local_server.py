"""The local speech server of a command: the one that already listens, or one for the duration of the command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.daemon.connection_builder import local_server_settings
from agent.settings.model import Config

if TYPE_CHECKING:
    from agent.daemon.local_server import LocalServer

PROBE_SECONDS = 0.5


@contextlib.contextmanager
def local_server(config: Config) -> Iterator[LocalServer | None]:
    """Run a local speech server on a free port for the duration of the block.

    Yields:
        The server; ``None`` if the configuration needs none, or if a server already answers at the configured address.
    """
    settings = local_server_settings(config)
    if settings is None or is_serving(config.server.host, config.server.port):
        yield None
        return
    from agent.daemon.local_server import LocalServer

    server = LocalServer(settings._replace(host="127.0.0.1", port=0, wyoming="none"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


def is_serving(host: str, port: int) -> bool:
    """Return whether a local speech server answers at this address."""
    import http.client  # slow to import, and only needed for the local server

    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
