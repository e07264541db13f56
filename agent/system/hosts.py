"""Addresses of services: which are well formed, and to which a key and a voice may travel without encryption."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, urlsplit

PRIVATE_SUFFIXES = (".localhost", ".local", ".home.arpa", ".internal", ".lan", ".home", ".fritz.box")
"""How they end: RFC 6761, RFC 6762, RFC 8375, ICANN's "internal", and what home routers hand out. A name says
nothing of where it leads: whoever connects judges the address itself once more."""


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
    """Whether this is the machine itself or a host on a private network, judged by the address or the name alone: a
    name without a dot, or one that by its standard is never resolved outside."""
    import ipaddress  # 5 ms that only an address without encryption costs

    host = host.strip("[]").partition("%")[0].rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        number = host[:1].isdigit() and all(letter in "0123456789abcdefx." for letter in host)
        # 134744072 and 0x08080808 are addresses to a resolver, though not to us.
        return bool(host) and not number and ("." not in host or host.endswith(PRIVATE_SUFFIXES))
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    return any(address in network for network in map(ipaddress.ip_network, PRIVATE_NETWORKS))


def is_valid_hostname(name: str) -> bool:
    """Whether a resolver can be asked for it: no part of a name is empty, or longer than 63 letters as it is sent."""
    try:
        sent = name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return all(0 < len(part) < 64 for part in sent.removesuffix(".").split("."))


def find_url_problem(url: str, schemes: tuple[str, ...]) -> str | None:
    """What keeps ``url`` from being used, and what was expected; ``None`` where nothing does. Never quotes the part
    of an address that may hold a key."""
    expected = f"expected {' or '.join(f'{scheme}://' for scheme in schemes)}HOST..."
    if not url:
        return f"the address is empty, {expected}"
    if not url.isprintable() or " " in url or "\\" in url:
        return f"the address holds a space, a backslash or a control character, {expected}"
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
        return "the address holds a user name or password, which would be printed: put keys under api_key"
    if any(name.lower() in _KEY_NAMES for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "the address holds a key, which would be printed: put it under api_key"
    if parts.fragment or url.endswith("#"):
        return "the address has a part after #, which is never sent: leave it out"
    return None


def connect_host(host: str) -> str:
    """Where a server that listens on ``host`` is reached from this machine: one that listens on every address of it is
    at home on each."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def websocket_url(host: str, port: int) -> str:
    """``ws://HOST:PORT``."""
    return f"ws://{f'[{host}]' if ':' in host else host}:{port}"


def unencrypted_public_url(url: str) -> SplitResult | None:
    """The parts of a well-formed ``url`` that leads out of the house without encryption, else ``None``."""
    parts = urlsplit(url)
    if parts.scheme in ("ws", "http") and not is_private_host(parts.hostname or ""):
        return parts
    return None
