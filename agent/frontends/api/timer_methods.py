"""The API methods that list, set and cancel timers; handlers of the table in ``methods``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from agent.frontends.api.caller import Caller
from agent.frontends.api.errors import TOO_MUCH, UNAVAILABLE, UNKNOWN_TIMER, failure
from agent.frontends.api.hub import Hub
from agent.frontends.api.json_rpc import RpcError
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.timers import MAX_TIMERS, Timer, TimerError, TimerState
from agent.system.text import escape, validate_piece

Params = Mapping[str, Any]
Respond = Callable[[dict[str, object] | RpcError], None]


def list_timers(hub: Hub, caller: Caller, params: Params, respond: Respond) -> dict[str, object]:
    """Return all timers and alarms, the next one first."""
    control = _control(hub)
    return {"timers": [_as_json(control, timer, caller) for timer in control.timers.all]}


def set_timer(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    """Start a timer. The response follows when the timer is on the disk, or when it cannot be stored."""
    control = _control(hub)
    name = _name(params.get("name", ""))
    try:
        timer = control.timers.start(params["seconds"], name, control.language())
    except TimerError as error:  # the only possible reason: the length has been checked
        raise failure(TOO_MUCH, f"there are {MAX_TIMERS} timers already: cancel one first") from error
    control.save_timers_then(
        lambda durable: respond({"timer": _as_json(control, timer, caller), "durable": durable}),
    )


def cancel_timer(hub: Hub, caller: Caller, params: Params, respond: Respond) -> None:
    """Cancel the timer with this number, or else the timer with this name.

    The response follows when the change is on the disk, or when it cannot be stored.
    """
    control, word = _control(hub), _name(params["timer"])
    timers = control.timers.all
    numbers = [timer.number for timer in timers if str(timer.number) == word]
    if word and not numbers:  # an empty word would match the timers without a name
        numbers = [timer.number for timer in timers if timer.name.casefold() == word.casefold()]
    if len(numbers) > 1:
        shown = ", ".join(map(str, sorted(numbers)))
        raise failure(UNKNOWN_TIMER, f"{len(numbers)} timers have this name: use the number, one of {shown}")
    if not numbers or not control.timers.cancel((numbers[0],)):
        raise failure(UNKNOWN_TIMER, f"no timer has the number or the name {escape(word, 100)}")
    control.save_timers_then(lambda durable: respond({"number": numbers[0], "durable": durable}))


def _name(text: str) -> str:
    """Return a name in the form that is stored: without control characters, with single spaces."""
    return " ".join(validate_piece(text).split())


def _control(hub: Hub) -> DeviceControl:
    if (control := hub.device_control()) is None:
        remedy = "set responder.intents, and conversation.mode to assistant"
        raise failure(UNAVAILABLE, f"the daemon has no timers: {remedy}")
    return control


def _as_json(control: DeviceControl, timer: Timer, caller: Caller) -> dict[str, object]:
    remaining = control.timers.remaining(timer)
    return {
        "number": timer.number,
        "name": timer.name if caller.may_read_texts else "",
        "is_alarm": timer.is_alarm,
        "state": timer.state.value,
        "seconds": timer.seconds,
        "remaining_seconds": round(max(0.0, remaining), 1),
        "ends_at": None if timer.state is TimerState.PAUSED else round(time.time() + remaining, 1),
    }
