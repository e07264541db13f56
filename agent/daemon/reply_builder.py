"""Builds the responder, and the functions that decide which texts it handles and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.daemon.stages import Pipeline
from agent.settings.model import Config

if TYPE_CHECKING:
    from agent.pipeline.responders.responder import DeviceContext, Responder
    from agent.pipeline.responders.worker import ReplyOptions


def make_responder(config: Config, pipeline: Pipeline) -> Responder:
    """Build the responder, with access to the wake word and the timers of the pipeline.

    Raises:
        ConfigError: A setting that a responder needs is missing.
    """
    from agent.pipeline.responders import registry

    device = make_device_context(config, pipeline)
    responder = registry.make_responder(config.responder, device)
    if by_word := config.word_responders():
        from agent.pipeline.responders.by_word import WordResponder

        made = {config.responder.kind: responder}  # one of each kind: two would write the same history file
        for each in by_word.values():
            if each.kind not in made:
                made[each.kind] = registry.make_responder(each, device)
        targets = {word: made[each.kind] for word, each in by_word.items()}
        responder = WordResponder(responder, targets, lambda: pipeline.wake_word)
    if config.responder.intents.is_on and pipeline.device_control is not None:
        from agent.pipeline.responders.intents.responder import IntentsResponder

        home, settings = None, config.responder.intents.home_assistant
        if settings.url:
            from agent.pipeline.responders.intents.home_assistant import HomeAssistant

            plaintext = config.responder.allow_plaintext
            home = HomeAssistant(settings, intent_language(config), allow_plaintext=plaintext)
        responder = IntentsResponder(responder, pipeline.device_control, intent_language(config), home)
    return responder


def make_device_context(config: Config, pipeline: Pipeline) -> DeviceContext:
    """Return the information about the device that the responders may use."""
    from agent.pipeline.responders.responder import DeviceContext

    room = config.mqtt.room or config.satellite.area
    return DeviceContext(
        pipeline.device_control,
        lambda: config.mqtt.topics.name,
        room,
        intent_language(config),
        pipeline.state_directory,
    )


def needs_control(config: Config) -> bool:
    """Return whether spoken requests or a language model need the timers and the volume."""
    from agent.pipeline.responders import registry

    responders = (config.responder, *config.word_responders().values())
    return config.responder.intents.is_on or any(map(registry.needs_control, responders))


def reply_options(config: Config) -> ReplyOptions:
    """Return the options for speaking the replies."""
    from agent.pipeline.responders.worker import ReplyOptions

    responder = config.responder
    return ReplyOptions(
        config.synthesis.text,
        responder.empty_reply,
        responder.failure_reply,
        may_prepare(config),
        config.conversation.filler_seconds,
    )


def may_prepare(config: Config) -> Callable[[str], bool]:
    """Return a function that tells whether the reply to a text may be requested before the user has finished."""
    from agent.pipeline.responders.registry import starts_early

    if not starts_early(config.responder) or config.word_responders():
        return lambda text: False
    matches_intent, acts_at_home = intent_matcher(config), _home_matcher(config)

    def is_no_fragment(text: str) -> bool:
        from agent.pipeline.capture.turn_end import Completeness, judge  # not before the first question

        return judge(text) is not Completeness.INCOMPLETE and not matches_intent(text) and not acts_at_home(text)

    return is_no_fragment


def intent_matcher(config: Config) -> Callable[[str], bool]:
    """Return a thread-safe function that tells whether a text is a request about the device itself."""
    if not config.responder.intents.is_on:
        return lambda text: False
    from agent.pipeline.responders.intents.recognizer import recognizer_for

    return recognizer_for(intent_language(config)).matches


def _home_matcher(config: Config) -> Callable[[str], bool]:
    """Return a thread-safe function that tells whether Home Assistant receives a text and may act on it."""
    intents = config.responder.intents
    if not (intents.is_on and intents.home_assistant.url):
        return lambda text: False
    from agent.pipeline.responders.intents.device_sentences import device_sentences

    return device_sentences(intent_language(config)).matches


def intent_language(config: Config) -> str:
    """Return the language of requests about the device itself."""
    language = config.responder.intents.language
    return config.synthesis.language if language in ("auto", "none") else language
