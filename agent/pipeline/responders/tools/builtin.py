"""The built-in tools: timers, the volume, announcements and the state of the device."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Announce, Volume
from agent.pipeline.responders.responder import DeviceContext
from agent.pipeline.responders.rules import local_now
from agent.pipeline.responders.tools.settings import GROUPS
from agent.pipeline.responders.tools.tool import Tool, ToolError, ToolResult, as_json
from agent.pipeline.timers import (
    ALARM_FORMAT,
    MAX_NAME_CHARACTERS,
    MAX_TIMER_SECONDS,
    Timer,
    TimerError,
    TimerState,
    local_seconds,
)
from agent.pipeline.utterance import Utterance
from agent.system.text import validate_piece, validate_text

SOURCE = "a tool"
MAX_TEXT_CHARACTERS = 2000
CLOCK_NOT_SET = "the clock of this device is not set yet: tell the user"

Arguments = Mapping[str, Any]

_NAME = {"type": "string", "maxLength": MAX_NAME_CHARACTERS, "description": "what it is for; may be empty"}
_REASONS = {"many": "there are too many timers", "long": "that is too long", "short": "that is too short"}


def builtin_tools(groups: Sequence[str], device: DeviceContext) -> Iterator[Tool]:
    """Yield the tools of ``groups``, which are keys of ``GROUPS``; none without ``DeviceContext.control``."""
    if device.control is None:
        return
    actions = _Actions(device, device.control)
    now = f"Now it is {local_now():{ALARM_FORMAT}}."
    about: dict[str, tuple[str, dict[str, Any], list[str], Callable[[Arguments], object]]] = {
        "list_timers": ("List the timers and alarms of this device.", {}, [], actions.list_timers),
        "set_timer": (
            "Start a timer that rings after some seconds.",
            {"seconds": {"type": "number", "minimum": 1, "maximum": MAX_TIMER_SECONDS}, "name": _NAME},
            ["seconds"],
            actions.set_timer,
        ),
        "set_alarm": (
            f"Set an alarm at a local time. {now}",
            {"time": {"type": "string", "description": "YYYY-MM-DD HH:MM, 24 hours"}, "name": _NAME},
            ["time"],
            actions.set_alarm,
        ),
        "cancel_timer": (
            "Cancel a timer or an alarm.",
            {"number": {"type": "integer", "description": "its number from list_timers"}},
            ["number"],
            actions.cancel_timer,
        ),
        "set_volume": (
            "Set the volume of this device.",
            {"percent": {"type": "integer", "minimum": 0, "maximum": 100}},
            ["percent"],
            actions.set_volume,
        ),
        "announce": (
            "Speak a text on this device after the reply, apart from it.",
            {"text": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARACTERS}},
            ["text"],
            actions.announce,
        ),
        "get_status": (
            "Tell the time, the name, the room, the volume and the timers of this device.",
            {},
            [],
            actions.status,
        ),
    }
    for group in groups:
        for name in GROUPS[group]:
            description, properties, required, act = about[name]
            parameters = {"type": "object", "properties": properties, "additionalProperties": False}
            yield Tool(name, description, parameters | ({"required": required} if required else {}), _runner(act))


def _runner(act: Callable[[Arguments], object]) -> Callable[[Arguments], ToolResult]:
    def run(arguments: Arguments) -> ToolResult:
        yield
        return as_json(act(arguments))

    return run


class _Actions:
    """The functions of the tools. Thread-safe: each call of a tool runs in a thread of its own."""

    def __init__(self, device: DeviceContext, control: DeviceControl) -> None:
        self._device, self._control, self._timers = device, control, control.timers

    def list_timers(self, arguments: Arguments) -> object:
        return [self._describe(timer) for timer in self._timers.all]

    def set_timer(self, arguments: Arguments) -> object:
        return self._set(lambda name: self._timers.start(float(arguments["seconds"]), name, self._language), arguments)

    def set_alarm(self, arguments: Arguments) -> object:
        try:
            moments = [local_seconds(arguments["time"], fold=fold) for fold in (0, 1)]
        except (ValueError, OverflowError):
            raise ToolError("time is not YYYY-MM-DD HH:MM") from None
        if max(moments) <= time.time():
            raise ToolError(f"the time has passed; now it is {local_now():{ALARM_FORMAT}}")
        # Format the time again: the timers need ALARM_FORMAT exactly, and strptime also accepts 7:5.
        moment = f"{_parsed(arguments['time']):{ALARM_FORMAT}}"
        alarm = self._set(lambda name: self._timers.set_alarm(moment, name, self._language), arguments)
        return alarm if self._control.is_clock_set() else alarm | {"warning": CLOCK_NOT_SET}

    def cancel_timer(self, arguments: Arguments) -> object:
        if not self._timers.cancel((int(arguments["number"]),)):
            raise ToolError("there is no timer with this number; list_timers tells the numbers")
        self._control.save_timers()
        return {"cancelled": int(arguments["number"])}

    def set_volume(self, arguments: Arguments) -> object:
        percent = int(arguments["percent"])
        self._control.report(Volume(percent, SOURCE))
        return {"volume": percent}

    def announce(self, arguments: Arguments) -> object:
        utterance = Utterance(f"tool-{os.urandom(6).hex()}", validate_text(arguments["text"]), source="tool")
        self._control.report(Announce(utterance))
        return {"queued": utterance.id}

    def status(self, arguments: Arguments) -> object:
        return {
            "now": f"{local_now():%A, {ALARM_FORMAT}}",
            "name": self._device.name(),
            "room": self._device.room,
            "volume": self._control.volume(),
            "timers": self.list_timers({}),
        }

    @property
    def _language(self) -> str:
        return self._device.language

    def _set(self, start: Callable[[str], Timer], arguments: Arguments) -> dict[str, object]:
        name = " ".join(validate_piece(arguments.get("name", "")).split())
        try:
            timer = start(name)
        except TimerError as error:
            raise ToolError(_REASONS.get(str(error), str(error))) from None
        self._control.save_timers()
        return self._describe(timer)

    def _describe(self, timer: Timer) -> dict[str, object]:
        about: dict[str, object] = {"number": timer.number, "name": timer.name, "state": timer.state.value}
        if timer.is_alarm:
            return about | {"alarm": timer.alarm}
        remaining = 0 if timer.state is TimerState.RINGING else max(0, round(self._timers.remaining(timer)))
        return about | {"seconds_left": remaining}


def _parsed(text: str) -> Any:
    from datetime import datetime  # imported here because most daemons set no alarm

    return datetime.strptime(text, ALARM_FORMAT)
