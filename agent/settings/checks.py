"""Checks the rules of all sections: between keys, and between a key and this machine."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.errors import Finding, suggestion
from agent.config.rules import plaintext_warnings, url_findings
from agent.frontends.satellite.settings import VOICE_SERVICE
from agent.pipeline.responders.registry import RESPONDERS
from agent.settings.model import Config

CHECKED_SECTIONS = (
    "microphone",
    "speaker",
    "wake",
    "echo",
    "conversation",
    "transcription",
    "synthesis",
    "responder",
    "server",
    "control",
    "web",
    "mqtt",
    "satellite",
    "hooks",
    "button",
    "led",
)
URL_SECTIONS = ("transcription", "synthesis", "responder", "wake", "mqtt")


def findings(config: Config) -> Iterator[Finding]:
    """Yield the errors of a configuration whose single values are valid."""
    for name in CHECKED_SECTIONS:
        for finding in getattr(config, name).check():
            yield finding.below(name)
    for word, responder in config.word_responders().items():
        if responder.kind not in RESPONDERS:
            what = f"{responder.kind!r} is no responder for {word}, expected one of {', '.join(RESPONDERS)}"
            yield Finding("wake.words", what, suggestion(responder.kind, RESPONDERS))
            continue
        for finding in responder.check_used():
            yield Finding(f"responder.{finding.key}", finding.what, finding.suggestion, "wake.words")
        for finding in url_findings(responder.urls(), "responder", allow_plaintext=responder.allow_plaintext):
            yield finding.below("responder")
    talk, has_canceller = config.conversation, config.echo.canceller != "none"
    if talk.listen_while_speaking and has_canceller:
        what = "there is an echo canceller too, expected false and conversation.interrupt: speech"
        yield Finding("conversation.listen_while_speaking", what, None, "echo.canceller")
    if talk.interrupt != "never" and not has_canceller:
        what = f"{talk.interrupt} needs an echo canceller, expected echo.canceller: speex"
        yield Finding("conversation.interrupt", f"{what}, or never", "never", "echo.canceller")
    for name in URL_SECTIONS:
        section = getattr(config, name)
        for finding in url_findings(section.urls(), name, allow_plaintext=section.allow_plaintext):
            yield finding.below(name)
    if config.button.gpio is not None and config.button.gpio in config.led.gpio:
        yield Finding("led.gpio", f"pin {config.button.gpio} is that of button.gpio, expected another one")
    service = next(iter(config.synthesis.services), "")
    for index, voice in enumerate(config.mqtt.voices if config.mqtt.is_on and service else ()):
        for finding in config.synthesis.with_voice(service, voice).check():
            if finding.key == f"{service}.{config.synthesis.voice_key(service)}":
                yield Finding(f"mqtt.voices[{index}]", finding.what, None, "synthesis.services")
    if config.satellite.is_on and VOICE_SERVICE not in config.synthesis.services:
        what = "the service wyoming plays the audio of Home Assistant, expected it in this list"
        yield Finding("synthesis.services", what, None, "satellite.port")


def warnings(config: Config) -> Iterator[Finding]:
    """Yield the warnings, which are reported at each start."""
    for name in URL_SECTIONS:
        section = getattr(config, name)
        for finding in plaintext_warnings(section.urls()) if section.allow_plaintext else ():
            yield finding.below(name)
    for finding in config.server.warnings():
        yield finding.below("server")
    for finding in config.web.warnings():
        yield finding.below("web")
    for finding in config.hooks.warnings():
        yield finding.below("hooks")
    for finding in config.led.warnings():
        yield finding.below("led")
    for finding in config.other_audio.warnings():
        yield finding.below("other_audio")
