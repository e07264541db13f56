"""The command as a user types it, and the archive that it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.doctor.support_bundle import masked, write_bundle
from agent.errors import UsageError
from agent.settings.loader import Loaded
from agent.settings.model import Config

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
        cwd=Path(__file__).parents[3],
        env={**os.environ, **environ},
    )


def test_what_is_fine_is_said_in_columns_and_ends_with_0(tmp_path: Path) -> None:
    done = doctor(tmp_path, QUIET + "server: {port: 0, speech: tone}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].startswith("fine      configuration           ")


def test_a_program_gets_json_and_a_broken_configuration_ends_with_78(tmp_path: Path) -> None:
    done = doctor(tmp_path, "speakr: {volume: 3}\n", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == found["exit_code"] == 78
    assert found["findings"][0]["verdict"] == "broken" and "speaker" in found["findings"][0]["saw"]
    assert {"clock", "disk, state"} <= {finding["subject"] for finding in found["findings"]}


def test_a_service_that_cannot_be_reached_ends_with_69(tmp_path: Path) -> None:
    text = QUIET + 'synthesis:\n  services: [neuphonic]\n  neuphonic: {url: "ws://127.0.0.1:9/", api_key: s3cret-key}\n'
    done = doctor(tmp_path, text)
    assert done.returncode == 69
    assert "BROKEN    service neuphonic" in done.stdout
    assert "\n" + " " * 32 + "  -> nothing answers there" in done.stdout
    assert "s3cret-key" not in done.stdout + done.stderr


def test_the_archive_holds_what_helps_and_no_key(tmp_path: Path) -> None:
    secrets = {name: f"sk-{name}-0123456789" for name in ("inline", "file", "env", "other")}
    place = tmp_path / "fish.key"
    place.write_text(secrets["file"])
    text = QUIET + (
        "synthesis:\n  services: [neuphonic, fish, vachana]\n"
        f'  neuphonic: {{url: "ws://127.0.0.1:9/{secrets["inline"]}/en", api_key: {secrets["inline"]}}}\n'
        f'  fish: {{url: "ws://127.0.0.1:9/", api_key: {{file: {place}}}}}\n'
        '  vachana: {url: "ws://127.0.0.1:9/", api_key: {env: VACHANA}}\n'
    )
    archive = tmp_path / "support.tar.gz"
    archive.write_text("of another day")
    archive.chmod(0o644)
    done = doctor(tmp_path, text, "--bundle", str(archive), VACHANA=secrets["env"], SOME_API_TOKEN=secrets["other"])
    assert done.returncode == 69, done.stderr
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as opened:
        members = {Path(entry.name).name: opened.extractfile(entry).read() for entry in opened}  # type: ignore[union-attr]
    assert {"configuration.yaml", "doctor.json", "versions.txt", "devices.txt", "journal.txt"} <= set(members)
    whole = b"\n".join(members.values()).decode()
    assert [name for name, secret in secrets.items() if secret in whole] == []
    assert "ws://127.0.0.1:9/***/en" in whole
    assert json.loads(members["doctor.json"])


@pytest.fixture
def of_1234() -> Iterator[Path]:
    """A folder of the user 1234, where the tests are run by root; else of who runs them."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            os.chown(name, 1234, 1234)
        yield Path(name)


def archived(path: Path) -> None:
    write_bundle(path, Loaded(Config()), [], {"SUDO_UID": "1234", "SUDO_GID": "1234"})


def test_whoever_typed_sudo_need_not_be_root_to_send_the_archive(of_1234: Path) -> None:
    archived(of_1234 / "support.tar.gz")
    assert (of_1234 / "support.tar.gz").stat().st_uid == (os.geteuid() or 1234)


def test_nothing_that_was_there_is_given_to_whoever_typed_sudo(tmp_path: Path, of_1234: Path) -> None:
    """A file of root's that lay, or that a link led to, where the archive was to be was given away: /etc/shadow."""
    theirs = tmp_path / "theirs"
    theirs.write_text("root's own")
    (of_1234 / "support.tar.gz").symlink_to(theirs)
    with pytest.raises(UsageError, match="no ordinary file"):
        archived(of_1234 / "support.tar.gz")
    assert theirs.read_text() == "root's own"
    archived(theirs)
    assert theirs.stat().st_uid == os.geteuid()


def test_a_file_that_others_have_open_does_not_become_the_archive(tmp_path: Path) -> None:
    place = tmp_path / "support.tar.gz"
    place.touch(0o666)
    with place.open("rb") as others:
        archived(place)
        assert others.read() == b"" and place.stat().st_size > 0


@pytest.mark.parametrize("form", ["a/b+c key", "a%2Fb%2Bc%20key"])
def test_a_key_is_masked_in_every_form_it_takes(form: str) -> None:
    assert masked(f"x{form}y", ["a/b+c key"]) == "x***y"
