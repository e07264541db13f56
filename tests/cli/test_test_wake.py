"""``test-wake`` prints the words that are found, with real engines and a recording as the microphone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.agent_fixtures import write_wav
from support.human_voice import spoken
from support.vosk_model import MODEL

from agent.cli.test_wake import test_wake as run
from agent.errors import AudioError, ConfigError
from agent.pipeline.capture.spotter import Spot
from agent.pipeline.capture.vosk_words import VoskSpotter
from agent.pipeline.settings import WakeSettings
from agent.settings.model import Config
from agent.system.threads import Deadline


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (WakeSettings(), "alexa"),
        (WakeSettings(engine="vosk", words=("hey computer",), model_path=str(MODEL)), "hey computer"),
    ],
)
def test_found_word_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: WakeSettings, text: str
) -> None:
    path = tmp_path / "microphone.wav"
    write_wav(path, bytes(16000) + spoken(text) + bytes(32000))
    config = Config()
    config = config._replace(wake=settings, microphone=config.microphone._replace(device=f"file:{path}"))
    assert run(config, seconds=2.0, as_json=True) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["word"], line["found"]) for line in lines if line["found"]] == [(text, True)]


def test_unknown_word_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"wake\.words: computer is no wake word"):
        run(Config()._replace(wake=WakeSettings(words=("computer",))))


class FakeVosk(VoskSpotter):
    """A spotter whose model never loads, or whose decoder fails."""

    def __init__(self, *, is_loaded: bool) -> None:
        self._is_loaded = is_loaded
        self.is_closed = False

    def wait(self, seconds: float) -> bool:
        return self._is_loaded

    def find(self, frame: bytes) -> Spot | None:
        if self._is_loaded:
            raise AudioError("the decoder failed")
        return None

    def close(self, deadline: Deadline) -> None:
        self.is_closed = True


@pytest.mark.parametrize(("is_loaded", "why"), [(False, "did not load"), (True, "the decoder failed")])
def test_spotter_is_closed_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_loaded: bool, why: str
) -> None:
    path = tmp_path / "microphone.wav"
    write_wav(path, bytes(16000))
    config = Config()
    config = config._replace(microphone=config.microphone._replace(device=f"file:{path}"))
    spotter = FakeVosk(is_loaded=is_loaded)
    monkeypatch.setattr("agent.cli.test_wake.make_spotter", lambda *arguments: spotter)
    with pytest.raises(AudioError, match=why):
        run(config, seconds=0.3)
    assert spotter.is_closed
