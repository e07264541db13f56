"""Tests of what the local server offers to Wyoming clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.server.options import ServerOptions
from agent.server.tts import hibari
from agent.server.wyoming_info import describe
from agent.services.protocols.wyoming_info import Info, read_info


def offered(recognizer: str = "none", *, speech: str = "tone", model: str | None = None) -> Info:
    return read_info(describe(ServerOptions(speech=speech, model_path=model), recognizer))


def test_the_voices_of_every_engine_of_this_machine_are_offered() -> None:
    (program,) = offered(speech="auto").tts
    natural = {"hibari"} if hibari.is_installed() else set()
    assert {model.name.partition(":")[0] for model in program.models} == {"flite", "espeak"} | natural
    assert program.supports_language("de") and program.can_stream


def test_a_single_engine_offers_only_its_voices() -> None:
    (program,) = offered(speech="espeak").tts
    assert {model.name.partition(":")[0] for model in program.models} == {"espeak"}


def test_a_server_without_a_recognizer_offers_none() -> None:
    assert offered().asr == ()


@pytest.mark.parametrize(
    ("recognizer", "model", "language"),
    [("moonshine", None, "en"), ("vosk", "vosk-model-small-de-0.15", "de"), ("vosk", "house-model", "en")],
)
def test_the_recognizer_is_offered_with_its_language(
    tmp_path: Path, recognizer: str, model: str | None, language: str
) -> None:
    (program,) = offered(recognizer, model=str(tmp_path / model) if model else None).asr
    assert [(each.name, each.languages) for each in program.models] == [(recognizer, (language,))]
