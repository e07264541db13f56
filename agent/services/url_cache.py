"""Fetches the WebSocket URL that a service issues over HTTP, and caches it until shortly before it expires."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

from agent.errors import ServiceError
from agent.services.connection.http import CancellableSession, describe_request_error, request_errors
from agent.services.protocols.codec import Failure, IssuedUrl, UrlAuthorization
from agent.system.threads import Deadline

EXPIRY_MARGIN_SECONDS = 300.0
"""A URL that expires sooner than this is not used, because it must stay valid until the end of the utterance."""

MAX_RESPONSE_BYTES = 1 << 20
"""At most this much of the response body is read; the rest is discarded."""


class UrlCache:
    """The current URL of one service. Thread-safe.

    The lock is not held during a request. Otherwise a dial would wait for the request of another dial, possibly longer
    than its own deadline allows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._issued: IssuedUrl | None = None

    def url(self, authorization: UrlAuthorization, deadline: Deadline) -> str:
        """Return the cached URL, or request a new one if it expires soon. Blocks until ``deadline`` at most.

        Raises:
            ServiceError: The service did not issue a URL.
        """
        with self._lock:
            issued = self._issued
        if issued is None or _is_expiring(issued):
            issued = fetch_url(authorization, deadline)
            with self._lock:
                self._issued = issued
        return issued.url


def fetch_url(authorization: UrlAuthorization, deadline: Deadline) -> IssuedUrl:
    """Request a new URL over HTTP. Blocks; the deadline limits the whole exchange.

    Raises:
        ServiceError: The service cannot be reached or refuses, or its response is invalid or too late.
    """
    request = authorization.request()
    host = urlsplit(request.url).hostname
    session = CancellableSession()
    try:
        # A socket timeout limits each read only: a host that sends single bytes could extend the exchange without end.
        if (seconds := deadline.remaining()) is not None:
            session.cancel_after(seconds)
        status, headers, body = session.exchange(
            request.method, request.url, request.headers, deadline, MAX_RESPONSE_BYTES
        )
    except request_errors() as error:
        if session.is_cancelled or isinstance(error, TimeoutError):
            raise _no_response(authorization.service, host, "not in time") from error
        described = describe_request_error(authorization.service, request.url, error)
        raise described or _no_response(authorization.service, host, type(error).__name__) from error
    finally:
        session.close()
    if session.is_cancelled:  # the body may be truncated
        raise _no_response(authorization.service, host, "not in time")
    response = authorization.receive(status, headers, body)
    if isinstance(response, Failure):
        raise ServiceError(
            authorization.service,
            f"the authorization answered {response.received}; expected {response.expected}",
            permanent=response.permanent,
            retry_after_seconds=response.retry_after_seconds,
            status=response.status,
        )
    return response


def _is_expiring(issued: IssuedUrl) -> bool:
    return issued.expires_at is not None and time.time() > issued.expires_at - EXPIRY_MARGIN_SECONDS


def _no_response(service: str, host: str | None, reason: str) -> ServiceError:
    return ServiceError(service, f"{host} did not answer the authorization ({reason}): check the network and auth_url")
