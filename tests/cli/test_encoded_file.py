"""The writer of compressed sound files."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.audio.format import Format
from agent.cli.encoded_file import EncodedFile
from agent.server.encoders.encoder import EncodedStream


@pytest.mark.parametrize("container", ["mp3", "opus"])
def test_discard_releases_the_encoder(tmp_path: Path, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries of both formats allocate memory of their own."""
    released: list[EncodedStream] = []
    monkeypatch.setattr(EncodedStream, "close", lambda stream: released.append(stream))
    file = EncodedFile(str(tmp_path / "speech"), container, Format(48000))
    file.write(bytes(9600))
    file.discard()
    assert len(released) == 1 and list(tmp_path.iterdir()) == []
