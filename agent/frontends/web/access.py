"""Decides which caller may do what: names of the host, origins of pages, tokens, sessions and limits of attempts."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from urllib.parse import urlsplit

COOKIE = "voice_agent_session"
SESSION_SECONDS = 90 * 86400
ATTEMPTS = 5
ATTEMPT_SECONDS = 10.0
MAX_ADDRESSES = 256
_LOOPBACK_NAMES = ("localhost", "localhost.localdomain")


class Identity(Enum):
    """What the server knows about a caller, which decides its rights."""

    UNKNOWN = auto()
    """The caller has no token and may be on another machine."""
    LOCAL = auto()
    """The caller is a program of this machine. It may read the state and the metrics."""
    TRUSTED = auto()
    """The caller has the token or a session. It may do everything."""


class AttemptLimit:
    """Limits wrong tokens for each address: ``ATTEMPTS`` at once, then one in ``ATTEMPT_SECONDS``.

    Thread-safe. It remembers the last ``MAX_ADDRESSES`` addresses.

    Args:
        clock: Returns the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When the address has all of its attempts again: each wrong token moves this moment by ATTEMPT_SECONDS.
        self._free_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """Return how long the address has to wait before its next attempt; 0 if it need not."""
        with self._lock:
            free_at = self._free_at.get(address, 0.0)
        return max(0.0, free_at - self._clock() - (ATTEMPTS - 1) * ATTEMPT_SECONDS)

    def failed(self, address: str) -> None:
        """Count a wrong token."""
        with self._lock:
            self._free_at[address] = max(self._clock(), self._free_at.get(address, 0.0)) + ATTEMPT_SECONDS
            self._free_at.move_to_end(address)
            if len(self._free_at) > MAX_ADDRESSES:
                self._free_at.popitem(last=False)


class Access:
    """The rules for one daemon. Thread-safe.

    Args:
        token: The token; ``None`` where the configuration has none.
        origins: The origins of ``web.origins``.
        is_secure: Whether the server speaks TLS.
        is_loopback: Whether only programs of this machine reach the server.
        clock: Returns the time in seconds since 1970.
        limit: Counts wrong tokens.
    """

    def __init__(
        self,
        token: str | None,
        origins: Sequence[str] = (),
        *,
        is_secure: bool = False,
        is_loopback: bool = True,
        clock: Callable[[], float] = time.time,
        limit: AttemptLimit | None = None,
    ) -> None:
        self._token = None if token is None else token.encode()
        self._origins = frozenset(origins)
        self._names = frozenset(urlsplit(origin).hostname or "" for origin in origins)
        self._is_secure, self._is_loopback, self._clock = is_secure, is_loopback, clock
        self._limit = limit or AttemptLimit()
        self._session_key = hashlib.sha256(b"session of voice-agent\0" + (self._token or b"")).digest()

    @property
    def has_token(self) -> bool:
        return self._token is not None

    # --- names

    def admits_host(self, host: str) -> bool:
        """Return whether ``Host`` names this server: an IP address, localhost, or the host of an allowed origin.

        A page of another server whose name resolves to this machine (DNS rebinding) has the name of that server.
        """
        name = hostname(host)
        return name is not None and (name in _LOOPBACK_NAMES or name in self._names or _ip_address(name) is not None)

    def admits_origin(self, origin: str, host: str) -> bool:
        """Return whether a page with this origin may send requests: it is our own page, or an allowed one."""
        return self.is_own_origin(origin, host) or origin in self._origins

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Return whether the origin is that of this server."""
        return origin == f"{'https' if self._is_secure else 'http'}://{host}".lower()

    def is_local(self, peer: str, host: str, *, is_forwarded: bool) -> bool:
        """Return whether a request without a token comes from this machine, and not through a reverse proxy.

        Args:
            peer: The address of the client.
            host: The ``Host`` of the request.
            is_forwarded: Whether the request has a header of a reverse proxy.
        """
        name = hostname(host)
        return (
            self._is_loopback
            and not is_forwarded
            and is_loopback(peer)
            and (name in _LOOPBACK_NAMES or is_loopback(name or ""))
        )

    # --- tokens and sessions

    def wait_seconds(self, peer: str) -> float:
        """Return how long an address has to wait before it may send a token; 0 if it need not."""
        return self._limit.wait_seconds(peer)

    def check_token(self, token: str, peer: str) -> bool:
        """Compare a token in constant time, and count a wrong one for the address."""
        is_right = self._token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self._token)
        if not is_right:
            self._limit.failed(peer)
        return is_right

    def new_session(self) -> str:
        """Return a random session that is valid for ``SESSION_SECONDS``, also after a restart of the daemon.

        It holds the time of its end, a random number and a signature. The server stores no session, so their number
        needs no limit. Another token invalidates all of them.
        """
        content = f"{int(self._clock()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        return f"{content}.{self._sign(content)}"

    def check_session(self, session: str) -> bool:
        """Return whether a session was issued with this token and has not ended."""
        content, _, signature = session.rpartition(".")
        end = content.partition(".")[0]
        if self._token is None or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign(content).encode()
        ):
            return False
        return end.isascii() and end.isdigit() and int(end) > self._clock()

    def cookie(self, session: str, host: str, seconds: int = SESSION_SECONDS) -> str:
        """Return the value of ``Set-Cookie``; with 0 seconds the browser forgets the session.

        It is ``Secure`` if the server speaks TLS, or if ``Host`` is that of a reverse proxy that speaks it.
        """
        secure = "; Secure" if self._is_secure or f"https://{host}".lower() in self._origins else ""
        return f"{COOKIE}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    def _sign(self, content: str) -> str:
        return hmac.new(self._session_key, content.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def is_loopback(address: str) -> bool:
    """Return whether a text is an IP address of this machine alone."""
    parsed = _ip_address(address)
    return parsed is not None and parsed.is_loopback


def hostname(host: str) -> str | None:
    """Return the host of a ``Host`` header in lower case, without port and brackets; ``None`` if it is invalid."""
    if not host or any(character in host for character in "/\\@?# \t,"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


def session_of(cookies: str | None) -> str | None:
    """Return the session in a ``Cookie`` header."""
    # Not http.cookies: it ends at a cookie that it cannot parse, and other servers of this host set cookies too.
    for cookie in (cookies or "").split(";"):
        name, _, value = cookie.partition("=")
        if name.strip() == COOKIE:
            return value.strip()
    return None


def _ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
