"""``voice-agent history``: print the utterances of the running daemon, both spoken and queued."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

from agent.cli.daemon_errors import service_errors
from agent.cli.handover import require_daemon
from agent.system.text import escape

_TEXT_CHARACTERS = 60


def history(path: str | None, limit: int, *, as_json: bool = False) -> int:
    """Print the last utterances, the newest last, and to stderr the number of near misses of each wake word.

    Args:
        path: The value of ``--config``.
        limit: The maximum number of utterances.
        as_json: Print one JSON object per line.

    Returns:
        The exit code.
    """
    with require_daemon(path) as client, service_errors():
        records = client.history(limit)
        near_misses = client.status().get("near_misses") or {}
    for record in reversed(records):
        print(json.dumps(record) if as_json else line(record))
    for word, count in near_misses.items():
        word = escape(str(word), 100)
        print(f"near misses of the wake word {word} since the start: {count}", file=sys.stderr)
    return 0


def line(record: Mapping[str, Any]) -> str:
    """Return an utterance as one line: local time, state, length, id, priority, services, reason and text."""
    accepted = record.get("accepted_at")
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(accepted)) if isinstance(accepted, int | float) else ""
    priority = record.get("priority") or record.get("urgency")
    services = ",".join(str(service) for service in record.get("services") or ())
    text = record.get("text")
    parts = [
        f"{clock:19} {escape(str(record.get('state')), 20):11} {float(record.get('seconds') or 0.0):6.1f} s ",
        escape(str(record.get("id")), 100),
        f"({escape(str(priority), 20)}{f', {escape(services, 100)}' if services else ''})",
        escape(str(record.get("reason") or ""), 200),
        f'"{escape(text, _TEXT_CHARACTERS)}"' if isinstance(text, str) else "",
    ]
    return " ".join(part for part in parts if part)
