from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import loader as loading


@pytest.fixture(autouse=True)
def system_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of the system configuration, which is empty until a test writes it."""
    place = tmp_path / "etc" / "config.yaml"
    monkeypatch.setattr(loading, "SYSTEM_CONFIG", place)
    return place
