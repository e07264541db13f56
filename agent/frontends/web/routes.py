"""Serves the paths of the HTTP API and the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue

from agent.frontends.api.api import Api, Caller
from agent.frontends.api.described import EVENTS
from agent.frontends.api.json_rpc import RpcError
from agent.frontends.api.subscription import Subscription
from agent.frontends.web.access import Access, Identity
from agent.frontends.web.connection import CHUNK_BYTES, HttpConnection
from agent.frontends.web.event_stream import LEVEL, EventStream, Levels
from agent.frontends.web.http_error import HttpError
from agent.frontends.web.page import Page
from agent.frontends.web.static_files import is_directory, open_static
from agent.system.json_text import parse_json

Handler = Callable[[HttpConnection], None]

APP = "/app/"
MAX_STREAMS = 12
"""Maximum number of event streams at the same time. It is below ``server.MAX_CONNECTIONS``, so that some connections
remain for other requests."""

SOURCE = "web"


class Site:
    """Serves the paths. Thread-safe: each connection uses it in its own thread.

    Args:
        api: The methods and events of the daemon.
        access: The access rules.
        page: The page.
        metrics: Returns the metrics in the text format of Prometheus.
        levels: Returns the level of each sound device in dBFS.
        directory: The directory that is served under ``/app/``; ``None``: no directory is served.
        transcripts: Whether a caller with the token may read transcripts and the texts of utterances.
    """

    def __init__(
        self,
        api: Api,
        access: Access,
        page: Page,
        *,
        metrics: Callable[[], str],
        levels: Levels,
        directory: str | None,
        transcripts: bool,
    ) -> None:
        self._api, self._access, self._page, self._metrics, self._levels = api, access, page, metrics, levels
        self._directory, self._transcripts = directory, transcripts
        self._lock = threading.Lock()
        self._wakers: set[Callable[[], None]] = set()  # functions that end the waits of the connections
        self._streams = 0
        self._is_ending = False
        self._static: Mapping[str, Handler] = {"GET": self._get_static, "HEAD": self._get_static}
        self._routes: Mapping[str, Mapping[str, Handler]] = {
            "/": {"GET": self._get_page, "HEAD": self._get_page},
            "/rpc": {"POST": self._call},
            "/events": {"GET": self._stream},
            "/metrics": {"GET": self._get_metrics, "HEAD": self._get_metrics},
            "/session": {"GET": self._get_session},
            "/login": {"POST": self._log_in},
            "/logout": {"POST": self._log_out},
        }

    def route(self, path: str, method: str) -> Handler:
        """Return the function that serves a path with a method.

        Raises:
            HttpError: There is no such path, or it has no such method.
        """
        handlers = self._static if f"{path}/".startswith(APP) else self._routes.get(path)
        if handlers is None:
            raise HttpError(404, "there is nothing at this address")
        if method == "OPTIONS":
            return HttpConnection.allow_page
        if method not in handlers:
            allowed = ", ".join(handlers)
            raise HttpError(405, f"this address expects {allowed}", {"Allow": allowed})
        return handlers[method]

    def end(self) -> None:
        """End all current and future event streams and waits for an answer, because the daemon is shutting down."""
        with self._lock:
            self._is_ending = True
            for wake in self._wakers:
                wake()

    # --- the page and files

    def _get_page(self, connection: HttpConnection) -> None:
        headers = {"Content-Security-Policy": self._page.policy}
        connection.respond(200, self._page.content, "text/html; charset=utf-8", headers)

    def _get_metrics(self, connection: HttpConnection) -> None:
        connection.require_known()
        connection.respond(200, self._metrics().encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _get_static(self, connection: HttpConnection) -> None:
        connection.require_known()
        if self._directory is None:
            raise HttpError(404, "web.directory is not set")
        address = connection.path.partition("?")[0]
        path = address[len(APP) :]
        if not address.endswith("/") and (not path or is_directory(self._directory, path)):
            connection.respond(301, b"", "text/plain", {"Location": f"{address}/"})
            return
        found = open_static(self._directory, path)
        if found is None:
            raise HttpError(404, "there is no such file")
        with found.file as file:
            length = {"Content-Length": str(found.size), "Cache-Control": "no-cache"}
            connection.begin(200, found.content_type, length)
            remaining = 0 if connection.command == "HEAD" else found.size
            while remaining and (data := file.read(min(CHUNK_BYTES, remaining))):
                connection.wfile.write(data)
                remaining -= len(data)

    # --- the session

    def _get_session(self, connection: HttpConnection) -> None:
        session = {
            "trusted": connection.identity is Identity.TRUSTED,
            "local": connection.identity is Identity.LOCAL,
            "has_token": self._access.has_token,
            "transcripts": self._transcripts,
        }
        connection.respond_json(200, session)

    def _log_in(self, connection: HttpConnection) -> None:
        request = parse_json(connection.read_body())
        token = None if isinstance(request, str) else request.get("token")
        if not isinstance(token, str):
            raise HttpError(400, 'the body has no token, expected {"token": TOKEN}')
        connection.check_token(token)
        connection.respond_json(
            200, {}, {"Set-Cookie": self._access.cookie(self._access.new_session(), connection.host)}
        )

    def _log_out(self, connection: HttpConnection) -> None:
        connection.respond_json(200, {}, {"Set-Cookie": self._access.cookie("", connection.host, 0)})

    # --- methods and events

    def _call(self, connection: HttpConnection) -> None:
        connection.require_known()
        body, caller = connection.read_body(), self._caller(connection)
        answers: SimpleQueue[bytes | None] = SimpleQueue()
        with self._waker(lambda: answers.put(None)):
            if not self._api.call(body, caller, answers.put):  # a JSON-RPC notification has no response
                connection.respond(204, b"", "application/json")
                return
            try:
                answer = answers.get(timeout=connection.timing.answer_seconds)
            except Empty:
                raise HttpError(504, "the daemon did not answer in time") from None
        if answer is None:
            raise HttpError(503, "the daemon is shutting down")
        connection.respond(200, answer + b"\n", "application/json")

    def _stream(self, connection: HttpConnection) -> None:
        connection.require_known()
        names = set(filter(None, connection.query.get("names", "").split(","))) or set(EVENTS)
        if unknown := sorted(names - EVENTS.keys() - {LEVEL}):
            raise HttpError(400, f"there is no event {unknown[0]}, expected names={','.join((*EVENTS, LEVEL))}")
        with self._stream_slot():
            stream = EventStream(connection, self._levels if LEVEL in names else None)
            try:
                with self._waker(stream.end):
                    subscription = self._subscribe(connection, frozenset(names - {LEVEL}), stream.wake)
                    try:
                        stream.run(subscription)
                    finally:
                        self._api.unsubscribe(subscription)
            finally:
                stream.close()

    def _subscribe(self, connection: HttpConnection, names: frozenset[str], wake: Callable[[], None]) -> Subscription:
        try:
            return self._api.subscribe(self._caller(connection), names, wake, texts=True)
        except RpcError as error:
            raise HttpError(503, error.message, {"Retry-After": "5"}) from error

    def _caller(self, connection: HttpConnection) -> Caller:
        is_trusted = connection.identity is Identity.TRUSTED
        return Caller(SOURCE, may_read_texts=is_trusted and self._transcripts, may_control=is_trusted)

    @contextmanager
    def _waker(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call ``wake`` if ``end`` is called in the ``with`` block, or was called before."""
        with self._lock:
            self._wakers.add(wake)
            if self._is_ending:
                wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakers.discard(wake)

    @contextmanager
    def _stream_slot(self) -> Iterator[None]:
        with self._lock:
            if self._streams >= MAX_STREAMS:
                raise HttpError(503, f"{MAX_STREAMS} event streams are open: try again", {"Retry-After": "5"})
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1
