"""Describes the voices and the recognizer of the local server to Wyoming clients, as an ``info`` event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent import __version__
from agent.server.options import ServerOptions
from agent.server.tts.voices import Voice, list_voices
from agent.services.protocols.wyoming_server import encode_info

_ATTRIBUTION = {"name": "voice-agent", "url": "https://github.com/voice-agent/voice-agent"}
_ENGLISH = ("moonshine", "script")


def describe(options: ServerOptions, recognizer: str) -> bytes:
    """Return the ``info`` event of this server. Runs flite and espeak-ng to list their voices.

    Args:
        options: Options; the speech engine and the directory of the vosk model are used.
        recognizer: Name of the recognition engine; ``none`` if there is none.
    """
    voices = [
        _artifact(voice.name, voice.about, languages=[voice.language], speakers=None)
        for voice in _voices(options.speech)
    ]
    tts = [_artifact("voice-agent", "local voices", voices=voices, supports_synthesize_streaming=True)]
    asr: list[dict[str, Any]] = []
    if recognizer != "none":
        models = [_artifact(recognizer, f"the recognizer {recognizer}", languages=_languages(recognizer, options))]
        asr.append(_artifact("voice-agent", "local recognizer", models=models, supports_transcript_streaming=True))
    return encode_info(tts=tts if voices else [], asr=asr)


def _voices(engine: str) -> list[Voice]:
    if engine == "tone":
        return [Voice("tone", "en", "one tone for each word")]
    voices = list_voices()
    return voices if engine == "auto" else [voice for voice in voices if voice.name.startswith(f"{engine}:")]


def _languages(recognizer: str, options: ServerOptions) -> list[str]:
    if recognizer in _ENGLISH or options.model_path is None:
        return ["en"]
    # The models of vosk have names such as vosk-model-small-de-0.15.
    parts = Path(options.model_path).resolve().name.lower().split("-")
    return [next((part for part in parts if len(part) == 2 and part.isalpha()), "en")]


def _artifact(name: str, about: str, **fields: object) -> dict[str, Any]:
    return {
        "name": name,
        "description": about,
        "attribution": _ATTRIBUTION,
        "installed": True,
        "version": __version__,
        **fields,
    }
