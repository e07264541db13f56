"""What may be asked at the control socket: one JSON object in a line, read into one of these, or refused in a sentence.

``{"say": TEXT, "priority": 0}``, ``{"begin": true, "priority": 0}`` with ``{"piece": TEXT}``... and
``{"complete": true}``, ``{"hush": true}``, ``{"status": true}``, ``{"volume": 0-100}``,
``{"mute": true | false}`` (the speaker), ``{"microphone": "mute" | "unmute"}``. Nothing here raises, whatever
the line holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.errors import UsageError
from agent.system.json_text import json_type, parse_json
from agent.system.text import escape, validate_piece, validate_text

HIGHEST_PRIORITY = 100


@dataclass(frozen=True, slots=True)
class SayText:
    """A whole text is to be said."""

    text: str
    priority: int = 0


@dataclass(frozen=True, slots=True)
class BeginText:
    """A text will come piece by piece."""

    priority: int = 0


@dataclass(frozen=True, slots=True)
class PieceOfText:
    """More of the text that was begun."""

    text: str


@dataclass(frozen=True, slots=True)
class CompleteText:
    """The text that was begun is whole."""


@dataclass(frozen=True, slots=True)
class HushRequest:
    """Everything that is being said or waits is dropped."""


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """How the daemon is."""


@dataclass(frozen=True, slots=True)
class SetVolume:
    """How loud it speaks, in percent."""

    percent: int


@dataclass(frozen=True, slots=True)
class SetMute:
    """Whether what is said is heard."""

    muted: bool


@dataclass(frozen=True, slots=True)
class SetMicrophone:
    """Whether the microphone is closed."""

    muted: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """No request: ``why`` is a sentence for whoever sent it."""

    why: str


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
    | Refused
)


def read_request(line: bytes) -> Request:
    """What one line asks for."""
    found = parse_json(line)
    if isinstance(found, str):
        return Refused(f"a request is one JSON object in a line, but {found}")
    words = [word for word in found if word in _READERS]
    if len(words) != 1:
        names = ", ".join(_READERS)
        return Refused(f"a request holds exactly one of {names}, not {_listed(list(found))}")
    allowed = {words[0], "priority"} if words[0] in ("say", "begin") else {words[0]}
    if strange := [name for name in found if name not in allowed]:
        return Refused(f"{words[0]} does not go with {_listed(strange)}")
    priority = found.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or abs(priority) > HIGHEST_PRIORITY:
        return Refused(f"priority is a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}")
    try:
        return _READERS[words[0]](found[words[0]], priority)
    except UsageError as error:
        return Refused(str(error))


def _listed(names: list[str]) -> str:
    return (
        ", ".join(escape(name, 40) for name in names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"the text to say is text, not {json_type(value)}")
    return value


def _percent(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 100:
        raise UsageError("volume is a whole number from 0 to 100, in percent")
    return value


def _muted(value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"mute is true or false, not {json_type(value)}")
    return value


def _microphone(value: object) -> bool:
    if value not in ("mute", "unmute"):
        raise UsageError('microphone is "mute" or "unmute"')
    return value == "mute"


def _plain(request: Request, name: str) -> Callable[[object, int], Request]:
    def read(value: object, priority: int) -> Request:
        if value is not True:
            raise UsageError(f"{name} is asked for with true, not with {json_type(value)}")
        return request

    return read


def _begin(value: object, priority: int) -> Request:
    return _plain(BeginText(priority), "begin")(value, priority)


_READERS: dict[str, Callable[[object, int], Request]] = {
    "say": lambda value, priority: SayText(validate_text(_text(value)), priority),
    "begin": _begin,
    "piece": lambda value, priority: PieceOfText(validate_piece(_text(value))),
    "complete": _plain(CompleteText(), "complete"),
    "hush": _plain(HushRequest(), "hush"),
    "status": _plain(StatusRequest(), "status"),
    "volume": lambda value, priority: SetVolume(_percent(value)),
    "mute": lambda value, priority: SetMute(_muted(value)),
    "microphone": lambda value, priority: SetMicrophone(_microphone(value)),
}
