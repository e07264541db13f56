"""The commands that send one request to the running daemon each: ``status``, ``hush``, ``volume`` and others.

Each function raises ``ServiceError`` if no daemon answers or the daemon refuses the request, and ``UsageError`` if the
daemon reports invalid parameters.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from agent.cli.daemon_errors import service_errors
from agent.cli.handover import require_daemon
from agent.cli.notice import notice
from agent.errors import ServiceError
from agent.system.text import escape


def status(path: str | None, *, as_json: bool = False, check: bool = False) -> int:
    """Print the status of the daemon as a table.

    Args:
        path: The value of ``--config``.
        as_json: Print the same fields as one JSON object.
        check: Print no table. Print the reason to stderr if the daemon cannot speak or listen as its mode requires.

    Returns:
        The exit code: 0, or 69 with ``check`` if the daemon cannot.
    """
    answer = request(path, "status")
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


def hush(path: str | None) -> int:
    """Cancel the current and all queued utterances."""
    request(path, "hush")
    return 0


def stop(path: str | None) -> int:
    """Cancel the current utterance; the queued ones are still spoken."""
    saying = request(path, "status").get("saying")
    if isinstance(saying, dict):
        request(path, "cancel", id=str(saying.get("utterance")))
    return 0


def cancel(path: str | None, utterance: str) -> int:
    """Cancel one utterance, current or queued."""
    request(path, "cancel", id=utterance)
    return 0


def listen(path: str | None) -> int:
    """Cancel the speech and start a turn of the user."""
    request(path, "listen")
    return 0


def volume(path: str | None, percent: int | None) -> int:
    """Set the playback volume, from 0 to 100; print it if ``percent`` is ``None``."""
    if percent is not None:
        request(path, "volume", percent=percent)
        return 0
    value = request(path, "status").get("volume")
    print("no volume: the daemon does not speak in this mode" if value is None else escape(str(value)), flush=True)
    return 0


def mute(path: str | None, device: str, muted: bool) -> int:
    """Mute or unmute a device until the opposite request.

    Args:
        path: The value of ``--config``.
        device: ``speaker``, or ``microphone``, which is closed while it is muted.
        muted: ``True`` mutes, ``False`` unmutes.
    """
    request(path, "mute" if muted else "unmute", device=device)
    return 0


def request(path: str | None, method: str, **params: object) -> dict[str, Any]:
    """Call a method of the running daemon, print its warnings and return its result.

    Args:
        path: The value of ``--config``.
        method: A method of the control protocol, such as ``status``.
        params: The parameters of the method.
    """
    with require_daemon(path) as client, service_errors():
        result = client.call(method, **params)
    warnings = result.get("warnings")
    for warning in warnings if isinstance(warnings, list) else ():
        notice(f"warning: {warning}", 500)
    return result
