"""The natural voice: the choice of its engine, its audio and what happens when it fails."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.local_server import LocalServerProcess
from support.sdk_environments import Environment
from support.server_clients import neuphonic

from agent.audio.convert import measure_level
from agent.errors import AudioError
from agent.server.settings import ServerSettings
from agent.server.tts import hibari
from agent.server.tts.auto import AutoEngine
from agent.server.tts.engine import VoiceOptions
from agent.server.tts.registry import create
from agent.server.tts.voices import find_voice_problem

RATE = 24000
LIBRARY = f"""
import numpy
class Hibari:
    def __init__(self, voice):
        assert voice == "heart"
    def __call__(self, text, speed=1.0):
        if "fail" in text:
            raise KeyError(text)
        loud = numpy.full(int({RATE} * len(text) / 100 / speed), 0.5, "float32")
        return numpy.concatenate([numpy.zeros({RATE} // 2, "float32"), loud, numpy.zeros({RATE} // 2, "float32")])
"""
BROKEN = "raise ImportError('no onnxruntime')"

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a library named hibari with this source."""

    def make(source: str) -> None:
        (tmp_path / "hibari").mkdir()
        (tmp_path / "hibari" / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(str(tmp_path))

    sys.modules.pop("hibari", None)
    yield make
    sys.modules.pop("hibari", None)


def seconds(pcm: bytes) -> float:
    return len(pcm) / 2 / RATE


def test_audio_starts_early_and_a_long_sentence_arrives_in_clauses(install: Install) -> None:
    install(LIBRARY)
    text = "In the morning, when the sun is up, we walk along the river, and in the evening we stay at home."
    audio = hibari.create().speak(text, VoiceOptions(16000))
    chunks = list(audio.chunks)
    assert audio.rate == RATE and len(chunks) == 2
    loud = [[at for at, sample in enumerate(array("h", chunk)) if sample] for chunk in chunks]
    assert all(found[0] <= 0.06 * RATE for found in loud), "little silence before each clause"
    tails = [len(chunk) // 2 - found[-1] for chunk, found in zip(chunks, loud, strict=True)]
    assert max(tails[:-1]) <= 0.2 * RATE and tails[-1] >= 0.4 * RATE
    spoken = sum(len(found) for found in loud) / RATE
    assert spoken == pytest.approx(len(text) / 100, abs=0.05)


def test_higher_speed_shortens_the_audio(install: Install) -> None:
    install(LIBRARY)
    slow, fast = (
        b"".join(hibari.create().speak("A sentence of one hundred words.", VoiceOptions(16000, speed=speed)).chunks)
        for speed in (0.8, 1.6)
    )
    assert seconds(fast) < seconds(slow)


@pytest.mark.parametrize("source", [LIBRARY, BROKEN])
def test_engine_that_fails_is_an_error_of_its_own_and_replaced_where_the_choice_is_automatic(
    source: str, install: Install
) -> None:
    install(source)
    engine = hibari.create()
    with pytest.raises(AudioError, match="natural voice"):
        engine.speak("This will fail.", VoiceOptions(16000))
    replaced = AutoEngine(engine).speak("This will fail.", VoiceOptions(16000))
    assert replaced.rate != RATE and len(b"".join(replaced.chunks)) > 16000


@pytest.mark.parametrize(
    ("text", "options", "is_natural"),
    [
        ("Good morning.", VoiceOptions(16000), True),
        ("Good morning.", VoiceOptions(16000, language="en-GB"), True),
        ("Good morning.", VoiceOptions(16000, voice="hibari:heart"), True),
        ("Good morning.", VoiceOptions(16000, voice="flite:slt"), False),
        ("Good morning.", VoiceOptions(16000, voice="espeak:en-us"), False),
        ("Guten Morgen.", VoiceOptions(16000, language="de"), False),
        ("नमस्ते", VoiceOptions(16000), False),
    ],
)
def test_natural_voice_speaks_english_that_it_can_pronounce(
    text: str, options: VoiceOptions, is_natural: bool, install: Install
) -> None:
    install(LIBRARY)
    audio = AutoEngine(hibari.create()).speak(text, options)
    assert (audio.rate == RATE) is is_natural
    assert b"".join(audio.chunks)


def test_automatic_choice_takes_the_natural_voice_where_it_is_installed(install: Install) -> None:
    install(LIBRARY)
    assert create("auto").speak("Hello.", VoiceOptions(16000)).rate == RATE
    assert find_voice_problem("hibari:heart") is None
    assert not list(ServerSettings(speech="hibari").check())


@pytest.mark.skipif(hibari.is_installed(), reason="the natural voice is installed")
def test_missing_natural_voice_is_named_with_the_command_that_installs_it() -> None:
    assert create("auto").speak("Hello.", VoiceOptions(16000)).rate != RATE
    assert [finding.key for finding in ServerSettings(speech="hibari").check()] == ["speech"]
    for engine, voice in (("hibari", ""), ("auto", "hibari:heart")):
        with pytest.raises(AudioError, match="scripts/run --natural-voice"):
            create(engine).speak("Hello.", VoiceOptions(16000, voice=voice))


@pytest.mark.slow
def test_real_natural_voice_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Environment("hibari-tts==0.2.1").packages))
    text = "Dr. Smith paid $9.99 at 3:04 PM. <STOP>"
    with LocalServerProcess(tmp_path, "--speech", "auto", "--recognition", "none") as server:
        natural = neuphonic(server, text)
        flite = neuphonic(server, text, query="?voice_id=flite:slt")
    assert natural != flite
    assert measure_level(natural)[1] > 2000
    assert 2.0 < len(natural) / 2 / 22050 < 6.0
    assert "another engine" not in server.log()
