from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.cli.config import check, schema, show


def test_check_reports_a_valid_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("transcription: {url: 'ws://stt.example.com', allow_plaintext: true}\n")
    assert check(str(path), {}) == 0
    written = capsys.readouterr()
    assert written.out == f"{path}: no mistake\n"
    assert written.err.startswith(f"warning: {path}:1: transcription.url: ")
    assert check(str(path), {}, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["path"], len(found["warnings"])) == (True, str(path), 1)


def test_check_reports_every_mistake_and_exits_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("speaker:\n  volum: 3\n  device: 4\n")
    assert check(str(path), {}) == 78
    written = capsys.readouterr()
    assert written.out == ""
    assert [line.split(": ")[0] for line in written.err.splitlines()] == [f"{path}:2", f"{path}:3", "2 mistakes"]
    assert check(str(path), {}, as_json=True) == 78
    found = json.loads(capsys.readouterr().out)
    assert found["valid"] is False
    assert found["mistakes"][0]["where"] == f"{path}:2"
    assert found["mistakes"][0]["nearest"] == "volume"


def test_check_reports_the_unset_variable_of_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("speaker: {volume: 3}\ntranscription: {api_key: {env: NO_SUCH_KEY}}\n")
    assert check(str(path), {}) == 78
    first, _ = capsys.readouterr().err.splitlines()
    assert first.startswith(f"{path}:2: transcription.api_key: ") and "NO_SUCH_KEY" in first
    assert check(str(path), {"NO_SUCH_KEY": "k"}) == 0


def test_show_prints_the_values_or_exits_with_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("speaker: {volume: 3}\n")
    assert show(str(path), {}) == 0
    assert "  volume: 3 " in capsys.readouterr().out
    assert show(str(path), {}, as_json=True) == 0
    assert {"key": "speaker.volume", "value": 3, "origin": f"{path}:1"} in json.loads(capsys.readouterr().out)
    assert show(str(tmp_path / "missing.yaml"), {}) == 78
    written = capsys.readouterr()
    assert written.out == ""
    assert "no such file" in written.err


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert schema() == 0
    assert json.loads(capsys.readouterr().out)["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("synthesis: {local: {voice: klingon}}\n", 78),
        ("synthesis: {local: {voice: 'espeak:klingon'}}\n", 78),
        ("synthesis: {services: [fish, local], local: {voice: xx}}\n", 78),
        ("synthesis: {local: {voice: de}}\n", 0),
        ("synthesis: {local: {voice: klingon, url: 'ws://192.168.1.9:8394/'}}\n", 0),  # another machine may have it
        ("synthesis: {local: {voice: klingon}}\nserver: {speech: tone}\n", 0),
    ],
)
def test_check_reports_a_local_voice_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert check(str(path), {}) == code
    errors = capsys.readouterr().err
    assert ("synthesis.local.voice: there is no voice" in errors) == (code != 0)
