from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.local_server import LocalServerProcess
from support.sdk_environments import KEY


@pytest.fixture(scope="module")
def keyed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    """A server that speaks tones and requires a key."""
    folder = tmp_path_factory.mktemp("sdk")
    (folder / "key").write_text(KEY)
    with LocalServerProcess(
        folder, "--speech", "tone", "--recognition", "none", "--api-key-file", str(folder / "key")
    ) as server:
        yield server
