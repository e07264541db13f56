"""Checks the callers of the HTTP API: host names, origins, tokens, sessions and the limit of wrong tokens."""

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
    """What the server knows about a caller. It decides the rights of the caller."""

    UNKNOWN = auto()
    """The caller has sent no token and may be on another machine. It may only load the page and log in."""
    LOCAL = auto()
    """The caller is a program of this machine. It may read the state, the events without texts, the metrics and the
    static files."""
    TRUSTED = auto()
    """The caller has sent the token or a valid session. It may do everything."""


class AttemptLimit:
    """Limits the wrong tokens of each address: ``ATTEMPTS`` without a wait, then one in ``ATTEMPT_SECONDS`` seconds.

    Thread-safe. It stores the last ``MAX_ADDRESSES`` addresses that sent a wrong token.

    Args:
        clock: Returns the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By address: the time at which it has all of its attempts again. Each wrong token adds ATTEMPT_SECONDS.
        self._free_at: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def wait_seconds(self, address: str) -> float:
        """Return how many seconds the address has to wait before its next attempt; 0 if it may try now."""
        with self._lock:
            free_at = self._free_at.get(address, 0.0)
        return max(0.0, free_at - self._clock() - (ATTEMPTS - 1) * ATTEMPT_SECONDS)

    def record_failure(self, address: str) -> None:
        """Count a wrong token of the address."""
        with self._lock:
            self._free_at[address] = max(self._clock(), self._free_at.get(address, 0.0)) + ATTEMPT_SECONDS
            self._free_at.move_to_end(address)
            if len(self._free_at) > MAX_ADDRESSES:
                self._free_at.popitem(last=False)


class Access:
    """The access rules of the server. Thread-safe.

    Args:
        token: The token; ``None`` if the configuration has none.
        origins: The origins of ``web.origins``.
        is_secure: Whether the server uses TLS.
        is_loopback: Whether only programs of this machine reach the server.
        clock: Returns the time in seconds since 1970.
        limit: Limits the wrong tokens.
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
        """Return whether the header ``Host`` names this server.

        IP addresses, localhost and the hosts of the allowed origins are accepted. This check prevents DNS rebinding: if
        the name of another server resolves to this machine, ``Host`` contains that name.
        """
        name = hostname(host)
        return name is not None and (name in _LOOPBACK_NAMES or name in self._names or _ip_address(name) is not None)

    def admits_origin(self, origin: str, host: str) -> bool:
        """Return whether a page with this origin may send requests: a page of this server, or of ``web.origins``."""
        return self.is_own_origin(origin, host) or origin in self._origins

    def is_own_origin(self, origin: str, host: str) -> bool:
        """Return whether the origin is that of this server."""
        return origin == f"{'https' if self._is_secure else 'http'}://{host}".lower()

    def is_local(self, peer: str, host: str, *, is_forwarded: bool) -> bool:
        """Return whether a request comes directly from a program of this machine, and not through a reverse proxy.

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
        """Return how many seconds an address has to wait before it may send a token; 0 if it may send one now."""
        return self._limit.wait_seconds(peer)

    def check_token(self, token: str, peer: str) -> bool:
        """Compare a token in constant time, and count a wrong one for the address."""
        is_right = self._token is not None and hmac.compare_digest(token.encode("utf-8", "replace"), self._token)
        if not is_right:
            self._limit.record_failure(peer)
        return is_right

    def new_session(self) -> str:
        """Return a new session, which is valid for ``SESSION_SECONDS`` seconds, also after a restart of the daemon.

        The session consists of its end time, a random number and a signature. The server stores no sessions, so their
        number needs no limit. A change of the token invalidates all sessions.
        """
        content = f"{int(self._clock()) + SESSION_SECONDS}.{secrets.token_hex(16)}"
        return f"{content}.{self._sign(content)}"

    def check_session(self, session: str) -> bool:
        """Return whether a session was signed with the current token and has not expired."""
        content, _, signature = session.rpartition(".")
        end = content.partition(".")[0]
        if self._token is None or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign(content).encode()
        ):
            return False
        return end.isascii() and end.isdigit() and int(end) > self._clock()

    def cookie(self, session: str, host: str, seconds: int = SESSION_SECONDS) -> str:
        """Return the value of ``Set-Cookie`` for a session; with 0 seconds the browser deletes the session.

        The cookie is ``Secure`` if the server uses TLS. It is also ``Secure`` if ``https://HOST`` is an allowed origin,
        because then a reverse proxy uses TLS.
        """
        secure = "; Secure" if self._is_secure or f"https://{host}".lower() in self._origins else ""
        return f"{COOKIE}={session}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    def _sign(self, content: str) -> str:
        return hmac.new(self._session_key, content.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def is_loopback(address: str) -> bool:
    """Return whether a text is a loopback IP address."""
    parsed = _ip_address(address)
    return parsed is not None and parsed.is_loopback


def hostname(host: str) -> str | None:
    """Return the host in a ``Host`` header, in lower case, without port and brackets; ``None`` if it is invalid."""
    if not host or any(character in host for character in "/\\@?# \t,"):
        return None
    try:
        parts = urlsplit(f"//{host}")
        return parts.hostname if parts.port is None or parts.port > 0 else None
    except ValueError:
        return None


def session_of(cookies: str | None) -> str | None:
    """Return the session in a ``Cookie`` header; ``None`` without one."""
    # http.cookies would stop at a cookie that it cannot parse. Other servers on this host may have set such a cookie.
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
