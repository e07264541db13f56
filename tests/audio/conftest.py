"""The virtual sound card, for every test that plays or records."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))

from vcard import VirtualCard  # noqa: E402


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VirtualCard:
    """A virtual card of this test's own: the only one that this process sees."""
    folder = tmp_path / "card"
    folder.mkdir()
    made = VirtualCard(folder)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    return made
