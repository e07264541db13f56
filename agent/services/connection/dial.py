"""Dials a service: DNS, TCP, TLS and the WebSocket upgrade under one deadline."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import SplitResult, urlsplit

from agent.errors import NameLookupError, ServiceError
from agent.services.connection.proxies import proxy_hint
from agent.services.connection.resolve import (
    Address,
    connect_first,
    is_local_address,
    is_private_address,
    resolve,
    socket_timeout,
)
from agent.services.connection.tls import describe_certificate_error, is_certificate_error_permanent
from agent.services.connection.websocket_client import (
    WebSocketException,
    WebSocketTimeoutException,
    parse_url,
    upgrade,
)
from agent.services.protocols.codec import Handshake
from agent.services.protocols.handshake import LOGIN_HINT, StatusMeaning, meaning_of, retry_after_seconds
from agent.system.threads import Deadline
from agent.system.tls import tls_context

CONNECT_SECONDS = 5.0
"""Limit for the DNS lookup, and separately for the TCP connection. Without it, an address that drops packets would use
up the whole deadline of the dial."""

MAX_HEAD_BYTES = 16 * 1024
"""Longest head (status line and headers) of the response to the upgrade. websocket-client 1.9.2 has no limit (measured:
2.6 MB of headers took 4 s of CPU time). Its timeout applies to each byte (measured: a server that sent single bytes
extended a timeout of 0.5 s to 14 s)."""

MAX_RETRY_AFTER_SECONDS = 3600.0
"""A longer delay in ``Retry-After`` is shortened to this."""

_UPGRADE_HEADERS = ("upgrade", "connection", "sec-websocket-accept")


def dial(
    handshake: Handshake,
    service: str,
    deadline: Deadline,
    *,
    allow_plaintext: bool = False,
    ca_file: str | None = None,
    url_issuer: str | None = None,
    connect_seconds: float = CONNECT_SECONDS,
    on_response: Callable[[Mapping[str, str]], None] | None = None,
) -> socket.socket:
    """Return a non-blocking socket after the upgrade to WebSocket. No byte of the first frame has been read.

    Blocks, so call it in a dialing thread. The key reaches only the host of the URL: redirects are refused
    (websocket-client 1.9.2 follows three by default and sends the same headers to the new host), proxies of the
    environment are not used, and cookies are not kept.

    Args:
        handshake: URL and headers of the request.
        service: Name of the service in the configuration, for errors.
        deadline: Limit for all steps together.
        allow_plaintext: Allow ``ws://`` to public addresses; private ones are always allowed.
        ca_file: Certificate authorities to trust instead of the system's.
        url_issuer: Host that issued the URL, if any. The URL of a public issuer must not lead to a private address.
        connect_seconds: See ``CONNECT_SECONDS``.
        on_response: Called with the headers of the response to the upgrade; their names are in lower case.

    Raises:
        ServiceError: The dial failed. The message contains neither the key nor the query of the URL.
    """
    url = _check_request(handshake, service)
    is_secure = url.scheme == "wss"
    host = str(url.hostname)
    port = url.port or (443 if is_secure else 80)
    context = _context(service, ca_file) if is_secure else None
    sock = connect_socket(
        service, url.scheme, host, port, deadline, is_secure or allow_plaintext, url_issuer, connect_seconds
    )
    try:
        if context is not None:
            sock = _start_tls(service, sock, context, host, deadline)
        headers = _upgrade(service, sock, handshake, host, deadline)
        if on_response is not None:
            on_response(headers)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _check_request(handshake: Handshake, service: str) -> SplitResult:
    for name, value in handshake.headers.items():
        # websocket-client 1.9.2 does not check header values: a line break in a key could add headers or end them.
        if any(character in "\r\n\0" for character in name + value):
            raise ServiceError(
                service, f"the header {name!r} contains a line break: put the key on one line", permanent=True
            )
    if any(ord(character) <= 32 or ord(character) == 127 for character in handshake.url):
        raise ServiceError(service, "the URL contains a space or control character: check url", permanent=True)
    try:
        url = urlsplit(handshake.url)
        is_usable = url.scheme in ("ws", "wss") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ServiceError(service, "the URL is not ws:// or wss:// with a host: check url", permanent=True)
    return url


def connect_socket(
    service: str,
    scheme: str,
    host: str,
    port: int,
    deadline: Deadline,
    allow_public: bool,
    url_issuer: str | None,
    connect_seconds: float,
) -> socket.socket:
    """Return a connected, non-blocking TCP socket. Blocks until then.

    Args:
        service: Name of the service in the configuration, for errors.
        scheme: Scheme of the URL, for errors.
        host: Host of the URL.
        port: Port of the URL.
        deadline: Limit for DNS and TCP together.
        allow_public: Allow public addresses, because of encryption or because the user allows plaintext.
        url_issuer: As for ``dial``.
        connect_seconds: See ``CONNECT_SECONDS``.

    Raises:
        ServiceError: The host cannot be reached, or its address is not allowed.
    """
    try:
        addresses = resolve(host, port, deadline.within(connect_seconds))
    except TimeoutError as error:
        message = f"the name {host} was not found in time: check the network{proxy_hint(host)}"
        raise NameLookupError(service, message) from error
    except OSError as error:
        message = f"the name {host} was not found: {error.strerror or error}{proxy_hint(host)}"
        raise NameLookupError(service, message) from error
    _refuse_plaintext(service, scheme, host, addresses, allow_public)
    if url_issuer is not None and url_issuer != host:
        _refuse_private(service, host, addresses, url_issuer, deadline.within(connect_seconds))
    try:
        return connect_first(addresses, deadline.within(connect_seconds))
    except TimeoutError as error:
        raise ServiceError(service, f"{host} port {port} did not answer in time{proxy_hint(host)}") from error
    except OSError as error:
        message = f"{host} port {port} cannot be reached: {error.strerror or error}{proxy_hint(host)}"
        raise ServiceError(service, message, transient=isinstance(error, ConnectionResetError)) from error


def _refuse_plaintext(service: str, scheme: str, host: str, addresses: list[Address], allow_public: bool) -> None:
    public = [address.ip for address in addresses if not is_private_address(address.ip)]
    if public and not allow_public:
        cure = "use wss://, or set allow_plaintext" if scheme == "ws" else "set allow_plaintext, or use a private host"
        raise ServiceError(
            service,
            f"{host} ({public[0]}) is neither this machine nor on a private network, and {scheme}:// is not encrypted: "
            f"{cure}",
            permanent=True,
        )


def _refuse_private(service: str, host: str, addresses: list[Address], url_issuer: str, deadline: Deadline) -> None:
    """Refuse a private address from a public issuer: a forged URL must not reach hosts in this network (SSRF)."""
    private = [address.ip for address in addresses if _is_private(address)]
    if not private:
        return
    try:
        issuer_addresses = resolve(url_issuer, 0, deadline)
    except OSError:  # TimeoutError is one
        issuer_addresses = []
    if not any(_is_private(address) for address in issuer_addresses):
        raise ServiceError(
            service,
            f"{url_issuer} refers to {host}, which is {private[0]} on this machine or its network:"
            " refused, because a public service must not lead there. Check url and auth_url",
            permanent=True,
        )


def _is_private(address: Address) -> bool:
    return is_private_address(address.ip) or is_local_address(address.ip)


def _context(service: str, ca_file: str | None) -> ssl.SSLContext:
    try:
        return tls_context(ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ServiceError(
            service, f"cannot read the certificate authorities in {ca_file}: {error}", permanent=True
        ) from error


def _start_tls(
    service: str, sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline
) -> ssl.SSLSocket:
    tls_sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        tls_sock.settimeout(socket_timeout(deadline))
        tls_sock.do_handshake()
    except ssl.SSLCertVerificationError as error:
        tls_sock.close()
        message = f"{host} cannot be trusted: {describe_certificate_error(error)}"
        raise ServiceError(service, message, permanent=is_certificate_error_permanent(error)) from error
    except TimeoutError as error:
        tls_sock.close()
        raise ServiceError(service, f"{host} did not finish the TLS handshake in time") from error
    except OSError as error:
        tls_sock.close()
        why = getattr(error, "reason", None) or error.strerror or "the connection was lost"
        is_reset = isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError)
        raise ServiceError(service, f"no TLS with {host}: {why}", transient=is_reset) from error
    return tls_sock


def _upgrade(
    service: str, sock: socket.socket, handshake: Handshake, host: str, deadline: Deadline
) -> Mapping[str, str]:
    head = _UpgradeSocket(sock, deadline)
    headers = [f"{name}: {value}" for name, value in handshake.headers.items()]
    try:
        name, port, resource, _ = parse_url(handshake.url)
        upgrade(head, handshake.url, name, port, resource, header=headers, suppress_origin=True)  # type: ignore[arg-type]
    except (WebSocketTimeoutException, TimeoutError) as error:
        raise ServiceError(service, f"{host} did not answer the upgrade in time") from error
    except (WebSocketException, OSError, ValueError) as error:
        # The library's messages quote headers and body, in which a service may repeat the key. So they are not used.
        if head.is_too_long:
            raise ServiceError(service, f"{host} answered the upgrade with more than {MAX_HEAD_BYTES} bytes") from error
        if head.status is None:
            message = f"{host} closed the connection during the upgrade to WebSocket"
            raise ServiceError(service, message, transient=True) from error
        raise _refusal(service, host, head.status, head.headers) from None
    if head.status != 101:
        raise _refusal(service, host, head.status or 0, head.headers)  # a redirect: the library accepts it
    if head.headers.get("sec-websocket-extensions"):
        raise ServiceError(service, f"{host} selected a WebSocket extension that was not offered", status=101)
    return head.headers


def _refusal(service: str, host: str, status: int, headers: Mapping[str, str]) -> ServiceError:
    if status == 101:
        return ServiceError(service, f"{host} is not a WebSocket server: its upgrade is invalid", status=status)
    if 300 <= status < 400:
        return ServiceError(
            service,
            f"{host} redirects to another URL (HTTP {status}), which must not get the key: check url{LOGIN_HINT}",
            permanent=True,
            status=status,
        )
    if 200 <= status < 300:
        message = f"{host} answered with a page in place of a WebSocket (HTTP {status}): check url{LOGIN_HINT}"
        return ServiceError(service, message, status=status)
    meaning = meaning_of(service, status) or StatusMeaning("refused the upgrade to WebSocket", is_permanent=False)
    remedy = f": {meaning.remedy}" if meaning.remedy else ""
    return ServiceError(
        service,
        f"{host} {meaning.summary} (HTTP {status}){remedy}",
        permanent=meaning.is_permanent,
        retry_after_seconds=retry_after_seconds(headers, MAX_RETRY_AFTER_SECONDS) if status in (429, 503) else None,
        status=status,
    )


class _UpgradeSocket:
    """The socket that websocket-client uses during the upgrade: one deadline for all steps, and a size limit.

    Not thread-safe; owned by the dialing thread. It reads the head of the response and nothing more. So the first frame
    stays in the socket, and the body of a refusal, which websocket-client 1.9.2 reads without limit, is not read.

    It passes only the headers that the library checks, one line each. The library rejects folded and repeated headers,
    non-ASCII bytes and interim responses, although all of these are valid HTTP, and it would keep cookies.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._head: bytes | None = None
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.is_too_long = False

    def recv(self, size: int) -> bytes:
        if self._head is None:
            self._head = self._read_head()
        data, self._head = self._head[:size], self._head[size:]
        return data

    def send(self, data: bytes | memoryview) -> int:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(socket_timeout(self._deadline))
            rest = rest[self._sock.send(rest) :]
        return len(data)

    def gettimeout(self) -> float | None:
        """Return ``None`` (no timeout): the library asks for each byte, and the deadline applies anyway."""
        return None

    def settimeout(self, seconds: float | None) -> None:
        """Ignore the timeout of the library: the deadline applies."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def _read_head(self) -> bytes:
        lines: list[str] = []
        line, total = bytearray(), 0
        while True:
            part = self._read_part()
            if not part:
                raise ConnectionResetError("the service closed the connection")
            total += len(part)
            if total > MAX_HEAD_BYTES:
                self.is_too_long = True
                raise ConnectionAbortedError("the head is too long")
            line += part
            if not line.endswith(b"\n"):
                continue
            if line.strip():
                lines.append(line.rstrip().decode("latin-1"))  # bytes: str.rstrip removes more characters
            elif self._parse_head(lines):
                status = " ".join(lines[0].strip().split(" ", 2)[:2]) if lines else ""  # the library reads byte by byte
                return "\r\n".join([status, *self._upgrade_headers(), "", ""]).encode("ascii", "replace")
            else:
                lines, self.status = [], None
            line.clear()

    def _read_part(self) -> bytes:
        """Return the next bytes, at most to the end of the line: the bytes after the head must stay in the socket."""
        self._sock.settimeout(socket_timeout(self._deadline))
        if isinstance(self._sock, ssl.SSLSocket):
            return self._sock.recv(1)  # cheap: OpenSSL holds the rest of the record in memory
        seen = self._sock.recv(MAX_HEAD_BYTES, socket.MSG_PEEK)
        return self._sock.recv(seen.find(b"\n") + 1 or len(seen))

    def _parse_head(self, lines: list[str]) -> bool:
        """Parse status and headers; return whether the response is final and not interim (RFC 9110, 15.2)."""
        number = lines[0].strip().split(" ", 2)[1:2] if lines else []
        self.status = int(number[0]) if number and number[0].isascii() and number[0].isdecimal() else None
        self.headers = {}
        name = ""
        for line in lines[1:]:
            if line[0] in " \t":  # a folded line continues the previous line (RFC 9112, 5.2)
                value = f"{self.headers.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                if name in self.headers:
                    value = f"{self.headers[name]}, {value.strip()}"
            self.headers[name] = value.strip()
        return self.status is None or self.status == 101 or not 100 <= self.status < 200

    def _upgrade_headers(self) -> list[str]:
        return [f"{name}: {self.headers[name]}" for name in _UPGRADE_HEADERS if name in self.headers]
