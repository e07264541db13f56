from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import loader as loading


@pytest.fixture(autouse=True)
def no_configuration_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the configuration of the system is looked for: a place that is empty until a test fills it."""
    place = tmp_path / "etc" / "config.yaml"
    monkeypatch.setattr(loading, "SYSTEM_CONFIG", place)
    return place
