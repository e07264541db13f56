"""PlayAI's granted address: asked for over HTTP, kept until it grows old, within a deadline whatever the host does."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.errors import ServiceError
from agent.protocols.events import Failure
from agent.threads import Deadline

if TYPE_CHECKING:
    from agent.protocols.playai_authorization import Authorization, Grant

GRANT_MARGIN_SECONDS = 300.0
"""A granted address is not used in its last minutes: what begins on it must be able to end on it."""

AUTHORISATION_BYTES = 1 << 20


class Grants:
    """The address at hand, asked for again before it expires. Dialling threads may ask at the same time, and none waits
    for another's answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grant: Grant | None = None

    def url(self, authorization: Authorization, deadline: Deadline) -> str:
        """Raises ``ServiceError``, at ``deadline`` at the latest."""
        with self._lock:
            grant = self._grant
        if grant is None or _expired(grant):
            grant = authorise(authorization, deadline)
            with self._lock:
                self._grant = grant
        return grant.url


def _expired(grant: Grant) -> bool:
    return grant.expires_at is not None and time.time() > grant.expires_at - GRANT_MARGIN_SECONDS


def authorise(authorization: Authorization, deadline: Deadline) -> Grant:
    """Asks for an address. The deadline is that of the whole: a drip of single bytes does not stretch it. Raises
    ``ServiceError``, whatever came or did not."""
    import http.client

    import requests  # 56 ms and 18 MB that only users of PlayAI pay for
    from urllib3.exceptions import HTTPError

    # What the libraries let escape, each its own way. RuntimeError: the system gives us no more threads.
    troubles = (requests.RequestException, HTTPError, http.client.HTTPException, OSError, ValueError, RuntimeError)

    request = authorization.request()
    host = urlsplit(request.url).hostname
    line = _Line()
    cut = threading.Timer(deadline.remaining() or 0.0, line.cut)
    cut.daemon = True
    try:
        cut.start()
        status, headers, body = _ask(request, line, deadline)
    except troubles as error:
        why = "not in time" if line.was_cut else type(error).__name__
        raise ServiceError("playai", f"{host} did not answer the authorisation ({why})") from error
    finally:
        cut.cancel()
        line.close()
    if line.was_cut:  # what has come may be half of it
        raise ServiceError("playai", f"{host} did not answer the authorisation (not in time)")
    answer = authorization.receive(status, headers, body)
    if isinstance(answer, Failure):
        raise ServiceError(
            "playai",
            f"the authorisation answered {answer.came}; expected {answer.expected}",
            permanent=answer.permanent,
            retry_after_seconds=answer.retry_after_seconds,
            status=answer.status,
        )
    return answer


def _ask(request: Any, line: _Line, deadline: Deadline) -> tuple[int, dict[str, str], bytes]:
    import requests

    with requests.Session() as session:
        session.trust_env = False  # no proxy and no .netrc from the environment: the key goes to this host only
        adapter = requests.adapters.HTTPAdapter()
        _watch(adapter, line)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        with session.request(
            request.method,
            request.url,
            headers=dict(request.headers),
            data=b"",
            timeout=deadline.remaining(),
            allow_redirects=False,
            stream=True,
        ) as response:
            body = response.raw.read(AUTHORISATION_BYTES, decode_content=True)
            return response.status_code, dict(response.headers), body


class _Line:
    """The sockets of one exchange, so that they can be hung up on from another thread while nothing comes."""

    def __init__(self) -> None:
        self.was_cut = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    def opened(self, number: int) -> None:
        # A descriptor of our own: the other one may be closed and given to somebody else by the time we hang up.
        own = socket.socket(fileno=os.dup(number))
        with self._lock:
            self._sockets.append(own)
            if self.was_cut:
                _shut(own)

    def cut(self) -> None:
        with self._lock:
            self.was_cut = True
            for each in self._sockets:
                _shut(each)

    def close(self) -> None:
        with self._lock:
            for each in self._sockets:
                each.close()
            self._sockets.clear()


def _shut(line: socket.socket) -> None:
    try:
        line.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other side was quicker


def _watch(adapter: Any, line: _Line) -> None:
    """Tells the line of every socket that the adapter opens, before its TLS handshake."""
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    class Plain(HTTPConnection):
        def _new_conn(self) -> Any:
            made = super()._new_conn()
            line.opened(made.fileno())
            return made

    class Encrypted(HTTPSConnection):
        def _new_conn(self) -> Any:
            made = super()._new_conn()
            line.opened(made.fileno())
            return made

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
