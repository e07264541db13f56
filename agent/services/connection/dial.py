"""The way to a service: name, TCP, TLS and upgrade under one deadline; a connected socket or one sentence why not."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import websocket

from agent.errors import ServiceError
from agent.services.connection.resolve import Address, connect_first, is_local_address, is_private_address, resolve
from agent.services.protocols.codec import Handshake
from agent.services.protocols.handshake import retry_after_seconds
from agent.system.threads import Deadline

CONNECT_SECONDS = 5.0
"""The most that the name and the TCP connection may take, each; an address that swallows packets is not waited for."""

HEAD_BYTES = 16 * 1024
"""The longest answer to an upgrade that is read, status line and headers together."""

RETRY_AFTER_CAP_SECONDS = 3600.0

_REFUSALS = {
    401: "refused the key (HTTP 401): check api_key",
    402: "wants to be paid first (HTTP 402): look at the account",
    403: "refused the key (HTTP 403): check api_key and what it may be used for",
    404: "knows no such address (HTTP 404): check url",
    422: "refused the settings (HTTP 422): check voice, model and format",
}

_CERTIFICATES = {
    10: "its certificate has expired: the service has to renew it, or the clock of this machine is wrong",
    18: "its certificate is self-signed: nobody vouches for it, so the key is not sent",
    19: "its certificate is self-signed: nobody vouches for it, so the key is not sent",
    20: "nobody this machine trusts vouches for its certificate, so the key is not sent",
    62: "its certificate is for another host, so the key is not sent: check url",
    64: "its certificate is for another host, so the key is not sent: check url",
}
_NOT_YET_VALID = 9

_CHECKED = ("upgrade", "connection", "sec-websocket-accept")


def dial(
    handshake: Handshake,
    service: str,
    deadline: Deadline,
    *,
    allow_plaintext: bool = False,
    ca_file: str | None = None,
    url_issuer: str | None = None,
) -> socket.socket:
    """A socket whose upgrade to WebSocket is done, non-blocking, with nothing of the first frame read yet.

    Blocks until ``deadline`` at the most: for a short-lived thread. The key is sent to the host of the URL and to no
    other: redirects are refused, proxies of the environment are not asked, cookies are not kept. ``ws://`` goes to near
    addresses only, unless ``allow_plaintext``. ``ca_file``: the authorities to trust instead of the system's.
    ``granted_by``: the host that gave us the URL; unless it is near itself, it may not send us to near addresses.

    Raises ``ServiceError`` with one sentence that holds neither key nor query; the socket is closed then.
    """
    url = _checked(handshake, service)
    secure = url.scheme == "wss"
    host = str(url.hostname)
    port = url.port or (443 if secure else 80)
    context = _context(service, ca_file) if secure else None
    sock = _reach(service, host, port, deadline, secure or allow_plaintext, url_issuer)
    try:
        if context is not None:
            sock = _encrypt(service, sock, context, host, deadline)
        _upgrade(service, sock, handshake, host, deadline)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _checked(handshake: Handshake, service: str) -> SplitResult:
    for name, value in handshake.headers.items():
        if any(letter in "\r\n\0" for letter in name + value):
            raise ServiceError(
                service, f"the header {name!r} would hold a line break: put the key on one line", permanent=True
            )
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in handshake.url):
        raise ServiceError(service, "the address holds a space or control character: check url", permanent=True)
    try:
        url = urlsplit(handshake.url)
        usable = url.scheme in ("ws", "wss") and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ServiceError(service, "the address is not ws:// or wss:// with a host: check url", permanent=True)
    return url


def _reach(
    service: str, host: str, port: int, deadline: Deadline, anywhere: bool, url_issuer: str | None
) -> socket.socket:
    try:
        addresses = resolve(host, port, deadline.within(CONNECT_SECONDS))
    except TimeoutError as error:
        raise ServiceError(service, f"the name {host} was not found in time: is the network up?") from error
    except OSError as error:
        raise ServiceError(service, f"the name {host} was not found: {error.strerror or error}") from error
    _refuse_far(service, host, addresses, anywhere)
    if url_issuer is not None and url_issuer != host:
        _refuse_inside(service, host, addresses, url_issuer, deadline)
    try:
        return connect_first(addresses, deadline.within(CONNECT_SECONDS))
    except TimeoutError as error:
        raise ServiceError(service, f"{host} port {port} did not answer in time") from error
    except OSError as error:
        raise ServiceError(service, f"{host} port {port} cannot be reached: {error.strerror or error}") from error


def _refuse_far(service: str, host: str, addresses: list[Address], anywhere: bool) -> None:
    far = [address.ip for address in addresses if not is_private_address(address.ip)]
    if far and not anywhere:
        raise ServiceError(
            service,
            f"{host} ({far[0]}) is neither this machine nor on a private network, and ws:// is not encrypted: "
            "use wss://, or set allow_plaintext",
            permanent=True,
        )


def _refuse_inside(service: str, host: str, addresses: list[Address], url_issuer: str, deadline: Deadline) -> None:
    """A public name may stand for an address on this network: whoever forges a grant must not send us round in it."""
    inside = [address.ip for address in addresses if _is_inside(address)]
    if not inside:
        return
    try:
        granter = resolve(url_issuer, 0, deadline.within(CONNECT_SECONDS))
    except OSError:  # TimeoutError is one
        granter = []
    if not any(_is_inside(address) for address in granter):
        raise ServiceError(
            service,
            f"{url_issuer} sends us to {host}, which is {inside[0]} on this machine or its own network: not taken",
            permanent=True,
        )


def _is_inside(address: Address) -> bool:
    return is_private_address(address.ip) or is_local_address(address.ip)


def _context(service: str, ca_file: str | None) -> ssl.SSLContext:
    # Not ssl.create_default_context: that one obeys SSLKEYLOGFILE and writes the session's keys to disk.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificate and host are checked, TLS 1.2 or better
    try:
        if ca_file is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ServiceError(service, f"the authorities in {ca_file} cannot be read: {error}", permanent=True) from error
    return context


def _encrypt(
    service: str, sock: socket.socket, context: ssl.SSLContext, host: str, deadline: Deadline
) -> ssl.SSLSocket:
    secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        secured.settimeout(_left(deadline))
        secured.do_handshake()
    except ssl.SSLCertVerificationError as error:
        secured.close()
        if error.verify_code == _NOT_YET_VALID:
            raise ServiceError(
                service, f"{host} cannot be trusted: its certificate is not yet valid: is this machine's clock wrong?"
            ) from error
        why = _CERTIFICATES.get(error.verify_code, "its certificate does not hold, so the key is not sent")
        raise ServiceError(service, f"{host} cannot be trusted: {why}", permanent=True) from error
    except TimeoutError as error:
        secured.close()
        raise ServiceError(service, f"{host} did not finish the TLS handshake in time") from error
    except OSError as error:
        secured.close()
        why = getattr(error, "reason", None) or error.strerror or "the connection broke"
        raise ServiceError(service, f"no TLS with {host}: {why}") from error
    return secured


def _upgrade(service: str, sock: socket.socket, handshake: Handshake, host: str, deadline: Deadline) -> None:
    head = _Head(sock, deadline)
    client = websocket.WebSocket(skip_utf8_validation=True, enable_multithread=False)
    try:
        client.connect(  # type: ignore[no-untyped-call]
            handshake.url,
            socket=head,
            header=[f"{name}: {value}" for name, value in handshake.headers.items()],
            redirect_limit=0,
            suppress_origin=True,
        )
    except (websocket.WebSocketTimeoutException, TimeoutError) as error:
        raise ServiceError(service, f"{host} did not answer the upgrade in time") from error
    except (websocket.WebSocketException, OSError, ValueError) as error:
        # The library's texts quote headers and bodies, where a service may repeat the key: none of them is passed on.
        if head.too_long:
            raise ServiceError(service, f"{host} answered the upgrade with more than {HEAD_BYTES} bytes") from error
        if head.status is None:
            raise ServiceError(service, f"{host} broke off the upgrade to WebSocket") from error
        raise _refusal(service, host, head.status, head.headers) from None
    if head.headers.get("sec-websocket-extensions"):
        raise ServiceError(service, f"{host} wants a WebSocket extension that nobody asked for", status=101)


def _refusal(service: str, host: str, status: int, headers: Mapping[str, str]) -> ServiceError:
    if status in _REFUSALS:
        return ServiceError(service, f"{host} {_REFUSALS[status]}", permanent=True, status=status)
    if 300 <= status < 400:
        return ServiceError(
            service,
            f"{host} sends us to another address (HTTP {status}), where the key is not taken: check url",
            permanent=True,
            status=status,
        )
    if status == 101:
        return ServiceError(service, f"{host} is no WebSocket server: its upgrade is not valid", status=status)
    after = retry_after_seconds(headers, RETRY_AFTER_CAP_SECONDS) if status in (429, 503) else None
    what = {429: "has had too many requests from us", 503: "is overloaded or being maintained"}.get(
        status, "refused the upgrade to WebSocket"
    )
    return ServiceError(service, f"{host} {what} (HTTP {status})", retry_after_seconds=after, status=status)


def _left(deadline: Deadline) -> float | None:
    """What a socket's time-out is set to; 0 would mean non-blocking, so a deadline that is over raises."""
    remaining = deadline.remaining()  # one look: it may come between two
    if remaining == 0.0:
        raise TimeoutError("the deadline is over")
    return remaining


