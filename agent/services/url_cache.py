"""PlayAI's granted address: asked for over HTTP, kept until it grows old, within a deadline whatever the host does."""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import urlsplit

from agent.errors import ServiceError
from agent.services.connection.http import CancellableSession, request_errors
from agent.services.protocols.codec import Failure, IssuedUrl, UrlAuthorization
from agent.system.threads import Deadline

EXPIRY_MARGIN_SECONDS = 300.0
"""A granted address is not used in its last minutes: what begins on it must be able to end on it."""

MAX_RESPONSE_BYTES = 1 << 20


class UrlCache:
    """The address at hand, asked for again before it expires. Dialling threads may ask at the same time, and none waits
    for another's answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._grant: IssuedUrl | None = None

    def url(self, authorization: UrlAuthorization, deadline: Deadline) -> str:
        """Raises ``ServiceError``, at ``deadline`` at the latest."""
        with self._lock:
            grant = self._grant
        if grant is None or _expired(grant):
            grant = fetch_url(authorization, deadline)
            with self._lock:
                self._grant = grant
        return grant.url


def _expired(grant: IssuedUrl) -> bool:
    return grant.expires_at is not None and time.time() > grant.expires_at - EXPIRY_MARGIN_SECONDS


def fetch_url(authorization: UrlAuthorization, deadline: Deadline) -> IssuedUrl:
    """Asks for an address. The deadline is that of the whole: a drip of single bytes does not stretch it. Raises
    ``ServiceError``, whatever came or did not."""
    request = authorization.request()
    host = urlsplit(request.url).hostname
    line = CancellableSession()
    try:
        line.cancel_after(deadline.remaining() or 0.0)
        status, headers, body = _ask(request, line, deadline)
    except request_errors() as error:
        why = "not in time" if line.is_cancelled else type(error).__name__
        raise ServiceError(authorization.service, f"{host} did not answer the authorisation ({why})") from error
    finally:
        line.close()
    if line.is_cancelled:  # what has come may be half of it
        raise ServiceError(authorization.service, f"{host} did not answer the authorisation (not in time)")
    answer = authorization.receive(status, headers, body)
    if isinstance(answer, Failure):
        raise ServiceError(
            authorization.service,
            f"the authorisation answered {answer.received}; expected {answer.expected}",
            permanent=answer.permanent,
            retry_after_seconds=answer.retry_after_seconds,
            status=answer.status,
        )
    return answer


def _ask(request: Any, line: CancellableSession, deadline: Deadline) -> tuple[int, dict[str, str], bytes]:
    with (
        line.session() as session,
        session.request(
            request.method,
            request.url,
            headers=dict(request.headers),
            data=b"",
            timeout=deadline.remaining(),
            allow_redirects=False,
            stream=True,
        ) as response,
    ):
        body = response.raw.read(MAX_RESPONSE_BYTES, decode_content=True)
        return response.status_code, dict(response.headers), body
