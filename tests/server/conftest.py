from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.local_server import Running

SCRIPT = "Good morning everybody.\nHow are you today?\n\nThe second session.\n"


@pytest.fixture(scope="module")
def tone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("tone"), "--speech", "tone", "--recognition", "none") as server:
        yield server
