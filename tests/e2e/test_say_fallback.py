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
ALONE = "control: {socket: none}\n"  # a daemon of this machine would speak the text
NO_CARD = f"{ALONE}speaker: {{device: a missing card}}\n"
has_card = pytest.mark.skipif(Path("/proc/asound/card0").exists(), reason="this machine has a sound card")


@pytest.mark.parametrize("device", [pytest.param("default", marks=has_card), *list(MISSING_CARDS)[1:]])
def test_speech_is_written_to_the_file_without_the_card(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
    device: str,
) -> None:
    config = write_config(f"{ALONE}speaker: {{device: '{device}'}}\n{service_config(tone_server, 'local')}")
    process = agent("say", "--config", config, "--fallback", "speech.wav", TEXT)
    assert process.end() == 0, process.errors
    assert process.error_lines() == [f"voice-agent: {MISSING_CARDS[device]}: the speech is written to speech.wav"]
    assert read_wav(tmp_path / "speech.wav") == SPEECH


def test_stdin_is_written_to_the_file_without_a_card(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
) -> None:
    config = write_config(NO_CARD + service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--fallback", "speech.wav", "-", stdin=True)
    process.write(TEXT)
    process.close_stdin()
    assert process.end() == 0, process.errors
    assert read_wav(tmp_path / "speech.wav") == SPEECH


@pytest.mark.parametrize("device", ["none", "file:recording.wav"])
def test_fallback_is_not_written_if_the_speaker_works(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer, tmp_path: Path, device: str
) -> None:
    config = write_config(f"{ALONE}speaker: {{device: '{device}'}}\n{service_config(tone_server, 'local')}")
    process = agent("say", "--config", config, "--fallback", "speech.wav", "Hi.")
    assert (process.end(), process.error_lines()) == (0, [])
    assert not (tmp_path / "speech.wav").exists()


def test_output_has_priority_over_the_fallback(
    agent: Start,
    write_config: Callable[[str], str],
    tone_server: WireLoggedServer,
    tmp_path: Path,
) -> None:
    config = write_config(NO_CARD + service_config(tone_server, "local"))
    process = agent("say", "--config", config, "--fallback", "a.wav", "--output", "b.wav", TEXT)
    assert (process.end(), process.error_lines()) == (0, [])
    assert read_wav(tmp_path / "b.wav") == SPEECH and not (tmp_path / "a.wav").exists()


def test_missing_card_without_a_fallback_is_an_error(
    agent: Start, write_config: Callable[[str], str], tone_server: WireLoggedServer
) -> None:
    config = write_config(NO_CARD + service_config(tone_server, "local"))
    process = agent("say", "--config", config, TEXT)
    assert process.end() == 78
    assert "--output FILE.wav" in process.errors
