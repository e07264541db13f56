"""``voice-agent timers``: list, set and cancel the timers of the running daemon."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from agent.cli.control import request
from agent.cli.notice import notice
from agent.errors import UsageError
from agent.system.text import escape

_LENGTH = re.compile(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s?)?", re.ASCII)


def show(path: str | None, *, as_json: bool = False) -> int:
    """Print the timers and alarms, the next one first.

    Args:
        path: The value of ``--config``.
        as_json: Print the answer of the daemon as JSON.
    """
    answer = request(path, "timers.list")
    if as_json:
        print(json.dumps(answer), flush=True)
    elif answer["timers"]:
        print(table(answer["timers"]), flush=True)
    else:
        notice("no timer is set")
    return 0


def start(path: str | None, length: str, name: str, *, as_json: bool = False) -> int:
    """Start a timer and print its number.

    Args:
        path: The value of ``--config``.
        length: The length, as ``90s``, ``5m`` or ``1h30m``; a number without a unit means seconds.
        name: The name that is spoken when the timer ends; may be empty.
        as_json: Print the answer of the daemon as JSON.
    """
    answer = request(path, "timers.set", seconds=read_seconds(length), **({"name": name} if name else {}))
    print(json.dumps(answer) if as_json else answer["timer"]["number"], flush=True)
    if not answer["durable"]:
        notice("the timer is not on the disk: it is lost at the next restart")
    return 0


def cancel(path: str | None, word: str, *, as_json: bool = False) -> int:
    """Cancel the timer or alarm with a name or a number.

    Args:
        path: The value of ``--config``.
        word: The name or the number.
        as_json: Print the answer of the daemon as JSON.
    """
    answer = request(path, "timers.cancel", timer=word)
    if as_json:
        print(json.dumps(answer), flush=True)
    return 0


def read_seconds(length: str) -> int:
    """Return the seconds of a length such as ``90s``, ``5m`` or ``1h30m``.

    Raises:
        UsageError: ``length`` is invalid.
    """
    match = _LENGTH.fullmatch(length.strip().lower())
    if match is None or not any(match.groups()):
        raise UsageError(f"{escape(length, 40)!r} is no length: write 90s, 5m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def table(timers: list[Mapping[str, Any]]) -> str:
    """Return the timers as lines with the number, the kind, the state, the remaining time, the end and the name."""
    lines = [f"{'number':6}  {'kind':5}  {'state':7}  {'left':>9}  {'ends at':19}  name"]
    for timer in timers:
        ends_at = timer.get("ends_at")
        moment = "" if ends_at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(ends_at)))
        left = round(float(timer.get("remaining_seconds") or 0.0))
        lines.append(
            f"{timer['number']:6}  {'alarm' if timer.get('is_alarm') else 'timer':5}"
            f"  {escape(str(timer.get('state')), 7):7}  {left // 3600:3}:{left // 60 % 60:02}:{left % 60:02}"
            f"  {moment:19}  {escape(str(timer.get('name') or ''), 100)}".rstrip()
        )
    return "\n".join(lines)
