"""The control protocol: JSON objects in lines, split from a byte stream and parsed into requests.

Requests: ``{"say": TEXT, "priority": 0}``, ``{"begin": true, "priority": 0}`` with ``{"piece": TEXT}``... and
``{"complete": true}``, ``{"hush": true}``, ``{"status": true}``, ``{"volume": 0-100}``, ``{"mute": true | false}`` (the
speaker), ``{"microphone": "mute" | "unmute"}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agent.errors import UsageError
from agent.system.distinct import distinct
from agent.system.json_text import json_type, parse_json
from agent.system.text import escape, validate_piece, validate_text

MAX_PRIORITY = 100


@distinct
class SayText(NamedTuple):
    """Speak a complete text. Immutable."""

    text: str
    priority: int = 0


@distinct
class BeginText(NamedTuple):
    """Begin a text that follows in pieces. Immutable."""

    priority: int = 0


@distinct
class PieceOfText(NamedTuple):
    """Another piece of the text that was begun. Immutable."""

    text: str


@distinct
class CompleteText(NamedTuple):
    """The text that was begun is complete. Immutable."""


@distinct
class HushRequest(NamedTuple):
    """Cancel the current and all queued utterances. Immutable."""


@distinct
class StatusRequest(NamedTuple):
    """Report the status. Immutable."""


@distinct
class SetVolume(NamedTuple):
    """Set the playback volume, in percent. Immutable."""

    percent: int


@distinct
class SetMute(NamedTuple):
    """Mute or unmute the speaker. Immutable."""

    muted: bool


@distinct
class SetMicrophone(NamedTuple):
    """Close or open the microphone. Immutable."""

    muted: bool


@distinct
class InvalidRequest(NamedTuple):
    """A line that is not a request, with the reason as a sentence for the client. Immutable."""

    reason: str


Request = (
    SayText
    | BeginText
    | PieceOfText
    | CompleteText
    | HushRequest
    | StatusRequest
    | SetVolume
    | SetMute
    | SetMicrophone
    | InvalidRequest
)


def parse_request(line: bytes) -> Request:
    """Parse one line. Never raises."""
    request = parse_json(line)
    if isinstance(request, str):
        return InvalidRequest(f"a request is one JSON object in a line, but {request}")
    keys = [key for key in request if key in _PARSERS]
    if len(keys) != 1:
        return InvalidRequest(f"a request holds exactly one of {', '.join(_PARSERS)}, not {_listed(list(request))}")
    allowed = {keys[0], "priority"} if keys[0] in ("say", "begin") else {keys[0]}
    if unknown := [key for key in request if key not in allowed]:
        return InvalidRequest(f"{keys[0]} does not go with {_listed(unknown)}")
    priority = request.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) > MAX_PRIORITY:
        return InvalidRequest(f"priority is a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    try:
        return _PARSERS[keys[0]](request[keys[0]], priority)
    except UsageError as error:
        return InvalidRequest(str(error))


def _listed(keys: list[str]) -> str:
    shown = ", ".join(escape(key, 40) for key in keys[:5])
    return shown + (", ..." if len(keys) > 5 else "") if keys else "nothing"


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"the text to say is text, not {json_type(value)}")
    return value


def _percent(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        raise UsageError("volume is a whole number from 0 to 100, in percent")
    return value


def _mute(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"mute is true or false, not {json_type(value)}")
    return value


def _microphone(value: object) -> bool:
    if value not in ("mute", "unmute"):
        raise UsageError('microphone is "mute" or "unmute"')
    return value == "mute"


def _flag(request: Request, name: str) -> Callable[[object, int], Request]:
    """Return a parser that accepts only ``true``."""

    def parse(value: object, priority: int) -> Request:
        if value is not True:
            raise UsageError(f"{name} is requested with true, not with {json_type(value)}")
        return request

    return parse


_PARSERS: dict[str, Callable[[object, int], Request]] = {
    "say": lambda value, priority: SayText(validate_text(_string(value)), priority),
    "begin": lambda value, priority: _flag(BeginText(priority), "begin")(value, priority),
    "piece": lambda value, priority: PieceOfText(validate_piece(_string(value))),
    "complete": _flag(CompleteText(), "complete"),
    "hush": _flag(HushRequest(), "hush"),
    "status": _flag(StatusRequest(), "status"),
    "volume": lambda value, priority: SetVolume(_percent(value)),
    "mute": lambda value, priority: SetMute(_mute(value)),
    "microphone": lambda value, priority: SetMicrophone(_microphone(value)),
}
