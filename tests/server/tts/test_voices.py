"""The voices of the engines of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.server.tts import hibari
from agent.server.tts.engine import VoiceOptions
from agent.server.tts.registry import create
from agent.server.tts.voices import find_voice_problem, list_voices


def test_voices_of_both_engines_are_listed_once() -> None:
    voices = {voice.name: voice for voice in list_voices()}
    assert len(voices) == len(list_voices())
    assert voices["flite:slt"].language == "en"
    assert (voices["espeak:de"].language, voices["espeak:de"].about) == ("de", "German")


@pytest.mark.parametrize("name", ["flite:slt", "flite:kal", "espeak:de", "espeak:en-us", "espeak:cmn"])
def test_a_listed_voice_speaks(name: str) -> None:
    assert name in {voice.name for voice in list_voices()}
    audio = create("auto").speak("One.", VoiceOptions(22050, voice=name))
    assert sum(map(len, audio.chunks)) > 1000


@pytest.mark.parametrize(
    "voice",
    ["en", "de", "zh", "EN", "de-AT", "en_GB", "german", "flite:slt", "espeak:de", "espeak:en-us+f3", "espeak:zh"],
)
def test_voice_that_exists_has_no_problem(voice: str) -> None:
    assert find_voice_problem(voice) is None


@pytest.mark.parametrize(
    "voice",
    [
        "klingon",
        "xx",
        "slt",
        "flite:bob",
        "espeak:klingon",
        "espeak:xx",
        "espeak:en+nosuch",
        "espeak:",
        "piper:amy",
        "",
    ],
)
def test_voice_that_does_not_exist_is_named(voice: str) -> None:
    problem = find_voice_problem(voice)
    assert problem is not None and f'"{voice}"' in problem and "voice-agent voices" in problem


@pytest.mark.skipif(hibari.is_installed(), reason="the natural voice is installed")
def test_without_engines_no_voice_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_voices() == [] and find_voice_problem("klingon") is None
