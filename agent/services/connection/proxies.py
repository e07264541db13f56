"""Explains in error messages that voice-agent ignores the proxy variables of the environment."""

from __future__ import annotations

import os

from agent.system.hosts import is_private_host

_VARIABLES = ("https_proxy", "http_proxy", "all_proxy")


def proxy_hint(host: str) -> str:
    """Return a clause for an error message: a proxy is configured, and voice-agent does not use it.

    The clause is empty if no proxy is configured for the host.

    Args:
        host: The host that could not be reached. For a host of a private network the clause is empty.
    """
    names = [name for each in _VARIABLES for name in (each, each.upper()) if os.environ.get(name)]
    exceptions = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if not names or is_private_host(host) or _is_excepted(host, exceptions):
        return ""
    return f"; {names[0]} is set, and voice-agent uses no proxy: allow direct connections to {host}"


def _is_excepted(host: str, exceptions: str) -> bool:
    for entry in exceptions.split(","):
        suffix = entry.strip().removeprefix("*").removeprefix(".").lower()
        if entry.strip() == "*" or (suffix and (host.lower() == suffix or host.lower().endswith(f".{suffix}"))):
            return True
    return False
