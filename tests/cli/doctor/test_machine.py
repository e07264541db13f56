"""Checks of the machine: user, clock, disk and the systemd unit."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli.doctor.machine import check_clock, check_disk, check_systemd, check_user
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult, exit_code
from agent.system.paths import Paths

BUILT = 1_790_000_000.0
ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "0",
          "WatchdogUSec": "15s", "StatusText": "listening"}  # fmt: skip


def test_exit_code_is_78_for_own_errors_and_69_for_others() -> None:
    outside, own = CheckResult("a", ERROR, "b"), CheckResult("a", ERROR, "b", own=True)
    assert exit_code([CheckResult("a", WARNING, "b", own=True)]) == 0
    assert exit_code([outside]) == 69
    assert exit_code([outside, own]) == 78


@pytest.mark.parametrize(("flags", "words"), [("1 2", "inside a sandbox"), ("0 0", "without the sandbox")])
def test_check_user_reports_the_user_and_the_sandbox(tmp_path: Path, flags: str, words: str) -> None:
    no_new_privs, seccomp = flags.split()
    status = f"Name:\tpython3\nGroups:\t \nNoNewPrivs:\t{no_new_privs}\nSeccomp:\t{seccomp}\n"
    (tmp_path / "status").write_text(status)
    result = check_user(tmp_path / "status")
    assert f"(uid {os.geteuid()})" in result.saw and words in result.saw


@pytest.mark.parametrize("now", [0.0, 86400.0 * 400, BUILT - 86400 * 2])
def test_check_clock_reports_a_time_before_the_build(now: float) -> None:
    result = check_clock(lambda: now, BUILT, lambda: None)
    assert result.verdict == ERROR and "built on" in result.saw and "timedatectl set-ntp true" in result.cure
    assert exit_code([result]) == 69


@pytest.mark.parametrize(("synchronized", "verdict"), [(True, OK), (False, WARNING), (None, OK)])
def test_check_clock_warns_without_synchronization(synchronized: bool | None, verdict: str) -> None:
    assert check_clock(lambda: BUILT, BUILT, lambda: synchronized).verdict == verdict


def test_check_disk_reports_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of a file has the same effect on the program as a full disk."""
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom agent.cli.doctor.machine import check_disk\n"
        "from agent.system.paths import Paths\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nplace = Path(sys.argv[1])\n"
        "for result in check_disk(Paths(place, place, place)):\n"
        "    print(result.verdict, result.saw, result.cure)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.startswith(f"error no room in {tmp_path}: {os.strerror(errno.EFBIG)} df -h {tmp_path}")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_check_disk_reports_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    place = Path("/proc/self") if os.geteuid() == 0 else tmp_path
    tmp_path.chmod(0o500)
    result = check_disk(Paths(place, place, place))[0]
    assert result.verdict == ERROR and "cannot be written" in result.saw and "chown" in result.cure


def test_check_disk_never_advises_to_change_the_owner_of_a_parent(tmp_path: Path) -> None:
    parent = Path("/proc/self") if os.geteuid() == 0 else tmp_path
    tmp_path.chmod(0o500)
    place = parent / "voice-agent"
    result = check_disk(Paths(place, place, place))[0]
    assert result.verdict == ERROR and f"{parent} cannot be written" in result.saw
    assert "chown" not in result.cure and result.cure.endswith(f" {place}")


def test_check_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    results = check_disk(Paths(tmp_path, tmp_path / "not" / "yet", tmp_path))
    assert [result.verdict for result in results] == [OK, OK]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "verdict", "word"),
    [
        ({}, OK, "listening"),
        ({"NRestarts": "7"}, WARNING, "7 restarts"),
        ({"ActiveState": "failed", "Result": "watchdog"}, ERROR, "watchdog"),
        ({"ActiveState": "inactive", "SubState": "dead"}, WARNING, "inactive"),
        ({"LoadState": "not-found"}, OK, "not installed"),
    ],
)
def test_check_systemd_judges_the_state_of_the_unit(change: dict[str, str], verdict: str, word: str) -> None:
    (result,) = check_systemd({**ACTIVE, **change})
    assert result.verdict == verdict and word in result.saw
    assert bool(result.cure) == (verdict != OK)


def test_check_systemd_warns_without_a_watchdog() -> None:
    results = check_systemd({**ACTIVE, "WatchdogUSec": "infinity"})
    assert [result.verdict for result in results] == [OK, WARNING] and "watchdog" in results[1].saw


def test_check_systemd_without_systemd_has_no_finding() -> None:
    assert check_systemd(None) == []
