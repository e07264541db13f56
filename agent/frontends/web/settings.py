"""The configuration of the HTTP API and the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agent.config.errors import Finding, suggestion
from agent.config.fields import key as setting  # one of the fields has the name key
from agent.config.fields import section
from agent.config.rules import directory_problem, input_file_problem
from agent.config.secrets import Secret
from agent.system.named_tuple import NamedTuple

DEFAULT_LISTEN = "127.0.0.1:8395"
NO_ADDRESS = "none"
MIN_TOKEN_CHARACTERS = 16
"""Minimum length of the token. Sessions are signed with the token: an attacker with a session could guess a short token
by trying many tokens offline."""

_ORIGIN = r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?"
_ADDRESS = r"(localhost|[0-9.]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})"


class ListenAddress(NamedTuple):
    """An address to listen on. Immutable."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach the address."""
        import ipaddress  # imported late: costs 5 ms, needed only if the web frontend is on

        return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@section
class WebSettings(NamedTuple):
    """The HTTP API and the page."""

    listen: str = setting(
        NO_ADDRESS,
        f"address and port of the HTTP API and the page, such as {DEFAULT_LISTEN}; none: it is off",
        note="An address that other machines reach needs a token",
    )
    token: Secret = setting(
        lambda: Secret(credential="web"),
        "where the token is stored that callers send; without a token they see the state and nothing else",
    )
    transcripts: bool = setting(False, "true: a caller with the token may read the words of the user and of the device")
    origins: tuple[str, ...] = setting(
        (),
        "other names of this page, and pages of other servers that may use the API",
        note="For example [https://kiosk.example]; each needs the token",
    )
    directory: str | None = setting(None, "directory with pages of your own, which are served under /app/")
    certificate: str | None = setting(None, "PEM file with the certificate and its chain, for https")
    key: str | None = setting(None, "PEM file with the private key of the certificate")

    @property
    def address(self) -> ListenAddress | None:
        """The address to listen on; ``None`` if the web frontend is off."""
        return parse_address(self.listen)

    def check(self) -> Iterator[Finding]:
        """Yield the errors in the address, the origins and the files."""
        if self.listen != NO_ADDRESS and parse_address(self.listen) is None:
            what = f"this is not an address to listen on, expected none or an IP address and a port: {DEFAULT_LISTEN}"
            yield Finding("listen", what, suggestion(self.listen, (NO_ADDRESS, DEFAULT_LISTEN)))
        for index, origin in enumerate(self.origins):
            if not re.fullmatch(_ORIGIN, origin):
                what = f"{origin!r} is not an origin, expected https://HOST or http://HOST:PORT in lower case, no path"
                yield Finding(f"origins[{index}]", what)
        if self.directory is not None and (problem := directory_problem(self.directory, "pages")):
            yield Finding("directory", problem)
        for name, path, other in (("certificate", self.certificate, "key"), ("key", self.key, "certificate")):
            if path is None:
                continue
            if problem := input_file_problem(path):
                yield Finding(name, problem)
            if getattr(self, other) is None:
                yield Finding(other, f"web.{name} is set and this file is missing, expected its path", None, name)

    def warnings(self) -> Iterator[Finding]:
        """Yield a warning for an address that other machines reach without encryption."""
        address = self.address
        if address is not None and not address.is_loopback and self.certificate is None:
            yield Finding("listen", "the token and the texts are sent without encryption: set web.certificate")


def parse_address(text: str) -> ListenAddress | None:
    """Parse ``HOST:PORT``, where the host is an IP address or ``localhost``; ``None`` if the text is something else."""
    match = re.fullmatch(_ADDRESS, text)
    if match is None or not 0 < int(match[2]) < 65536:
        return None
    import ipaddress

    host = match[1].strip("[]")
    try:
        return ListenAddress(host if host == "localhost" else str(ipaddress.ip_address(host)), int(match[2]))
    except ValueError:
        return None
