"""What may stand in the ``request`` of a Fish Audio ``start``, for the half that writes and the half that reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.protocols.events import Encoding

RATES = {
    "wav": (8000, 16000, 24000, 32000, 44100),
    "pcm": (8000, 16000, 24000, 32000, 44100),
    "mp3": (32000, 44100),
    "opus": (48000,),
}
"""The sample rates of each format in Hz. The service's own choice is the highest; it refuses all others."""

LATENCIES = ("normal", "balanced", "low")

_CONTAINERS = {"wav": "wav", "pcm": "raw", "mp3": "mp3", "opus": "opus"}
_NUMBERS = {"temperature": (0.0, 1.0), "top_p": (0.0, 1.0)}
_PROSODY = {"speed": (0.5, 2.0), "volume": (-20.0, 20.0)}
_REFERENCES_MAX = 32


@dataclass(frozen=True, slots=True)
class Reference:
    """A recording (the bytes of a sound file) of the voice that is to be imitated, and what is said in it."""

    audio: bytes = field(repr=False)
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a ``start`` asks for, with the service's own choices where it is silent. ``volume`` in dB."""

    text: str
    encoding: Encoding
    format: str
    latency: str
    temperature: float
    top_p: float
    speed: float
    volume: float
    reference_id: str | None
    references: tuple[Reference, ...]


def encoding_of(name: str, sample_rate: int | None) -> Encoding:
    """How the sound comes; ``name`` is one of ``RATES``, the rate in Hz or ``None`` for the service's own choice."""
    return Encoding(_CONTAINERS[name], sample_rate or RATES[name][-1])


def mistake_in(request: Mapping[str, object]) -> str | None:
    """What the service would refuse in ``request``, in words that fit after "expected"; ``None`` where it is right.

    Fields that are not known are let through, and so are fields that are null: clients send many of both.
    """
    if not isinstance(_value(request, "text", ""), str):
        return "text in the field text"
    name = _value(request, "format", "mp3")
    if not isinstance(name, str) or name not in RATES:
        return f"a format out of {', '.join(RATES)}"
    rate = _value(request, "sample_rate", RATES[name][-1])
    if not isinstance(rate, int) or rate not in RATES[name]:
        return f"a sample_rate for {name} out of {', '.join(map(str, RATES[name]))}"
    if _value(request, "latency", "normal") not in LATENCIES:
        return f"a latency out of {', '.join(LATENCIES)}"
    prosody = _value(request, "prosody", {})
    if not isinstance(prosody, dict):
        return "a map in the field prosody"
    for fields, ranges in ((request, _NUMBERS), (prosody, _PROSODY)):
        for field_name, (low, high) in ranges.items():
            value = _value(fields, field_name, low)
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                return f"a {field_name} of {low:g} to {high:g}"
    voices = _value(request, "reference_id", "")
    if not isinstance(voices, str) and not _is_list_of(voices, str):
        return "text in the field reference_id"
    return _mistake_in_references(_value(request, "references", []))


def read_request(request: Mapping[str, object]) -> Request:
    """``request``, in which ``mistake_in`` has found nothing."""
    name = str(_value(request, "format", "mp3"))
    rate = _value(request, "sample_rate", None)
    prosody = _value(request, "prosody", {})
    prosody = prosody if isinstance(prosody, dict) else {}
    voices = _value(request, "reference_id", None)
    if isinstance(voices, list):
        voices = voices[0] if voices else None
    references = _value(request, "references", [])
    return Request(
        text=str(_value(request, "text", "")),
        encoding=encoding_of(name, int(rate) if isinstance(rate, int) else None),
        format=name,
        latency=str(_value(request, "latency", "normal")),
        temperature=_number(request, "temperature", 0.7),
        top_p=_number(request, "top_p", 0.7),
        speed=_number(prosody, "speed", 1.0),
        volume=_number(prosody, "volume", 0.0),
        reference_id=voices if isinstance(voices, str) else None,
        references=tuple(
            Reference(entry["audio"], entry["text"]) for entry in (references if isinstance(references, list) else [])
        ),
    )


def _mistake_in_references(references: object) -> str | None:
    if not isinstance(references, list) or len(references) > _REFERENCES_MAX:
        return f"a list of at most {_REFERENCES_MAX} maps in the field references"
    for entry in references:
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            return "a map with text in each of the references"
        if not isinstance(entry.get("audio"), bytes):
            return "binary audio in each of the references"
    return None


def _value(fields: Mapping[str, object], name: str, default: object) -> object:
    """A field; ``default`` where it is missing or null."""
    value = fields.get(name)
    return default if value is None else value


def _number(fields: Mapping[str, object], name: str, default: float) -> float:
    value = fields.get(name)
    return float(value) if isinstance(value, int | float) else default


def _is_list_of(value: object, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(entry, kind) for entry in value)
