"""``test-wake`` prints the words that are found, with real engines and a recording as the microphone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.agent_fixtures import write_wav
from support.human_voice import spoken
from support.vosk_model import MODEL

from agent.cli.test_wake import test_wake as run
from agent.errors import ConfigError
from agent.pipeline.settings import WakeSettings
from agent.settings.model import Config


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
