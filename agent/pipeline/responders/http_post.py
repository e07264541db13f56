"""Sends one JSON POST and streams the response; a short-lived thread reads it, so that the caller never blocks."""

from __future__ import annotations

import json
import queue
import ssl
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS
from agent.services.connection.http import CancellableSession, request_errors, root_cause
from agent.services.connection.proxies import proxy_hint
from agent.services.connection.tls import describe_certificate_error
from agent.services.protocols.handshake import retry_after_seconds
from agent.services.protocols.parsing import excerpt
from agent.system.hosts import find_url_problem, unencrypted_public_url
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

CONNECT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 1 << 20
RETRY_AFTER_CAP_SECONDS = 3600.0
_CHUNK_BYTES = 1 << 16
_QUOTED_BYTES = 1000


class ResponseHead(NamedTuple):
    """The status and headers (lower-case names) of a successful response. Immutable."""

    status: int
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """The content type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class _End(NamedTuple):
    error: ServiceError | None


def post_json(
    service: str,
    url: str,
    payload: Mapping[str, object],
    *,
    key: str | None,
    accept: str,
    timeout_seconds: float,
    allow_plaintext: bool = False,
    headers: Mapping[str, str] | None = None,
    section: str = "",
    key_name: str = "api_key",
) -> Generator[ResponseHead | bytes | None, None, None]:
    """Send a JSON document and yield a ``ResponseHead``, then the body in chunks.

    Yields ``None`` at least every ``MAX_SILENCE_SECONDS`` while no data arrives. Closing the generator closes the
    connection. Redirects are not followed. Proxies and ``.netrc`` of the environment are ignored. Compression is not
    offered. The body is limited to ``MAX_RESPONSE_BYTES``.

    Args:
        service: The name of the service in error messages.
        url: The URL.
        payload: The JSON document.
        key: The API key, sent as ``Authorization: Bearer`` and removed from error messages; ``None`` for none.
        accept: The ``Accept`` header.
        timeout_seconds: The timeout for the complete response.
        allow_plaintext: Whether the key may be sent unencrypted to a public address.
        headers: Additional headers.
        section: The section of the configuration with the URL and the key, for error messages; empty for
            ``responder.SERVICE``.
        key_name: The name of the setting that holds the key, for error messages.

    Raises:
        ConfigError: The URL or the key cannot be used.
        ServiceError: The request failed, the status is not 2xx, or the response is incomplete, compressed or too long.
    """
    section = section or f"responder.{service}"
    if problem := find_url_problem(url, ("http", "https")):
        raise ConfigError(f"{section}: {problem}")
    if key is not None and not allow_plaintext and unencrypted_public_url(url):
        raise ConfigError(
            f"{section}: the key would be sent without encryption: use an https:// address, or set"
            " responder.allow_plaintext"
        )
    if key is not None and not key.isascii():
        raise ConfigError(f"{section}: the key contains a non-ASCII character: copy it again")
    sent = {"Content-Type": "application/json", "Accept": accept, "Accept-Encoding": "identity", **(headers or {})}
    if key is not None:
        sent["Authorization"] = f"Bearer {key}"
    setting = f"{section}.{key_name}"
    call = _Call(service, url, json.dumps(payload).encode("ascii"), sent, key, timeout_seconds, setting)
    # A daemon thread, because getaddrinfo(3) cannot be interrupted and must not delay the exit of the process.
    try:
        threading.Thread(target=call.run, name=f"{service}-post", daemon=True).start()
    except RuntimeError as error:
        raise ServiceError(service, f"the request cannot be sent: {error}") from error
    try:
        while True:
            try:
                item = call.received.get(timeout=MAX_SILENCE_SECONDS)
            except queue.Empty:
                if call.deadline.is_expired:
                    raise call.late_response() from None
                yield None
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        call.cancel()


class _Call:
    """One request. ``run`` is for a short-lived thread, which alone uses the connection. ``cancel`` is thread-safe."""

    def __init__(
        self,
        service: str,
        url: str,
        body: bytes,
        headers: dict[str, str],
        key: str | None,
        timeout_seconds: float,
        setting: str,
    ) -> None:
        self.received: queue.SimpleQueue[ResponseHead | bytes | _End] = queue.SimpleQueue()
        self._service, self._url, self._body, self._headers = service, url, body, headers
        self._key, self._setting = key, setting
        self._timeout, self.deadline = timeout_seconds, Deadline(timeout_seconds)
        self._session = CancellableSession()

    def cancel(self) -> None:
        self._session.cancel()

    def late_response(self) -> ServiceError:
        return ServiceError(self._service, f"no complete response within {self._timeout:g} s")

    def run(self) -> None:
        error: ServiceError | None = ServiceError(self._service, "the request failed with an internal error")
        try:
            self._exchange()
            error = None
        except ServiceError as failure:
            error = failure
        except request_errors() as failure:
            error = ServiceError(self._service, self._describe(failure))
            error.__cause__ = failure
        finally:
            self._session.close()
            self.received.put(_End(error))

    def _exchange(self) -> None:
        with (
            self._session.session() as session,
            session.post(
                self._url,
                data=self._body,
                headers=self._headers,
                timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
                stream=True,
                allow_redirects=False,
            ) as response,
        ):
            head = ResponseHead(response.status_code, {name.lower(): value for name, value in response.headers.items()})
            if not 200 <= head.status < 300:
                raise self._status_error(head, b"" if head.status in (401, 403) else _read_beginning(response.raw))
            if head.headers.get("content-encoding", "identity").lower() != "identity":
                raise ServiceError(self._service, "the response is compressed, which was not requested")
            self.received.put(head)
            self._receive_body(response.raw, head)

    def _receive_body(self, raw: Any, head: ResponseHead) -> None:
        total = 0
        for chunk in _iter_body(raw):
            total += len(chunk)
            if total > MAX_RESPONSE_BYTES:
                raise ServiceError(self._service, f"the response is longer than {MAX_RESPONSE_BYTES // 1024} KiB")
            if self._session.is_cancelled:
                return
            if self.deadline.is_expired:  # the response arrives too slowly; a slow consumer does not cause this
                raise self.late_response()
            self.received.put(chunk)
        length = head.headers.get("content-length", "")
        if length.isdecimal() and total < int(length):
            raise ServiceError(self._service, "the connection was lost before the response was complete")

    def _status_error(self, head: ResponseHead, body: bytes) -> ServiceError:
        quote = excerpt(body.decode("utf-8", "replace"), self._key) if body else "an empty body"
        status, permanent, wait = head.status, False, None
        if status in (401, 403):
            permanent = True
            what = "the key is refused" if self._key is not None else "a key is required"
            message = f"{what} ({status}): set a valid one in {self._setting}"
        elif status == 404:
            permanent = True
            message = f"unknown address or model (404), response: {quote}"
        elif status == 429:
            wait = retry_after_seconds(head.headers, RETRY_AFTER_CAP_SECONDS)
            message = "too many requests, or no credit left (429)" + (f": wait {wait:g} s" if wait else "")
        elif 300 <= status < 400:
            permanent = True
            message = f"it redirects ({status}), which is not followed: configure the final address"
        elif status >= 500:
            wait = retry_after_seconds(head.headers, RETRY_AFTER_CAP_SECONDS)
            message = f"internal failure of the service ({status}), response: {quote}"
        else:
            message = f"the request is refused ({status}), response: {quote}"
        return ServiceError(self._service, message, permanent=permanent, retry_after_seconds=wait, status=status)

    def _describe(self, failure: Exception) -> str:
        """Describe a failure without the message of the library, which may contain a URL with credentials."""
        import requests
        from urllib3.exceptions import ReadTimeoutError

        parts = urlsplit(self._url)
        where = f"{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"
        hint = proxy_hint(parts.hostname or "")
        if isinstance(failure, requests.exceptions.SSLError):
            cause = root_cause(failure)
            if isinstance(cause, ssl.SSLCertVerificationError):
                return f"no secure connection to {where}: {describe_certificate_error(cause)}"
            return f"no secure connection to {where}: its certificate or its encryption is not trusted"
        if isinstance(failure, requests.exceptions.ConnectTimeout):
            return f"{where} does not accept the connection: check the address and the network{hint}"
        if isinstance(failure, requests.exceptions.Timeout | ReadTimeoutError | TimeoutError):
            return f"no complete response within {self._timeout:g} s"
        if isinstance(failure, requests.exceptions.ConnectionError) and not self._session.is_connected:
            return f"{where} cannot be reached: check the address, and that the service is running{hint}"
        return f"the connection to {where} broke before the response was complete"


def _iter_body(raw: Any) -> Iterator[bytes]:
    """Yield the body as it arrives, without decoding a content encoding."""
    if hasattr(raw, "read1"):
        while chunk := raw.read1(_CHUNK_BYTES, decode_content=False):
            yield chunk
    elif getattr(raw, "chunked", False):  # urllib3 1.26 (Debian 12) has no read1()
        yield from raw.stream(_CHUNK_BYTES, decode_content=False)
    else:
        # In urllib3 1.26, read(n) waits for all n bytes if the body is not chunked: read single bytes.
        while chunk := raw.read(1, decode_content=False):
            yield chunk


def _read_beginning(raw: Any) -> bytes:
    """Return the beginning of the body, for an error message."""
    beginning = b""
    for chunk in _iter_body(raw):
        beginning += chunk
        if len(beginning) >= _QUOTED_BYTES:
            break
    return beginning
