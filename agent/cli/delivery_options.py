"""The parameters of a request to speak, from the options of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from types import SimpleNamespace


def delivery_options(options: argparse.Namespace | SimpleNamespace) -> dict[str, Any]:
    """Return the parameters of the request ``say`` for the options that are set on the command line.

    Raises:
        UsageError: Two options exclude each other.
    """
    if options.urgent and options.priority not in (None, "important"):
        raise UsageError("--urgent is --priority important: give one of the two")
    named = {
        "priority": "important" if options.urgent else options.priority,
        "ttl_seconds": options.ttl,
        "id": options.id,
        "chime": options.chime,
        "volume": options.volume,
        "voice": options.voice,
    }
    return {name: value for name, value in named.items() if value is not None}
