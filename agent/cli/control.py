"""``voice-agent status``, ``hush``, ``volume``, ``mute`` and ``unmute``: one request to the running daemon each.

Each function raises ``ServiceError`` if no daemon answers or if it refuses the request.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace

from agent.config.errors import ConfigIssues
from agent.errors import ServiceError
from agent.frontends.control.client import ControlClient, socket_paths
from agent.settings.model import Config
from agent.system.text import escape


def status(config: Config, *, as_json: bool = False, check: bool = False) -> int:
    """Print the status of the daemon as a table.

    Args:
        config: The configuration.
        as_json: Print the same fields as one JSON object.
        check: Print nothing if the daemon can speak and listen as its mode requires, else the reasons on stderr.

    Returns:
        The exit code: 0, or 69 with ``check`` if the daemon cannot.
    """
    answer = _ask(config, {"status": True})
    if as_json:
        print(json.dumps(answer), flush=True)
    elif not check:
        from agent.cli.status_table import table

        print(table(answer), flush=True)
    missing = [verb for verb in ("speak", "listen") if answer.get(f"can_{verb}") is False]
    if not check or not missing:
        return 0
    print(f"voice-agent: cannot {' or '.join(missing)}: {escape(str(answer.get('status', '')), 500)}", file=sys.stderr)
    return ServiceError.exit_code


def hush(config: Config) -> int:
    """Cancel the current and all queued utterances."""
    _ask(config, {"hush": True})
    return 0


def volume(config: Config, percent: int | None) -> int:
    """Set the playback volume, from 0 to 100; print it if ``percent`` is ``None``."""
    if percent is not None:
        _ask(config, {"volume": percent})
        return 0
    value = _ask(config, {"status": True}).get("volume")
    print("no volume: the daemon does not speak in this mode" if value is None else escape(str(value)), flush=True)
    return 0


def mute(config: Config, device: str, muted: bool) -> int:
    """Mute or unmute a device until the opposite request.

    Args:
        config: The configuration.
        device: ``speaker``, or ``microphone``, which is closed while it is muted.
        muted: Whether to mute or to unmute.
    """
    _ask(config, {"mute": muted} if device == "speaker" else {"microphone": "mute" if muted else "unmute"})
    return 0


def usable_for_client(error: ConfigIssues) -> Config:
    """Return the part of an invalid configuration that is usable, with a usable ``control.socket``."""
    config: Config = error.usable or Config()
    if any(config.control.check()):
        return replace(config, control=type(config.control)())
    return config


def warn_of_issues(error: ConfigIssues) -> None:
    """Print that the configuration is invalid, for a command that needs only the control socket."""
    more = f" (and {len(error.issues) - 1} more)" if len(error.issues) > 1 else ""
    warning = f"warning: the configuration is invalid, {error.issues[0]}{more}; the command uses only control.socket"
    print(f"voice-agent: {escape(warning, 500)}", file=sys.stderr, flush=True)


def _ask(config: Config, request: Mapping[str, object]) -> dict[str, object]:
    with contextlib.closing(ControlClient.connect(socket_paths(config.control.socket, os.environ))) as client:
        answer = client.request(request)
    warnings = answer.get("warnings")
    for warning in warnings if isinstance(warnings, list) else ():
        print(f"voice-agent: warning: {escape(str(warning), 500)}", file=sys.stderr, flush=True)
    return answer
