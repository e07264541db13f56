"""Manages the voice and the wake word that a user chooses at run time."""

from __future__ import annotations

from collections.abc import Callable

from agent.daemon.stages import Pipeline
from agent.pipeline.status import StatusTracker
from agent.settings.model import Config

VOICE, WAKE_WORD = "voice", "wake_word"
"""The settings whose value a user can choose."""
ALL_WORDS = "all"


class Choices:
    """The chosen values. Not thread-safe; owned by the main thread.

    Args:
        config: The configuration, which lists the possible values.
        stored: Returns the value that was chosen for a setting before the restart; empty without a choice.
    """

    def __init__(self, config: Config, stored: Callable[[str], str]) -> None:
        self._chosen = {
            setting: value if (value := stored(setting)) in values else ""
            for setting, values in options(config).items()
        }

    def choose(self, setting: str, value: str) -> None:
        """Set the chosen value of a setting. Takes effect with ``configure`` or ``apply``."""
        self._chosen[setting] = value

    def configure(self, config: Config) -> Config:
        """Return the configuration with the chosen voice, if the configuration offers that voice."""
        voice = self._chosen.get(VOICE)
        return with_voice(config, voice) if voice and voice in _voices(config) else config

    def apply(self, config: Config, status: StatusTracker, pipeline: Pipeline) -> None:
        """Apply the chosen wake word to the endpointer, and pass the values in effect to the status."""
        if VOICE in self._chosen:
            status.voice = voice_of(config) or None
        if WAKE_WORD in self._chosen and pipeline.endpointer is not None:
            word = self._chosen[WAKE_WORD] or ALL_WORDS
            status.wake_word = word
            pipeline.endpointer.choose_word(None if word == ALL_WORDS else word)


def options(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the possible values of each setting that has more than one."""
    found = {VOICE: _voices(config), WAKE_WORD: _wake_words(config)}
    return {setting: values for setting, values in found.items() if len(values) > 1}


def with_voice(config: Config, voice: str) -> Config:
    """Return the configuration with another voice of the first service."""
    name = config.synthesis.services[0]
    return config._replace(synthesis=config.synthesis.with_voice(name, voice))


def voice_of(config: Config) -> str:
    """Return the voice of the first service; empty for its default."""
    return config.synthesis.voice(config.synthesis.services[0])


def _voices(config: Config) -> tuple[str, ...]:
    if not config.mqtt.voices or config.conversation.mode == "captions":
        return ()
    return tuple(dict.fromkeys(each for each in (voice_of(config), *config.mqtt.voices) if each))


def _wake_words(config: Config) -> tuple[str, ...]:
    settings = config.wake
    if settings.engine == "none" or config.conversation.mode != "assistant":
        return ()
    words = settings.spoken_words
    if settings.engine == "micro" and settings.own:
        from agent.pipeline.capture.wake_word import find_models

        words = tuple(model.word for model in find_models(words, settings.own)[0])
    return (ALL_WORDS, *words) if len(words) > 1 else ()
