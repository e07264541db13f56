"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import agent, scripted_server, supervision, write_config, write_wav
from support.processes import WireLoggedServer

from agent.server.tts import tone

__all__ = ["agent", "supervision", "write_config"]


@pytest.fixture(scope="module")
def tone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireLoggedServer]:
    """A server that speaks tones and recognizes ``SCRIPT``."""
    with scripted_server(tmp_path_factory.mktemp("tones")) as server:
        yield server


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Three seconds of loud audio, 16 kHz mono."""
    path = tmp_path / "speech.wav"
    write_wav(path, tone.pcm("one two three four five six seven eight nine ten eleven twelve a b c", 16000))
    return path
