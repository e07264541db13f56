"""``voice-agent status``, ``hush``, ``volume``, ``mute`` and ``unmute``: one request to the running daemon each.

Each function raises ``ServiceError`` if no daemon answers or if it refuses the request.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping

from agent.cli.handover import connect, warn_of_mistakes
from agent.cli.notice import notice
from agent.errors import ServiceError
from agent.frontends.control.client import DaemonUnreachable
from agent.system.text import escape


def status(path: str | None, *, as_json: bool = False, check: bool = False) -> int:
    """Print the status of the daemon as a table.

    Args:
        path: The value of ``--config``.
        as_json: Print the same fields as one JSON object.
        check: Print nothing if the daemon can speak and listen as its mode requires, else the reasons on stderr.

    Returns:
        The exit code: 0, or 69 with ``check`` if the daemon cannot.
    """
    answer = _ask(path, {"status": True})
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
    _ask(path, {"hush": True})
    return 0


def volume(path: str | None, percent: int | None) -> int:
    """Set the playback volume, from 0 to 100; print it if ``percent`` is ``None``."""
    if percent is not None:
        _ask(path, {"volume": percent})
        return 0
    value = _ask(path, {"status": True}).get("volume")
    print("no volume: the daemon does not speak in this mode" if value is None else escape(str(value)), flush=True)
    return 0


def mute(path: str | None, device: str, muted: bool) -> int:
    """Mute or unmute a device until the opposite request.

    Args:
        path: The value of ``--config``.
        device: ``speaker``, or ``microphone``, which is closed while it is muted.
        muted: Whether to mute or to unmute.
    """
    _ask(path, {"mute": muted} if device == "speaker" else {"microphone": "mute" if muted else "unmute"})
    return 0


def _ask(path: str | None, request: Mapping[str, object]) -> dict[str, object]:
    try:
        client = connect(path)
    except DaemonUnreachable:
        warn_of_mistakes(path)
        raise
    with contextlib.closing(client):
        answer = client.request(request)
    warnings = answer.get("warnings")
    for warning in warnings if isinstance(warnings, list) else ():
        notice(f"warning: {warning}", 500)
    return answer
