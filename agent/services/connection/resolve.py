"""Resolves host names within a deadline, classifies addresses, and connects to the first address that answers."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import threading
from typing import Any

from agent.system.hosts import PRIVATE_NETWORKS
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

STAGGER_SECONDS = 0.25
"""After this delay, the next address is tried in parallel with the previous ones. If they were tried one after the
other, a broken IPv6 route would delay the connection by a whole timeout (RFC 8305)."""

USER_TIMEOUT_SECONDS = 10.0
"""The kernel ends a connection whose data stays unacknowledged for this time. Without this limit, Linux retries for at
least 924 s (tcp_retries2=15, ip-sysctl), and TCP keepalive does not run meanwhile."""

_PRIVATE = tuple(ipaddress.ip_network(network) for network in PRIVATE_NETWORKS)


class Address(NamedTuple):
    """One address of a host: the family for ``socket`` and the address for ``connect``. Immutable."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    @property
    def ip(self) -> str:
        return str(self.sockaddr[0])


def socket_timeout(deadline: Deadline) -> float | None:
    """Return the timeout for a blocking socket call, in seconds.

    Raises:
        TimeoutError: The deadline has expired. A timeout of 0 would make the socket non-blocking.
    """
    remaining = deadline.remaining()  # read once: the deadline may expire between two reads
    if remaining == 0.0:
        raise TimeoutError("the deadline has expired")
    return remaining


def is_private_address(ip: str) -> bool:
    """Return whether an address is loopback, private or link-local: these need no encryption."""
    address = _parse(ip)
    return address is not None and any(address in network for network in _PRIVATE if network.version == address.version)


def is_local_address(ip: str) -> bool:
    """Return whether an address is loopback, link-local or unspecified: public services must not issue URLs with it."""
    address = _parse(ip)
    return address is not None and (address.is_loopback or address.is_link_local or address.is_unspecified)


def resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """Return the addresses of a host, in the order that the system's resolver returns. Blocks.

    ``getaddrinfo`` cannot be interrupted and may block for 30 s (two tries of 5 s for each of three name servers,
    resolv.conf(5)), so it runs in a thread that is abandoned at the deadline.

    Raises:
        TimeoutError: The deadline has expired.
        OSError: The name cannot be resolved, or the system cannot create a thread.
    """
    if _parse(host) is not None:
        return look_up(host, port)
    addresses: list[Address] = []
    errors: list[OSError] = []
    done = threading.Event()

    def run() -> None:
        try:
            addresses.extend(look_up(host, port))
        except (OSError, UnicodeError) as error:  # UnicodeError: a name that IDNA does not allow
            errors.append(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "invalid name"))
        finally:
            done.set()

    # A daemon thread: the process must not wait at its exit until the resolver returns.
    try:
        threading.Thread(target=run, name="resolver", daemon=True).start()
    except RuntimeError as error:  # the system cannot create more threads
        raise OSError(errno.EAGAIN, "cannot create a thread for the resolver") from error
    if not done.wait(deadline.remaining()):
        raise TimeoutError("the name was not resolved in time")
    if errors:
        raise errors[0]
    return list(addresses)


def connect_first(addresses: list[Address], deadline: Deadline) -> socket.socket:
    """Return a non-blocking TCP socket that is connected to the first address that answers. Blocks.

    The addresses are tried in order. Each attempt begins ``STAGGER_SECONDS`` after the previous one, or earlier if all
    attempts so far have failed. All other sockets are closed.

    Raises:
        TimeoutError: The deadline has expired.
        OSError: All attempts failed; this is the first error.
    """
    connecting: dict[int, socket.socket] = {}
    untried = list(addresses)
    first_error: OSError | None = None
    next_try = Deadline(0.0)
    try:
        while (untried or connecting) and not deadline.is_expired:
            if untried and (next_try.is_expired or not connecting):
                try:
                    sock = _start_connecting(untried.pop(0))
                except OSError as error:
                    first_error = first_error or error
                    continue
                connecting[sock.fileno()] = sock
                next_try = Deadline(STAGGER_SECONDS)
            poll = select.poll()
            for descriptor in connecting:
                poll.register(descriptor, select.POLLOUT)
            limit = deadline.within(next_try.remaining() or 0.0) if untried else deadline
            for descriptor, _ in poll.poll(_milliseconds(limit.remaining())):
                code = connecting[descriptor].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return connecting.pop(descriptor)
                first_error = first_error or OSError(code, os.strerror(code))
                connecting.pop(descriptor).close()
    finally:
        for sock in connecting.values():
            sock.close()
    raise first_error if first_error is not None and not connecting else TimeoutError("no address answered in time")


def look_up(host: str, port: int) -> list[Address]:
    """Return the addresses that the system's resolver returns. Blocks without a limit.

    Raises:
        OSError: The name cannot be resolved.
        UnicodeError: IDNA does not allow the name.
    """
    # As bytes: for a str, getaddrinfo imports the codec idna with its tables, which takes 1 ms.
    name = host.encode("ascii") if host.isascii() else host
    answers = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in answers]


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000) + 1


def _start_connecting(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_SECONDS * 1000))
        # Data in the kernel's send buffer counts as sent, but is lost with the connection: limit the unsent part.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 32768)
        sock.connect(address.sockaddr)
    except BlockingIOError:
        return sock
    except OSError:
        sock.close()
        raise
    return sock


def _parse(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
