"""Checks the request in Fish Audio's ``start``: format, voice and recordings, within the limits of the service.

Sources: ``asyncapi.yml`` and ``capabilities.mdx`` of fishaudio/docs (August 2026).
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.services.protocols.codec import Encoding
from agent.system.named_tuple import NamedTuple

RATES = {
    "wav": (8000, 16000, 24000, 32000, 44100),
    "pcm": (8000, 16000, 24000, 32000, 44100),
    "mp3": (32000, 44100),
    "opus": (48000,),
}
"""The sample rates of each format in Hz (``capabilities.mdx``). The highest is the default. Other rates are refused."""

LATENCIES = ("normal", "balanced", "low")

_CONTAINERS = {"wav": "wav", "pcm": "raw", "mp3": "mp3", "opus": "opus"}
_NUMBERS = {
    # lowest, highest and default value; speed and volume (in dB) are fields of the map prosody
    "temperature": (0.0, 1.0, 0.7),
    "top_p": (0.0, 1.0, 0.7),
    "speed": (0.5, 2.0, 1.0),
    "volume": (-20.0, 20.0, 0.0),
}
_MAX_REFERENCES = 32


class Reference(NamedTuple):
    """A recording of the voice to imitate: ``audio`` is an audio file, ``text`` its words. Immutable."""

    audio: bytes
    text: str

    def __repr__(self) -> str:
        return f"Reference({len(self.audio)} bytes, {self.text!r})"


class Request(NamedTuple):
    """The parameters of a ``start``, with the defaults of the service. Immutable. ``volume`` is in dB."""

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
    """Return the encoding of the audio.

    Args:
        name: One of the formats in ``RATES``.
        sample_rate: In Hz; ``None``: the default of the format.
    """
    return Encoding(_CONTAINERS[name], sample_rate or RATES[name][-1])


def read_request(request: Mapping[str, object]) -> Request | str:
    """Check the parameters of a ``start`` and add the defaults of the service. Never raises.

    Unknown fields and null values are accepted, because clients send many of both.

    Returns:
        The parameters, or the first error as a clause that fits after "expected".
    """
    fields = {name: value for name, value in request.items() if value is not None}
    text, name, latency = fields.get("text", ""), fields.get("format", "mp3"), fields.get("latency", "normal")
    if not isinstance(text, str):
        return "text in the field text"
    if not isinstance(name, str) or name not in RATES:
        return f"a format out of {', '.join(RATES)}"
    rate = fields.get("sample_rate", RATES[name][-1])
    if not isinstance(rate, int) or rate not in RATES[name]:
        return f"a sample_rate for {name} out of {', '.join(map(str, RATES[name]))}"
    if not isinstance(latency, str) or latency not in LATENCIES:
        return f"a latency out of {', '.join(LATENCIES)}"
    prosody = fields.get("prosody", {})
    if not isinstance(prosody, dict):
        return "a map in the field prosody"
    numbers: dict[str, float] = {}
    for number_name, (low, high, default) in _NUMBERS.items():
        value = (prosody if number_name in ("speed", "volume") else fields).get(number_name)
        number = default if value is None else value
        if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
            return f"a {number_name} of {low:g} to {high:g}"
        numbers[number_name] = float(number)
    entries = fields.get("reference_id", [])
    entries = entries if isinstance(entries, list) else [entries]
    voices = [entry for entry in entries if isinstance(entry, str)]
    if len(voices) < len(entries):
        return "text in the field reference_id"
    references = _read_references(fields.get("references", []))
    if isinstance(references, str):
        return references
    voice = voices[0] if voices else None
    return Request(text, encoding_of(name, rate), name, latency, **numbers, reference_id=voice, references=references)


def _read_references(entries: object) -> tuple[Reference, ...] | str:
    if not isinstance(entries, list) or len(entries) > _MAX_REFERENCES:
        return f"a list of at most {_MAX_REFERENCES} maps in the field references"
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            return "a map with text in each of the references"
        if not isinstance(entry.get("audio"), bytes):
            return "binary audio in each of the references"
    return tuple(Reference(entry["audio"], entry["text"]) for entry in entries)
