"""Parses the usual command lines of the commands that have to start fast, without argparse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from agent.services.registry import SERVICES

# The import of argparse with its translations, and the parser of one command, take a tenth of the CPU time of hush.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "hush": {"config": None},
    "status": {"config": None, "json": False, "check": False},
    "say": {
        "config": None,
        "service": None,
        "output": None,
        "fallback": None,
        "priority": None,
        "urgent": False,
        "ttl": None,
        "id": None,
        "chime": None,
        "volume": None,
        "voice": None,
        "wait": True,
        "cancel": False,
        "stop": False,
    },
}
_CONFIG = {"-c": "config", "--config": "config"}
_OPTIONS = {
    "hush": _CONFIG,
    "status": _CONFIG,
    "say": {**_CONFIG, "-s": "service", "--service": "service", "-o": "output", "--output": "output"},
}


def parse_usual(words: list[str]) -> SimpleNamespace | None:
    """Parse a command line that consists of options with one value each, followed by words.

    Returns:
        The same options as ``parsers.parse``; ``None`` if argparse has to parse the command line or to report an error.
    """
    command, rest = words[0] if words else "", words[1:]
    if command not in _DEFAULTS:
        return None
    options = SimpleNamespace(command=command, **_DEFAULTS[command])
    while len(rest) > 1 and rest[0] in _OPTIONS[command]:
        setattr(options, _OPTIONS[command][rest[0]], rest[1])
        if _is_option(rest[1]):
            return None
        del rest[:2]
    if any(map(_is_option, rest)) or bool(rest) != (command == "say"):
        return None
    if command == "say":
        options.text = rest
        if options.service not in (None, *SERVICES):
            return None
    return options


def _is_option(word: str) -> bool:
    return word.startswith("-") and word != "-"
