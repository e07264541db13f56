from __future__ import annotations

import pytest
from support.human_voice import spoken
from support.vosk_model import MODEL

from agent.audio.format import SPEECH
from agent.daemon.capture_builder import stop_spotter_maker
from agent.pipeline.capture.vosk_words import VoskSpotter
from agent.settings.model import Config


def configured(interrupt: str = "word", model_path: str = str(MODEL), **wake: object) -> Config:
    config = Config()
    wake_settings = config.wake._replace(model_path=model_path, **wake)  # type: ignore[arg-type]
    return config._replace(wake=wake_settings, conversation=config.conversation._replace(interrupt=interrupt))


@pytest.mark.parametrize(
    "config", [configured("never"), configured(model_path=""), configured(stop=())], ids=["deaf", "no model", "no word"]
)
def test_no_stop_words_are_spotted_where_none_can_be_heard(config: Config) -> None:
    assert stop_spotter_maker(config) is None


def test_stop_words_are_those_that_the_model_knows() -> None:
    load = stop_spotter_maker(configured(stop=("basta", "xylophonist qwx", "be quiet")))
    assert load is not None
    spotter = load()
    assert isinstance(spotter, VoskSpotter) and spotter.wait(60.0)
    audio = bytes(SPEECH.bytes_of(1.0)) + spoken("be quiet") + bytes(SPEECH.bytes_of(1.0))
    size = SPEECH.bytes_of(0.1)
    spots = [spotter.find(audio[start : start + size]) for start in range(0, len(audio), size)]
    assert [spot.word for spot in spots if spot is not None and spot.is_found] == ["be quiet"]
