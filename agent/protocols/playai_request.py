"""One PlayAI request as the server half reads it: what may stand in it, and what it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.protocols.events import Encoding, Failure, Message
from agent.protocols.excerpt import clean, excerpt, kind, parse_json

SERVICE = "playai"

FORMATS = {
    "mp3": ("mp3", "s16le"),
    "wav": ("wav", "s16le"),
    "raw": ("raw", "s16le"),
    "pcm": ("raw", "s16le"),
    "mulaw": ("raw", "mulaw"),
    "ogg": ("opus", "s16le"),
    "flac": ("flac", "s16le"),
}
"""Container and samples of each ``output_format``; the service's own choice is mp3."""

_SAMPLE_RATE = 24000
_ID_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What one request asks for. ``request_id`` is echoed as it came."""

    text: str
    voice: str
    encoding: Encoding
    request_id: str | int | None
    speed: float
    temperature: float | None
    language: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken, and its id, so that the client can tell which."""

    failure: Failure
    request_id: str | int | None = None


def encoding_of(output_format: str, sample_rate: int | None) -> Encoding:
    """How the sound of a request comes; ``output_format`` is one of ``FORMATS``, the rate 24000 Hz unless asked for."""
    container, samples = FORMATS[output_format]
    return Encoding(container, sample_rate or _SAMPLE_RATE, samples=samples)


def read_request(message: Message) -> Request | Refusal:
    """The request in ``message``, or why there is none. Fields that are not known are ignored. Never raises."""
    if isinstance(message, bytes):
        return _refuse(message, None, "a JSON text message")
    fields = parse_json(message)
    if isinstance(fields, str):
        return _refuse(message, None, f"a JSON object; {fields}")
    request_id = fields.get("request_id")
    if isinstance(request_id, bool) or not isinstance(request_id, str | int | None):
        return _refuse(message, None, f"text in the field request_id, not {kind(request_id)}")
    if len(str(request_id)) > _ID_CHARACTERS:
        return _refuse(message, None, f"a request_id of at most {_ID_CHARACTERS} characters")
    text = _text(fields.get("text"))
    voice = fields.get("voice")
    output_format = "mp3" if fields.get("output_format") is None else fields["output_format"]
    rate = fields.get("sample_rate")
    language = fields.get("language")
    if text is None:
        found = kind(fields.get("text"))
        return _refuse(message, request_id, f"text or a list of texts in the field text, not {found}")
    if not isinstance(voice, str):
        return _refuse(message, request_id, f"text in the field voice, not {kind(voice)}")
    if not isinstance(output_format, str) or output_format not in FORMATS:
        return _refuse(message, request_id, f"an output_format out of {', '.join(FORMATS)}")
    if rate is not None and (not isinstance(rate, int) or not 8000 <= rate <= 48000):
        return _refuse(message, request_id, "a sample_rate of 8000 to 48000")
    speed = _number(fields, "speed", 1.0)
    if speed is None or not 0.5 <= speed <= 2:
        return _refuse(message, request_id, "a speed of 0.5 to 2")
    # The document's temperature ends at 1, that of the service's own package at 2.
    temperature = _number(fields, "temperature", 0.0)
    if temperature is None or not 0 <= temperature <= 2:
        return _refuse(message, request_id, "a temperature of 0 to 1")
    return Request(
        text,
        voice,
        encoding_of(output_format, rate),
        request_id,
        speed,
        temperature if fields.get("temperature") is not None else None,
        language if isinstance(language, str) else None,
    )


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list) and all(isinstance(piece, str) for piece in value):
        return clean(" ".join(value))
    return None


def _number(fields: Mapping[str, object], name: str, default: float) -> float | None:
    """The number in a field, ``default`` where it is missing or null, ``None`` where it is something else."""
    value = fields.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e9:
        return None
    return float(value)


def _refuse(message: Message, request_id: str | int | None, expected: str) -> Refusal:
    return Refusal(Failure(SERVICE, excerpt(message), expected, fatal=False, status=400), request_id)
