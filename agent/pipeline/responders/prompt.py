"""Fills the fields of a system prompt, such as the time, at each request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from agent.config.errors import suggestion
from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.responders.rules import local_now
from agent.pipeline.timers import TimerState

FIELDS = ("now", "date", "name", "room", "volume", "timers")
DEVICE_FIELDS = ("volume", "timers")
"""The fields that need ``DeviceContext.control``."""
UNKNOWN = "unknown"

_PARTS = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]")


def fields_of_prompt(prompt: str) -> Iterator[str]:
    """Yield the text between each pair of braces, and each single brace. The text may be invalid as a field name."""
    for part in _PARTS.findall(prompt):
        if part not in ("{{", "}}"):
            yield part[1:-1] if len(part) > 1 else part


def prompt_problem(prompt: str) -> tuple[str, str | None] | None:
    """Return why a prompt cannot be filled in, and a suggestion; ``None`` if it can be filled in."""
    for name in fields_of_prompt(prompt):
        if name not in FIELDS:
            shown = name if name in ("{", "}") else f"{{{name[:30]}}}"
            expected = ", ".join(f"{{{each}}}" for each in FIELDS)
            what = f"there is no field {shown}, expected one of {expected}, or {{{{ and }}}} where the text has braces"
            return what, suggestion(name, FIELDS)
    return None


def fill_prompt(prompt: str, device: DeviceContext) -> str:
    """Return a prompt with its fields filled in. The prompt must have no ``prompt_problem``."""
    if "{" not in prompt and "}" not in prompt:
        return prompt
    values: Mapping[str, Callable[[], str]] = {
        "{{": lambda: "{",
        "}}": lambda: "}",
        "{now}": lambda: f"{local_now():%H:%M}",
        "{date}": lambda: f"{local_now():%A, %Y-%m-%d}",
        "{name}": lambda: device.name() or UNKNOWN,
        "{room}": lambda: device.room or UNKNOWN,
        "{volume}": lambda: UNKNOWN if device.control is None else f"{device.control.volume()} percent",
        "{timers}": lambda: describe_timers(device),
    }
    # One pass over the prompt: braces in a value are not replaced as fields.
    return _PARTS.sub(lambda part: values[part[0]](), prompt)


def describe_timers(device: DeviceContext) -> str:
    """Return the timers and alarms as a list for a model."""
    control = device.control
    if control is None:
        return "none"
    items = []
    for timer in control.timers.all:
        name = f' "{timer.name}"' if timer.name else ""
        if timer.state is TimerState.RINGING:
            rest = "rings now"
        elif timer.is_alarm:
            rest = f"at {timer.alarm}"
        else:
            seconds = max(0, round(control.timers.remaining(timer)))
            rest = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"
        items.append(f"{'alarm' if timer.is_alarm else 'timer'}{name} {rest}")
    return ", ".join(items) or "none"
