"""A web frontend with the real methods behind it, and clients that speak HTTP to it."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agent.config.secrets import Secret
from agent.frontends.api.api import Api
from agent.frontends.web.access import Access
from agent.frontends.web.connection import HttpTiming
from agent.frontends.web.page import load_page
from agent.frontends.web.routes import Site
from agent.frontends.web.server import WebServer
from agent.frontends.web.settings import WebSettings
from agent.pipeline.events import Event
from agent.pipeline.status import Status
from agent.system.threads import Deadline
from support.machine import free_port

TOKEN = "token-of-the-tests-0123456789"
SECONDS = 20.0
STATUS = Status("ready to speak", "idle", (), 80, mode="announce", listens=False)
JSON = {"Content-Type": "application/json"}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Response(NamedTuple):
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class WebHarness:
    """A running web frontend. ``events`` are its requests to the daemon."""

    def __init__(
        self,
        token: str | None = TOKEN,
        *,
        timing: HttpTiming | None = None,
        metrics: Callable[[], str] = lambda: "up 1\n",
        levels: Callable[[], Mapping[str, float]] = dict,
        **settings: Any,
    ) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.api = Api(self.events.put)
        self.api.notify(STATUS)
        self.port = free_port()
        settings.setdefault("listen", f"127.0.0.1:{self.port}")
        secret = Secret(value=token) if token is not None else Secret(credential="missing-in-tests")
        self.settings = WebSettings(token=secret, **settings)

        def make_site(access: Access) -> Site:
            return Site(
                self.api,
                access,
                load_page(),
                metrics=metrics,
                levels=levels,
                directory=self.settings.directory,
                transcripts=self.settings.transcripts,
            )

        self.server = WebServer(
            self.settings, self.events.put, make_site, expire=self.api.expire, timing=timing, retry_seconds=0.05
        )

    def __enter__(self) -> WebHarness:
        self.server.open()
        self.server.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.stop_accepting()
        self.server.stop()
        assert self.server.join(Deadline(SECONDS))

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Response:
        """Send one request; a body that is not bytes is sent as JSON."""
        address = ("127.0.0.1", self.port)
        connection = (
            http.client.HTTPConnection(*address, timeout=SECONDS)
            if tls is None
            else http.client.HTTPSConnection(*address, timeout=SECONDS, context=tls)
        )
        try:
            encoded = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, encoded, {**(JSON if body is not None else {}), **(headers or {})})
            response = connection.getresponse()
            return Response(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Response:
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def call(self, method: str, headers: Mapping[str, str] = BEARER, **params: object) -> Any:
        """Call a method of the API and return its response."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.request("POST", "/rpc", request, headers).json

    def connect(self) -> socket.socket:
        """A plain connection."""
        connected = socket.create_connection(("127.0.0.1", self.port), SECONDS)
        connected.settimeout(SECONDS)
        return connected

    def stream(self, path: str = "/events", headers: Mapping[str, str] = BEARER) -> EventReader:
        """Open an event stream."""
        return EventReader(self.port, path, headers)


class EventReader:
    """Reads an event stream."""

    def __init__(self, port: int, path: str, headers: Mapping[str, str]) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self.connection.request("GET", path, headers=dict(headers))
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        assert self.line() == "retry: 2000"

    def line(self) -> str | None:
        """The next line that is not empty; ``None`` at the end of the stream."""
        while raw := self.response.readline():
            if line := raw.decode().rstrip("\n"):
                return line
        return None

    def event(self) -> dict[str, Any]:
        """The parameters of the next event."""
        while (line := self.line()) is not None:
            if line.startswith("data: "):
                params: dict[str, Any] = json.loads(line.removeprefix("data: "))["params"]
                return params
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.response.close()
        self.connection.close()


def certificate(directory: Path) -> tuple[str, str, ssl.SSLContext]:
    """The files of a certificate and its key, and a context of a client that trusts it."""
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = directory / "chain.pem", directory / "key.pem"
    for blob in issued.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return str(chain), str(key), context
