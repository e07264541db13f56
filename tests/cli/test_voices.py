from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli.voices import voices
from agent.errors import UsageError


def test_voices_prints_name_language_and_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert voices() == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["espeak:de", "de", "German"] in [line.split() for line in lines]
    assert voices(as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == len(lines)
    assert {"name", "language", "about", "aliases"} == set(found[0])


def test_without_an_engine_voices_names_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="flite nor espeak-ng"):
        voices()
