"""The table of ``voice-agent status``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from agent.system.text import escape

_COLUMN = 14


def table(status: Mapping[str, Any]) -> str:
    """Return the answer of the daemon to ``status`` as lines with a name and a value."""
    lines = []
    previous = ""
    for name, value in _rows(status):
        lines.append(f"{'' if name == previous else name:{_COLUMN}}{escape(value, 300)}")
        previous = name
    return "\n".join(lines)


def _rows(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "status", str(status.get("status", ""))
    yield "state", f"{status.get('state', '')} (mode {status.get('mode', '')})"
    saying = status.get("saying")
    if saying:
        text = f'"{saying.get("text", "")}"'
        yield "saying", f"{text} (priority {saying.get('priority')}, {saying.get('utterance')})"
    else:
        yield "saying", "nothing"
    for timer in status.get("timers") or ():
        yield ("alarm" if timer.get("is_alarm") else "timer"), _timer(timer)
    yield "queue", str(status.get("queue", 0))
    volume = status.get("volume")
    yield "volume", "not used in this mode" if volume is None else f"{volume} %"
    for service in status.get("services") or ():
        role, name = str(service.get("role", "")), str(service.get("name", ""))
        yield role, _state(service, "" if name == role else name) + _breaker(service.get("breaker"))
    for name, device in (status.get("devices") or {}).items():
        yield str(name), _state(device, str(device.get("device", "")))
    for word, count in (status.get("near_misses") or {}).items():
        yield "near misses", f"{word}: {count}"
    if echo := status.get("echo"):
        yield "echo", describe_echo(echo)
    for trouble in status.get("troubles") or ():
        yield "trouble", str(trouble)
    yield "uptime", _duration(float(status.get("uptime_seconds") or 0.0))
    yield "version", str(status.get("version", ""))


def describe_echo(echo: Mapping[str, Any]) -> str:
    """Return the interruption mode of the echo canceller with its reason, and the measurements."""
    reason = echo.get("reason")
    parts = [f"interruption: {echo.get('mode', '')}" + (f" ({reason})" if reason else "")]
    for name, unit, factor in (("delay_seconds", "ms delay", 1000), ("drift_ppm", "ppm drift", 1)):
        value = echo.get(name)
        parts += [] if value is None else [f"{factor * value:.0f} {unit}"]
    loss = echo.get("return_loss_db")
    return ", ".join([*parts, *([] if loss is None else [f"{loss:.0f} dB return loss"])])


def _state(entry: Mapping[str, Any], name: str) -> str:
    reason = entry.get("reason")
    prefix = f"{name}: " if name else ""
    return f"{prefix}{entry.get('state', '')}" + (f", {reason}" if reason else "")


def _timer(timer: Mapping[str, Any]) -> str:
    ends_at = timer.get("ends_at")
    moment = "" if ends_at is None else time.strftime(" %H:%M:%S", time.localtime(float(ends_at)))
    name = f"{timer['name']}: " if timer.get("name") else ""
    return f"{name}{timer.get('state', '')}{moment}"


def _breaker(state: object) -> str:
    return "" if state in (None, "closed") else f" (circuit breaker {state})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
