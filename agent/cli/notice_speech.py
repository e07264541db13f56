"""Speaks the sentence for an outage with a speech engine in this process, without the local server."""

from __future__ import annotations

from agent.audio.format import Format
from agent.errors import AudioError
from agent.settings.model import Config


def render(config: Config, text: str) -> tuple[Format, bytes]:
    """Return the format and the s16le audio of ``text``, spoken with the voice of ``synthesis.local``.

    Raises:
        AudioError: No engine can speak.
    """
    from agent.server.tts.engine import VoiceOptions
    from agent.server.tts.registry import create

    voice = config.synthesis.settings("local").voice
    options = VoiceOptions(22050, voice, voice) if ":" in voice else VoiceOptions(22050, language=voice)
    audio = create(config.server.speech).speak(text, options)
    pcm = b"".join(audio.chunks)
    if not pcm:
        raise AudioError("the speech engine returned no audio")
    return Format(audio.rate), pcm
