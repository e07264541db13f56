"""What the tests of the examination share: a configuration from a few lines, and a virtual sound card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from vcard import VirtualCard

from agent.config import Loaded, load_with_origins


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Loaded]:
    """Reads a configuration that is written as text."""

    def read(text: str) -> Loaded:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        file.chmod(0o600)
        return load_with_origins(file, {})

    return read


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualCard:
    """A virtual card of this test's own: the only one that this process sees."""
    folder = tmp_path / "card"
    folder.mkdir()
    made = VirtualCard(folder)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    return made
