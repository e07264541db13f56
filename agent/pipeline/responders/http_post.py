"""One JSON POST whose answer is read as it comes, in a short-lived thread so that nobody waits for a socket."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS
from agent.services.connection.http import CancellableSession, request_errors
from agent.services.protocols.handshake import retry_after_seconds
from agent.services.protocols.parsing import excerpt
from agent.system.hosts import find_url_problem, unencrypted_public_url
from agent.system.threads import Deadline

CONNECT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 1 << 20
RETRY_AFTER_CAP_SECONDS = 3600.0
_CHUNK_BYTES = 1 << 16
_QUOTED_BYTES = 1000


@dataclass(frozen=True)
class ResponseHead:
    """The status and headers (lower-case names) of an answer that is no error."""

    status: int
    headers: Mapping[str, str]

    @property
    def kind(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class _End:
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
) -> Generator[ResponseHead | bytes | None, None, None]:
    """Sends ``payload`` and gives a ``Head``, then the body in chunks; ``None`` at least every ``SLICE_SECONDS`` while
    nothing has come. Closing it closes the connection.

    The key goes into ``Authorization: Bearer`` and is never shown; it is not sent without encryption out of the house,
    unless ``allow_plaintext``.
    Redirects are not followed, proxies and ``.netrc`` of the environment not used, compression not offered, the answer
    is bounded (1 MiB). Raises ``ConfigError`` for an address that cannot be used and ``ServiceError`` for a status
    other than 2xx, and where nothing or not all of it has come within ``timeout_seconds``.
    """
    if wrong := find_url_problem(url, ("http", "https")):
        raise ConfigError(f"responder.{service}: {wrong}")
    if key is not None and not allow_plaintext and unencrypted_public_url(url):
        raise ConfigError(
            f"responder.{service}: the key would travel without encryption: use an https:// address, or set"
            " responder.allow_plaintext"
        )
    if key is not None and not key.isascii():
        raise ConfigError(f"responder.{service}: the key holds a character that no key has: copy it again")
    deadline = Deadline(timeout_seconds)
    headers = {"Content-Type": "application/json", "Accept": accept, "Accept-Encoding": "identity"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    call = _Call(service, url, json.dumps(payload).encode("ascii"), headers, key, timeout_seconds)
    # A daemon thread: a look-up of a name cannot be interrupted, and the process must not wait for it.
    try:
        threading.Thread(target=call.run, name=f"{service}-post", daemon=True).start()
    except RuntimeError as error:
        raise ServiceError(service, f"cannot be asked: {error}") from error
    try:
        while True:
            try:
                got = call.got.get(timeout=MAX_SILENCE_SECONDS)
            except queue.Empty:
                if deadline.is_expired:
                    raise ServiceError(service, f"no complete answer within {timeout_seconds:g} s") from None
                yield None
                continue
            if isinstance(got, _End):
                if got.error is not None:
                    raise got.error
                return
            yield got
            if deadline.is_expired:  # a slow drip is no reason to listen for ever
                raise ServiceError(service, f"no complete answer within {timeout_seconds:g} s")
    finally:
        call.hang_up()


class _Call:
    """What the short-lived thread does: it alone reads, writes and closes. ``hang_up`` only wakes it."""

    def __init__(
        self, service: str, url: str, body: bytes, headers: dict[str, str], key: str | None, timeout_seconds: float
    ) -> None:
        self.got: queue.SimpleQueue[ResponseHead | bytes | _End] = queue.SimpleQueue()
        self._service, self._url, self._body, self._headers = service, url, body, headers
        self._key = key
        self._timeout = timeout_seconds
        self._line = CancellableSession()

    def hang_up(self) -> None:
        self._line.cancel()

    def run(self) -> None:
        error: ServiceError | None = ServiceError(self._service, "asking it failed inside of this program")
        try:
            self._exchange()
            error = None
        except ServiceError as refused:
            error = refused
        except request_errors() as failure:
            error = ServiceError(self._service, self._sentence(failure))
        finally:
            self._line.close()
            self.got.put(_End(error))

    def _exchange(self) -> None:
        with (
            self._line.session() as session,
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
                raise self._refusal(head, b"" if head.status in (401, 403) else _beginning(response.raw))
            if head.headers.get("content-encoding", "identity").lower() != "identity":
                raise ServiceError(self._service, "the answer is compressed, which was not asked for")
            self.got.put(head)
            self._body_of(response.raw, head)

    def _body_of(self, raw: Any, head: ResponseHead) -> None:
        total = 0
        for chunk in _chunks(raw):
            total += len(chunk)
            if total > MAX_RESPONSE_BYTES:
                raise ServiceError(self._service, f"the answer is longer than {MAX_RESPONSE_BYTES // 1024} KiB")
            if self._line.is_cancelled:
                return
            self.got.put(chunk)
        announced = head.headers.get("content-length", "")
        if announced.isdecimal() and total < int(announced):
            raise ServiceError(self._service, "the connection broke before the answer was complete")

    def _refusal(self, head: ResponseHead, beginning: bytes) -> ServiceError:
        said = excerpt(beginning.decode("utf-8", "replace"), self._key) if beginning else "nothing"
        status, permanent, wait = head.status, False, None
        if status in (401, 403):
            permanent = True
            what = "the key is refused" if self._key is not None else "a key is wanted"
            message = f"{what} ({status}): put a valid one under responder.{self._service}.api_key"
        elif status == 404:
            permanent = True
            message = f"there is nothing at this address, or no such model (404): {said}"
        elif status == 429:
            wait = retry_after_seconds(head.headers, RETRY_AFTER_CAP_SECONDS)
            message = "too many requests, or the credit is used up (429)" + (f": wait {wait:g} s" if wait else "")
        elif 300 <= status < 400:
            permanent = True
            message = f"it sends us elsewhere ({status}), which is not followed: configure the final address"
        elif status >= 500:
            wait = retry_after_seconds(head.headers, RETRY_AFTER_CAP_SECONDS)
            message = f"it has an internal failure ({status}); it said {said}"
        else:
            message = f"it refuses what was asked ({status}); it said {said}"
        return ServiceError(self._service, message, permanent=permanent, retry_after_seconds=wait, status=status)

    def _sentence(self, failure: Exception) -> str:
        """Why no answer came. The library's own words are left out: they quote addresses with all that is in them."""
        import requests
        from urllib3.exceptions import ReadTimeoutError

        parts = urlsplit(self._url)
        where = f"{parts.hostname}:{parts.port or {'http': 80, 'https': 443}[parts.scheme]}"
        if isinstance(failure, requests.exceptions.SSLError):
            return f"no safe connection to {where}: its certificate or its encryption is not to be trusted"
        if isinstance(failure, requests.exceptions.ConnectTimeout):
            return f"{where} does not take the connection: is the address right and the network up?"
        if isinstance(failure, requests.exceptions.Timeout | ReadTimeoutError | TimeoutError):
            return f"no complete answer within {self._timeout:g} s"
        if isinstance(failure, requests.exceptions.ConnectionError) and not self._line.is_connected:
            return f"{where} cannot be reached: is the address right and the service running?"
        return f"the connection to {where} broke before the answer was complete"


def _chunks(raw: Any) -> Iterator[bytes]:
    """The body as it arrives, not decoded."""
    if hasattr(raw, "read1"):
        while chunk := raw.read1(_CHUNK_BYTES, decode_content=False):
            yield chunk
    elif getattr(raw, "chunked", False):  # urllib3 1.26, as in Debian 12
        yield from raw.stream(_CHUNK_BYTES, decode_content=False)
    else:
        # There reading more than one byte waits until all of them are there.
        while chunk := raw.read(1, decode_content=False):
            yield chunk


def _beginning(raw: Any) -> bytes:
    """Enough of the body to quote it."""
    beginning = b""
    for chunk in _chunks(raw):
        beginning += chunk
        if len(beginning) >= _QUOTED_BYTES:
            break
    return beginning
