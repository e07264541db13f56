"""``voice-agent doctor`` as a process: its report, JSON, exit codes and support archive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
QUIET = "microphone: {device: none}\nspeaker: {device: none}\nconversation: {mode: announce}\n"


def doctor(tmp_path: Path, text: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    file.chmod(0o600)
    return subprocess.run(
        [sys.executable, "-m", "agent", "doctor", "--here", "--config", str(file), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
        env={**os.environ, **environ},
    )


def test_doctor_without_errors_prints_columns_and_exits_0(tmp_path: Path) -> None:
    done = doctor(tmp_path, QUIET + "server: {port: 0, speech: tone}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("ok        configuration           ")
    assert last.startswith("errors: 0, warnings: ")


def test_doctor_with_an_invalid_configuration_prints_json_and_exits_78(tmp_path: Path) -> None:
    done = doctor(tmp_path, "speakr: {volume: 3}\n", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 78
    assert report["findings"][0]["verdict"] == "error" and "speaker" in report["findings"][0]["saw"]
    assert {"clock", "disk, state"} <= {result["subject"] for result in report["findings"]}


def test_doctor_with_an_unreachable_service_exits_69(tmp_path: Path) -> None:
    text = QUIET + 'synthesis:\n  services: [neuphonic]\n  neuphonic: {url: "ws://127.0.0.1:9/", api_key: s3cret-key}\n'
    done = doctor(tmp_path, text)
    assert done.returncode == 69
    assert "error     service neuphonic" in done.stdout
    assert "\n" + " " * 32 + "  -> nothing listens there" in done.stdout
    assert "s3cret-key" not in done.stdout + done.stderr


def test_bundle_contains_the_reports_and_no_key(tmp_path: Path) -> None:
    secrets = {name: f"sk-{name}-0123456789" for name in ("inline", "file", "env", "other")}
    key = tmp_path / "fish.key"
    key.write_text(secrets["file"])
    text = QUIET + (
        "synthesis:\n  services: [neuphonic, fish, vachana]\n"
        f'  neuphonic: {{url: "ws://127.0.0.1:9/{secrets["inline"]}/en", api_key: {secrets["inline"]}}}\n'
        f'  fish: {{url: "ws://127.0.0.1:9/", api_key: {{file: {key}}}}}\n'
        '  vachana: {url: "ws://127.0.0.1:9/", api_key: {env: VACHANA}}\n'
    )
    archive = tmp_path / "support.tar.gz"
    archive.write_text("an older archive")
    archive.chmod(0o644)
    done = doctor(tmp_path, text, "--bundle", str(archive), VACHANA=secrets["env"], SOME_API_TOKEN=secrets["other"])
    assert done.returncode == 69, done.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as opened:
        members = {Path(entry.name).name: opened.extractfile(entry).read() for entry in opened}  # type: ignore[union-attr]
    assert {"configuration.yaml", "doctor.json", "versions.txt", "devices.txt", "journal.txt"} <= set(members)
    contents = b"\n".join(members.values()).decode()
    assert [name for name, secret in secrets.items() if secret in contents] == []
    assert "ws://127.0.0.1:9/***/en" in contents
    assert json.loads(members["doctor.json"])


@pytest.mark.parametrize(
    "name", ["support.zip", "support", "missing/support.tar.gz", "folder.tar.gz", "file/support.tgz"]
)
def test_archive_that_cannot_be_written_is_reported_before_the_checks(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.tar.gz").mkdir()
    (tmp_path / "file").touch()
    done = doctor(tmp_path, QUIET, "--bundle", str(tmp_path / name))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and f"{name} cannot be written: " in done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"config.yaml", "folder.tar.gz", "file"}
