"""The fixture of the doctor's tests: a configuration from its text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.settings.loader import Loaded, load_with_origins


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Loaded]:
    """Return a function that loads a configuration from its text."""

    def read(text: str) -> Loaded:
        file = tmp_path / "config.yaml"
        file.write_text(text)
        file.chmod(0o600)
        return load_with_origins(file, {})

    return read