class _Head:
    """The socket as the library sees it during the upgrade: one deadline over all, and only so many bytes.

    It reads exactly the head of the answer, so that the first frame stays in the socket, and the body of a refusal,
    which the library would read without limit, is never read. The library is shown what it checks and no more, on one
    line each: it takes a folded header, one that comes twice, a byte beyond ASCII or an interim answer for an invalid
    upgrade, and it would keep cookies.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._left: bytes | None = None
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.too_long = False

    def recv(self, size: int) -> bytes:
        if self._left is None:
            self._left = self._read()
        part, self._left = self._left[:size], self._left[size:]
        return part

    def send(self, data: bytes | memoryview) -> int:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(_left(self._deadline))
            rest = rest[self._sock.send(rest) :]
        return len(data)

    def gettimeout(self) -> float | None:
        return self._deadline.remaining() or 0.001

    def settimeout(self, seconds: float | None) -> None:
        """The deadline stands, whatever the library would like."""

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def _read(self) -> bytes:
        lines: list[str] = []
        line, total = bytearray(), 0
        while True:
            self._sock.settimeout(_left(self._deadline))
            letter = self._sock.recv(1)
            if not letter:
                raise ConnectionResetError("the service hung up")
            total += 1
            if total > HEAD_BYTES:
                self.too_long = True
                raise ConnectionAbortedError("too long an answer")
            line += letter
            if letter != b"\n":
                continue
            if line.strip():
                lines.append(line.rstrip().decode("latin-1"))  # as bytes: text takes more for space, and leaves nothing
            elif self._understand(lines):
                return "\r\n".join([lines[0] if lines else "", *self._shown(), "", ""]).encode("ascii", "replace")
            else:
                lines, self.status = [], None
            line.clear()

    def _understand(self, lines: list[str]) -> bool:
        """Takes status and headers from one head; ``False`` where the real one is still to come (RFC 9110, 15.2)."""
        number = lines[0].strip().split(" ", 2)[1:2] if lines else []
        self.status = int(number[0]) if number and number[0].isascii() and number[0].isdecimal() else None
        self.headers = {}
        name = ""
        for line in lines[1:]:
            if line[0] in " \t":  # a folded line goes on with the one before (RFC 9112, 5.2)
                value = f"{self.headers.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                if name in self.headers:
                    value = f"{self.headers[name]}, {value.strip()}"
            self.headers[name] = value.strip()
        return self.status is None or self.status == 101 or not 100 <= self.status < 200

    def _shown(self) -> list[str]:
        return [f"{name}: {self.headers[name]}" for name in _CHECKED if name in self.headers]
