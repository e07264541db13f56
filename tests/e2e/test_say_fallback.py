"""``say --fallback``: without a usable sound card the speech becomes a file, and one short line says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.agent_fixtures import Start, service_config
from support.processes import WireLoggedServer
from support.wav import read_wav

from agent.audio.format import Format
from agent.server.tts import tone

TEXT = "Hello there, my friend!"
SPEECH = (Format(22050), tone.pcm(TEXT, 22050))
MISSING_CARDS = {
    "default": "no sound card",
    "a missing card": "no sound card 'a missing card'",
    "plughw:CARD=Missing,DEV=0": "no sound card 'plughw:CARD=Missing,DEV=0'",
}


@pytest.fixture
def no_cards(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose ALSA has no card."""
    path = tmp_path / "asound.conf"
    path.write_text('</usr/share/alsa/alsa.conf>\npcm.!default {type hw card "Missing"}\n')
    return {"ALSA_CONFIG_PATH": str(path)}


@pytest.mark.parametrize("device", MISSING_CARDS)
def test_speech_is_written_to_the_file_without_the_card(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    no_cards: dict[str, str],
    device: str,
) -> None:
    config = write_config(f"speaker: {{device: '{device}'}}\n{service_config(tone_server, 'local')}")
    process = agent("say", "--config", config, "--fallback", "speech.wav", TEXT, env=no_cards)
    assert process.end() == 0, process.errors
    assert process.error_lines() == [f"voice-agent: {MISSING_CARDS[device]}: the speech is written to speech.wav"]
    assert read_wav(tmp_path / "speech.wav") == SPEECH


def test_stdin_is_written_to_the_file_without_a_card(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    no_cards: dict[str, str],
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--fallback", "speech.wav", "-", env=no_cards, stdin=True)
    process.write(TEXT)
    process.close_stdin()
    assert process.end() == 0, process.errors
    assert read_wav(tmp_path / "speech.wav") == SPEECH


@pytest.mark.parametrize("device", ["none", "file:recording.wav"])
def test_fallback_is_not_written_if_the_speaker_works(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path, device: str
) -> None:
    config = write_config(f"speaker: {{device: '{device}'}}\n{service_config(tone_server, 'local')}")
    process = agent("say", "--config", config, "--fallback", "speech.wav", "Hi.")
    assert (process.end(), process.error_lines()) == (0, [])
    assert not (tmp_path / "speech.wav").exists()


def test_output_has_priority_over_the_fallback(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    no_cards: dict[str, str],
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--fallback", "a.wav", "--output", "b.wav", TEXT, env=no_cards)
    assert (process.end(), process.error_lines()) == (0, [])
    assert read_wav(tmp_path / "b.wav") == SPEECH and not (tmp_path / "a.wav").exists()


def test_missing_card_without_a_fallback_is_an_error(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, no_cards: dict[str, str]
) -> None:
    config = write_config(service_config(tone_server, "local"))
    process = agent("say", "--config", config, TEXT, env=no_cards)
    assert process.end() == 78
    assert "--output FILE.wav" in process.errors
