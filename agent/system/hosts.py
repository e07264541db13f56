"""Checks the URLs of services, and decides which hosts may be used without encryption."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

PRIVATE_SUFFIXES = (".localhost", ".local", ".home.arpa", ".internal", ".lan", ".home", ".fritz.box")
"""Suffixes of host names in private networks: RFC 6761, RFC 6762, RFC 8375, "internal" (ICANN), and home routers.

A name with such a suffix can resolve to a public address, so ``dial`` also checks the address.
"""

PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
_KEY_NAMES = frozenset({"api_key", "apikey", "api-key", "key", "token", "jwt_token", "access_token", "xi-api-key"})


def is_private_host(host: str) -> bool:
    """Return whether a host is this machine or in a private network. The name is not resolved.

    A name is private if it has no dot, or ends with one of ``PRIVATE_SUFFIXES``.
    """
    import ipaddress  # imported late: it takes 5 ms, and only URLs without encryption need it

    host = host.strip("[]").partition("%")[0].rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # The resolver accepts 134744072 and 0x08080808 as IPv4 addresses (inet_aton(3)); ipaddress does not.
        is_number = host[:1].isdigit() and all(character in "0123456789abcdefx." for character in host)
        return bool(host) and not is_number and ("." not in host or host.endswith(PRIVATE_SUFFIXES))
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return any(address in network for network in map(ipaddress.ip_network, PRIVATE_NETWORKS))


def is_valid_hostname(name: str) -> bool:
    """Return whether a host name is valid in DNS: each label has 1 to 63 characters in its encoded form."""
    try:
        encoded = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return all(0 < len(part) < 64 for part in encoded.removesuffix(".").split("."))


def find_url_problem(url: str, schemes: tuple[str, ...]) -> str | None:
    """Return why a URL cannot be used, and the expected form; ``None`` if it is valid.

    The message quotes no part of the URL that may contain a key.

    Args:
        url: The URL from the configuration.
        schemes: The allowed schemes.
    """
    expected = f"expected {' or '.join(f'{scheme}://' for scheme in schemes)}HOST..."
    if not url:
        return f"the address is empty, {expected}"
    if not url.isprintable() or " " in url or "\\" in url:
        return f"the address contains a space, a backslash or a control character, {expected}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"the address has an impossible host or port, {expected}"
    if parts.scheme not in schemes:
        shown = f"{parts.scheme}://" if "://" in url and len(parts.scheme) < 12 else "no known scheme"
        return f"the address begins with {shown}, {expected}"
    if not parts.hostname or not is_valid_hostname(parts.hostname) or port == 0:
        return f"the address names no host and port to connect to, {expected}"
    if parts.username is not None or parts.password is not None:
        return "the address contains a user name or password, which would be printed: put keys under api_key"
    if any(name.lower() in _KEY_NAMES for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "the address contains a key, which would be printed: put it under api_key"
    if parts.fragment or url.endswith("#"):
        return "the address has a part after #, which is never sent: leave it out"
    return None


def connect_host(host: str) -> str:
    """Return the host for a client on this machine: loopback if the server listens on all addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def websocket_url(host: str, port: int) -> str:
    """Return ``ws://HOST:PORT``, with brackets around an IPv6 address."""
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}"


def unencrypted_public_url(url: str) -> SplitResult | None:
    """Return the parts of a valid URL if it leads to a public host without encryption; otherwise ``None``."""
    parts = urlsplit(url)
    if parts.scheme in ("ws", "http", "mqtt", "tcp") and not is_private_host(parts.hostname or ""):
        return parts
    return None
