from __future__ import annotations

import pytest

from agent.daemon.reply_builder import make_responder, reply_options
from agent.daemon.stages import Pipeline
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.responders.by_word import WordResponder
from agent.pipeline.responders.settings import HomeAssistantSettings, IntentSettings
from agent.settings.model import Config


@pytest.mark.parametrize(
    ("kind", "start_early", "text", "expected"),
    [
        ("openai", "auto", "turn on the light", True),
        ("openai", "auto", "turn on the", False),
        ("openai", "never", "turn on the light", False),
        ("rules", "auto", "what time is it", True),
        ("echo", "auto", "what time is it", True),
        ("webhook", "auto", "what time is it", False),
        ("command", "auto", "what time is it", False),
        ("command", "always", "what time is it", True),
        ("webhook", "always", "and then I", False),
    ],
)
def test_reply_starts_early_only_where_a_discarded_one_has_no_effect(
    kind: str, start_early: str, text: str, expected: bool
) -> None:
    config = Config()
    config = config._replace(responder=config.responder._replace(kind=kind, start_early=start_early))
    assert reply_options(config).may_prepare(text) is expected


def test_reply_does_not_start_early_if_home_assistant_may_act() -> None:
    config = Config()
    home = HomeAssistantSettings("http://127.0.0.1:1")
    config = config._replace(responder=config.responder._replace(kind="echo", intents=IntentSettings("en", home)))
    may_prepare = reply_options(config).may_prepare
    assert not may_prepare("turn on the kitchen light") and may_prepare("what is the meaning of life")


def test_words_with_the_same_responder_share_it() -> None:
    config = Config()
    words = ("alexa: openai", "okay_nabu: rules")
    config = config._replace(
        wake=config.wake._replace(engine="micro", words=words), responder=config.responder._replace(kind="openai")
    )
    responder = make_responder(config, Pipeline(RingBuffer(1000)))
    assert isinstance(responder, WordResponder)
    assert responder._by_word["alexa"] is responder._default is not responder._by_word["okay_nabu"]
    assert len(responder._all) == 2
