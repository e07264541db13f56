from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.session import Session
from support.sound_server import SoundServer


@pytest.fixture
def session() -> Iterator[Session]:
    each = Session()
    yield each
    each.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SoundServer]:
    each = SoundServer(tmp_path / "pulse")
    yield each
    each.close()
