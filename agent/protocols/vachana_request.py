"""The sound that a Vachana request asks for: its ``audio_config``, checked, and what it means for the decoder."""

from __future__ import annotations

from collections.abc import Mapping

from agent.protocols.events import Encoding
from agent.protocols.excerpt import excerpt, kind

AUDIO_CONFIG: Mapping[str, int | str] = {
    "sample_rate": 44100,
    "num_channels": 1,
    "sample_width": 2,
    "encoding": "linear_pcm",
    "container": "wav",
}
"""The example of the service's page, and what holds for every field a request leaves out."""

_CHOICES: Mapping[str, tuple[int | str, ...]] = {
    "sample_rate": (8000, 16000, 22050, 24000, 44100, 48000),
    "num_channels": (1, 2),
    "sample_width": (1, 2),
    "encoding": ("linear_pcm", "oggopus", "pcm_mulaw", "pcm_alaw"),
    "container": ("raw", "wav", "mp3", "ogg", "mulaw", "alaw"),
}
_SOUND: Mapping[tuple[str, str], tuple[str, str]] = {
    # (encoding, container): (container, samples) of the decoder
    ("linear_pcm", "raw"): ("raw", "s16le"),
    ("linear_pcm", "wav"): ("wav", "s16le"),
    ("linear_pcm", "mp3"): ("mp3", "s16le"),
    ("linear_pcm", "ogg"): ("opus", "s16le"),
    ("linear_pcm", "mulaw"): ("raw", "mulaw"),
    ("linear_pcm", "alaw"): ("raw", "alaw"),
    ("oggopus", "raw"): ("opus", "s16le"),
    ("oggopus", "ogg"): ("opus", "s16le"),
    ("pcm_mulaw", "raw"): ("raw", "mulaw"),
    ("pcm_mulaw", "wav"): ("wav", "mulaw"),
    ("pcm_mulaw", "mulaw"): ("raw", "mulaw"),
    ("pcm_alaw", "raw"): ("raw", "alaw"),
    ("pcm_alaw", "wav"): ("wav", "alaw"),
    ("pcm_alaw", "alaw"): ("raw", "alaw"),
}


def read_audio_config(given: object) -> dict[str, int | str] | str:
    """The five fields in the order of the page, from a mapping or from an object with such attributes, the missing
    ones filled in; or what should be there instead, in words. Never raises. Fields it does not know are left out.
    """
    if given is None:
        return dict(AUDIO_CONFIG)
    if isinstance(given, str | bytes | int | float | list | tuple):
        return f"audio_config to be an object, not {kind(given)}"
    found: dict[str, int | str] = {}
    for name, default in AUDIO_CONFIG.items():
        value = given.get(name, default) if isinstance(given, Mapping) else getattr(given, name, default)
        if isinstance(value, bool) or not isinstance(value, int | str) or value not in _CHOICES[name]:
            shown = excerpt(value) if isinstance(value, str) else excerpt(str(value)[:40])
            return f"audio_config.{name} to be one of {', '.join(map(str, _CHOICES[name]))}, not {shown}"
        found[name] = value
    pair = (str(found["encoding"]), str(found["container"]))
    if pair not in _SOUND:
        return f"an audio_config whose container holds its encoding, not {pair[0]} in {pair[1]}"
    samples = _SOUND[pair][1]
    if samples == "s16le" and found["sample_width"] != 2:
        return "audio_config.sample_width to be 2 for samples that are not mu-law or A-law"
    if samples != "s16le" and found["sample_rate"] != 8000:
        return f"audio_config.sample_rate to be 8000 for {samples}, not {found['sample_rate']}"
    return found


def encoding_of(audio_config: Mapping[str, int | str]) -> Encoding:
    """What the bytes of the reply to such a request are."""
    container, samples = _SOUND[(str(audio_config["encoding"]), str(audio_config["container"]))]
    return Encoding(container, int(audio_config["sample_rate"]), int(audio_config["num_channels"]), samples)
