"""Where a host is: names to addresses within a deadline, which addresses are near, and the first one that answers."""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import threading
from dataclasses import dataclass
from typing import Any

from agent.system.hosts import PRIVATE_NETWORKS
from agent.system.threads import Deadline

STAGGER_SECONDS = 0.25
"""The next address is tried beside the last one after so long: a dead IPv6 route must not cost a whole time-out."""

USER_TIMEOUT_SECONDS = 10.0
"""Data that nobody acknowledges for so long ends the connection; the system's own patience is a quarter of an hour."""

_NEAR = tuple(ipaddress.ip_network(network) for network in PRIVATE_NETWORKS)


@dataclass(frozen=True)
class Address:
    """One place a name stands for: what ``socket`` and ``connect`` want to know, and the number as text."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]

    @property
    def ip(self) -> str:
        return str(self.sockaddr[0])


def is_private_address(number: str) -> bool:
    """Whether an address is this machine's, a private network's or a link's own: only those are spoken to in plain."""
    found = _parse(number)
    return found is not None and any(found in network for network in _NEAR if network.version == found.version)


def is_local_address(number: str) -> bool:
    """Whether an address is loopback, link-local or unspecified: nothing an outside service may send us to."""
    found = _parse(number)
    return found is not None and (found.is_loopback or found.is_link_local or found.is_unspecified)


def resolve(host: str, port: int, deadline: Deadline) -> list[Address]:
    """The addresses of ``host``, in the system's order.

    Raises ``TimeoutError`` once ``deadline`` is over and ``OSError`` where there is no such name. The system's look-up
    cannot be interrupted and may hang for half a minute, so it runs in a thread of its own that is left behind then.
    """
    if _parse(host) is not None:
        return _look_up(host, port)
    found: list[Address] = []
    failed: list[OSError] = []
    done = threading.Event()

    def look() -> None:
        try:
            found.extend(_look_up(host, port))
        except (OSError, UnicodeError) as error:  # a name that IDNA refuses is a UnicodeError
            failed.append(error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "no valid name"))
        finally:
            done.set()

    # A daemon thread, because nothing can end it but the resolver itself, and the process must not wait for that.
    try:
        threading.Thread(target=look, name="resolver", daemon=True).start()
    except RuntimeError as error:  # the system gives us no more threads
        raise OSError(errno.EAGAIN, "there is no thread for that") from error
    if not done.wait(deadline.remaining()):
        raise TimeoutError("the name was not found in time")
    if failed:
        raise failed[0]
    return list(found)


def connect_first(addresses: list[Address], deadline: Deadline) -> socket.socket:
    """A connected TCP socket, non-blocking, to the first of ``addresses`` that answers.

    They are tried in order, each next one ``STAGGER_SECONDS`` after the last or as soon as that has failed. Every other
    socket is closed. Raises the first ``OSError``, or ``TimeoutError`` once ``deadline`` is over.
    """
    waiting: dict[int, socket.socket] = {}
    untried = list(addresses)
    failure: OSError | None = None
    next_try = Deadline(0.0)
    try:
        while (untried or waiting) and not deadline.is_expired:
            if untried and (next_try.is_expired or not waiting):
                try:
                    sock = _begin(untried.pop(0))
                except OSError as error:
                    failure = failure or error
                    continue
                waiting[sock.fileno()] = sock
                next_try = Deadline(STAGGER_SECONDS)
            poll = select.poll()
            for number in waiting:
                poll.register(number, select.POLLOUT)
            patience = deadline.within(next_try.remaining() or 0.0) if untried else deadline
            for number, _ in poll.poll(_milliseconds(patience.remaining())):
                code = waiting[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return waiting.pop(number)
                failure = failure or OSError(code, os.strerror(code))
                waiting.pop(number).close()
    finally:
        for sock in waiting.values():
            sock.close()
    raise failure if failure is not None and not waiting else TimeoutError("nobody answered in time")


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000) + 1


def _begin(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(USER_TIMEOUT_SECONDS * 1000))
        # What waits in the system's buffer looks sent and is lost with the connection: keep that little.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 32768)
        sock.connect(address.sockaddr)
    except BlockingIOError:
        return sock
    except OSError:
        sock.close()
        raise
    return sock


def _look_up(host: str, port: int) -> list[Address]:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [Address(family, where) for family, _, _, _, where in answers]


def _parse(number: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(number.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
