from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.local_server import LocalServerProcess


@pytest.fixture(scope="module")
def tone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    with LocalServerProcess(tmp_path_factory.mktemp("tone"), "--speech", "tone", "--recognition", "none") as server:
        yield server
