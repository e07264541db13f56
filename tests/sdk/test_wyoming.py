"""The official package wyoming against our server, and the servers of its authors against our clients."""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.local_server import LocalServerProcess
from support.satellite_daemon import satellite, seconds_at
from support.sdk_environments import Environment

from agent.server.tts import tone

TEXT = "Hello there, my friend! How are you today? I am fine, thank you."
WORDS = "turn it off"

# Making an environment takes a few seconds and, on a slow line, minutes.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def sdk() -> Environment:
    return Environment("wyoming==1.10.2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    folder = tmp_path_factory.mktemp("wyoming")
    (folder / "script").write_text(WORDS)
    options = ("--wyoming", "0", "--speech", "tone", "--recognition", "script", "--script", str(folder / "script"))
    with LocalServerProcess(folder, *options) as process:
        yield process


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 22050, 0, "NONE", ""))
        file.writeframes(tone.pcm("one two three four five", 44100))
    return path


def tones(text: str) -> dict[str, Any]:
    sound = tone.pcm(text, 22050)
    return {"sha256": hashlib.sha256(sound).hexdigest(), "length": len(sound), "rate": 22050}


def test_the_info_can_be_read_and_pings_are_answered(sdk: Environment, server: LocalServerProcess) -> None:
    assert sdk.run("wyoming_client", server.wyoming_port, "describe") == {
        "voices": [["tone", ["en"]]],
        "models": [["script", ["en"]]],
        "streams": [True],
    }


def test_each_text_of_a_connection_is_spoken(sdk: Environment, server: LocalServerProcess) -> None:
    types = ["audio-start", "audio-chunk", "audio-stop"]
    assert sdk.run("wyoming_client", server.wyoming_port, "speak", TEXT, "One.") == [
        tones(text) | {"types": types} for text in (TEXT, "One.")
    ]


def test_a_streamed_text_is_spoken_once(sdk: Environment, server: LocalServerProcess) -> None:
    types = ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
    pieces = [TEXT[:9], TEXT[9:31], TEXT[31:]]
    assert sdk.run("wyoming_client", server.wyoming_port, "stream", *pieces) == tones(TEXT) | {"types": types}


def test_speech_in_another_format_is_transcribed(sdk: Environment, server: LocalServerProcess, speech: Path) -> None:
    result = sdk.run("wyoming_client", server.wyoming_port, "transcribe", speech)
    assert result == {"text": WORDS, "chunks": WORDS}


def test_home_assistants_events_run_a_turn_an_announcement_and_a_timer(sdk: Environment, tmp_path: Path) -> None:
    with satellite(tmp_path) as port:
        result = sdk.run("wyoming_assistant", port, "turn it off", "Done. The light is off.")
    assert result == {"satellite": ["Kitchen", True], "stages": ["asr", "tts"], "has_audio": True}
    assert seconds_at(tmp_path / "spoken.wav", 10000) > 1.8  # the reply and the announcement, 1 s each


class TestServersOfTheNetwork:
    """wyoming-piper speaks a text through ``say``; wyoming-faster-whisper recognizes it through ``transcribe``."""

    def test_a_spoken_text_is_recognized(self, tmp_path: Path) -> None:
        from support.wyoming_servers import voice_agent, wyoming_piper, wyoming_whisper

        spoken = tmp_path / "spoken.wav"
        with wyoming_piper() as url:
            speech: dict[str, Any] = {"services": ["wyoming"], "wyoming": {"url": url}}
            text = "Please turn on the kitchen light. Then close the window."
            voice_agent(tmp_path, {"synthesis": speech}, "say", "--output", spoken, text)
            speech["wyoming"]["voice"] = "nobody"
            refused = voice_agent(tmp_path, {"synthesis": speech}, "say", "--output", tmp_path / "x.wav", "A.", code=69)
        assert "expected the voice 'nobody'" in refused
        with wave.open(str(spoken)) as file:
            assert (file.getframerate(), file.getnchannels()) == (22050, 1)
            assert 2 < file.getnframes() / 22050 < 10
        with wyoming_whisper() as url:
            recognizer = {"protocol": "wyoming", "url": url, "language": "en"}
            heard = voice_agent(tmp_path, {"transcription": recognizer}, "transcribe", spoken).lower()
        assert "kitchen light" in heard and "close the window" in heard


@pytest.mark.slow
class TestHomeAssistant:
    """The integration "wyoming" of Home Assistant."""

    @pytest.fixture(scope="class")
    @classmethod
    def assistant(cls) -> Environment:
        pins = Path(__file__).with_name("home_assistant.txt")
        return Environment("homeassistant==2024.3.3", "--no-deps", "--requirement", str(pins))

    def test_it_speaks_and_recognizes_with_our_server(
        self, assistant: Environment, server: LocalServerProcess, tmp_path: Path
    ) -> None:
        speech = tmp_path / "speech.wav"
        with wave.open(str(speech), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(tone.pcm("one two three four five", 16000))
        assert assistant.run("home_assistant", "services", server.wyoming_port, "One two three.", speech) == {
            "platforms": ["stt", "tts"],
            "languages": [["en"], ["en"]],
            "audio": ["wav", 0.6],
            "text": WORDS,
            "is_success": True,
        }

    def test_its_pipeline_uses_our_satellite(self, assistant: Environment, tmp_path: Path) -> None:
        with satellite(tmp_path) as port:
            result = assistant.run("home_assistant", "satellite", port, "turn it off", "Done. The light is off.")
        assert result == {"area": "Kitchen", "platforms": [], "has_audio": True}
        assert seconds_at(tmp_path / "spoken.wav", 10000) > 0.9
