"""Faults of the machine and of what is written on it: clock, disk, keys, configuration, local server, systemd."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.cli.doctor.command import examine
from agent.cli.doctor.config import check_configuration, check_keys
from agent.cli.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding, exit_code
from agent.cli.doctor.local_server import check_local
from agent.cli.doctor.machine import check_clock, check_disk, check_systemd, check_user
from agent.cli.doctor.sandbox import HostFacts, program, properties
from agent.settings.loader import Loaded
from agent.system.paths import Paths

Read = Callable[[str], Loaded]
BUILT = 1_790_000_000.0


# --- clock


@pytest.mark.parametrize("now", [0.0, 86400.0 * 400, BUILT - 86400 * 2])
def test_a_clock_before_the_day_this_was_made_is_named_with_how_to_set_it(now: float) -> None:
    found = check_clock(lambda: now, BUILT, lambda: None)
    assert found.verdict == BROKEN and "made on" in found.saw and "timedatectl set-ntp true" in found.cure
    assert exit_code([found]) == 69


def test_a_clock_that_nobody_keeps_right_is_doubtful() -> None:
    assert check_clock(lambda: BUILT, BUILT, lambda: False).verdict == DOUBTFUL
    assert check_clock(lambda: BUILT, BUILT, lambda: True).verdict == FINE
    assert check_clock(lambda: BUILT, BUILT, lambda: None).verdict == FINE


# --- disk


def test_a_full_disk_is_named_with_how_to_make_room(tmp_path: Path) -> None:
    """A file may not grow any further: for the program that is a disk without room."""
    program = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom agent.cli.doctor.machine import check_disk\n"
        "from agent.system.paths import Paths\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nplace = Path(sys.argv[1])\n"
        "for finding in check_disk(Paths(place, place, place)):\n"
        "    print(finding.verdict, finding.saw, finding.cure)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.startswith(f"broken no room in {tmp_path}: {os.strerror(errno.EFBIG)} df -h {tmp_path}")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    place = Path("/proc/self") if os.geteuid() == 0 else tmp_path
    tmp_path.chmod(0o500)
    found = check_disk(Paths(place, place, place))[0]
    assert found.verdict == BROKEN and "cannot be written" in found.saw and "chown" in found.cure


def test_a_disk_with_room_is_fine_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    found = check_disk(Paths(tmp_path, tmp_path / "not" / "yet", tmp_path))
    assert [finding.verdict for finding in found] == [FINE, FINE]
    assert not list(tmp_path.iterdir())


# --- keys

NEUPHONIC = "conversation: {mode: announce}\nsynthesis:\n  services: [neuphonic]\n"


def test_a_key_that_is_missing_is_named_with_the_command_that_puts_it_there(loaded: Read) -> None:
    (found,) = check_keys(loaded(NEUPHONIC + "  neuphonic: {api_key: {credential: no-such-key}}\n"), installed=False)
    assert found.verdict == BROKEN and "no-such-key" in found.saw and "is missing" in found.saw
    assert "sudo install -m 600 /dev/stdin /etc/voice-agent/credentials/no-such-key" in found.cure
    assert exit_code([found]) == 78


def test_a_key_that_only_root_can_read_is_named_for_the_service(loaded: Read, tmp_path: Path) -> None:
    key = tmp_path / "neuphonic.key"
    key.write_text("s3cret-key\n")
    key.chmod(0o600)
    (found,) = check_keys(loaded(f"{NEUPHONIC}  neuphonic: {{api_key: {{file: {key}}}}}\n"), installed=True)
    assert "s3cret-key" not in f"{found}"
    if os.geteuid() == 0:
        assert found.verdict == BROKEN and "cannot read it" in found.saw
        assert "{credential: neuphonic}" in found.cure and "config.yaml:4" in found.cure
    else:
        assert found.verdict == FINE


def test_a_key_file_that_cannot_be_read_is_named(loaded: Read, tmp_path: Path) -> None:
    folder = tmp_path / "folder.key"
    folder.mkdir()
    (found,) = check_keys(loaded(f"{NEUPHONIC}  neuphonic: {{api_key: {{file: {folder}}}}}\n"), installed=False)
    assert found.verdict == BROKEN and "cannot be read" in found.saw and "{credential: neuphonic}" in found.cure


def test_a_key_that_others_can_read_is_doubtful(loaded: Read, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("s3cret-key\n")
    key.chmod(0o644)
    (found,) = check_keys(loaded(f"{NEUPHONIC}  neuphonic: {{api_key: {{file: {key}}}}}\n"), installed=False)
    assert found.verdict == DOUBTFUL and found.cure == f"sudo chmod 600 {key}"


# --- configuration


def test_every_mistake_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("speaker:\n  volumee: 3\nlogging: {level: loud}\n")
    _, found = check_configuration(file, {})
    assert [finding.verdict for finding in found] == [BROKEN, BROKEN]
    assert 'did you mean "volume"' in found[0].saw and f"change line 2 of {file}" in found[0].cure
    assert exit_code(found) == 78


# --- the local server


def test_a_port_that_something_else_has_taken_is_named(loaded: Read) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = check_local(loaded(f"conversation: {{mode: announce}}\nserver: {{port: {port}, speech: tone}}\n"))
    assert found[0].verdict == BROKEN and f"port {port}" in found[0].saw and "another program" in found[0].saw
    assert f"sport = :{port}" in found[0].cure and "server.port" in found[0].cure


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_this_machines_is_not_called_taken(loaded: Read, host: str) -> None:
    """Whose speech server on another machine was down was told to end a program on this one."""
    text = f"conversation: {{mode: announce}}\nserver: {{host: {host}, speech: tone, start: "
    away, mistaken = (check_local(loaded(f"{text}{start}}}\n"))[0] for start in ("false", "true"))
    assert away.verdict == mistaken.verdict == BROKEN
    assert f"nobody answers at {host}:8394" in away.saw and f"on {host}" in away.cure
    assert f"listen at {host}:8394" in mistaken.saw and "server.host (" in mistaken.cure and mistaken.own


def test_a_port_of_an_ipv6_address_that_nobody_has_is_free(loaded: Read) -> None:
    """It was said to be taken by another program: the address was tried as one of IPv4."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
    text = f"conversation: {{mode: announce}}\nserver: {{host: '::1', port: {port}, speech: tone}}\n"
    assert check_local(loaded(text))[0].verdict == FINE


def test_a_recogniser_that_is_missing_is_named_with_the_command_that_installs_it(
    loaded: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.server.stt.engine._is_installed", lambda module: False)
    found = {finding.subject: finding for finding in check_local(loaded("server: {speech: tone}\n"))}
    assert found["local server"].verdict == FINE and found["local voice"].verdict == FINE
    recogniser = found["local recogniser"]
    assert recogniser.verdict == BROKEN and "edge-voice-agent[recognition]" in recogniser.cure
    assert exit_code([recogniser]) == 69


def test_where_the_package_is_installed_its_own_command_adds_the_recogniser(
    loaded: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # It said pip, which Debian's Python refuses.
    command = tmp_path / "add-recognition"
    command.write_text("")
    monkeypatch.setattr("agent.server.stt.engine.ADD_RECOGNITION", command)
    monkeypatch.setattr("agent.server.stt.engine._is_installed", lambda module: False)
    found = {finding.subject: finding for finding in check_local(loaded("server: {speech: tone}\n"))}
    assert found["local recogniser"].cure == f"sudo {command}"


def test_nothing_local_is_looked_at_where_nothing_is_local(loaded: Read) -> None:
    assert check_local(loaded(NEUPHONIC + "  neuphonic: {api_key: some-key}\n")) == []


# --- systemd

ACTIVE = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "NRestarts": "0",
          "WatchdogUSec": "15s", "StatusText": "listening"}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "verdict", "word"),
    [
        ({}, FINE, "listening"),
        ({"NRestarts": "7"}, DOUBTFUL, "7 restarts"),
        ({"ActiveState": "failed", "Result": "watchdog"}, BROKEN, "watchdog"),
        ({"ActiveState": "inactive", "SubState": "dead"}, DOUBTFUL, "inactive"),
        ({"LoadState": "not-found"}, FINE, "not installed"),
    ],
)
def test_what_systemd_says_is_judged(change: dict[str, str], verdict: str, word: str) -> None:
    found = check_systemd({**ACTIVE, **change})[0]
    assert found.verdict == verdict and word in found.saw
    assert bool(found.cure) == (verdict != FINE)
    assert check_systemd(None) == []


def test_the_sandbox_is_that_of_the_unit_without_what_would_disturb_the_daemon() -> None:
    unit = Path(__file__).parents[3] / "systemd" / "voice-agent.service"
    found = properties(unit.read_text())
    names = {line.partition("=")[0] for line in found}
    assert {"DynamicUser", "ProtectSystem", "LoadCredential", "StateDirectory", "SystemCallFilter"} <= names
    assert not names & {"Type", "ExecStart", "WatchdogSec", "Restart", "RuntimeDirectory", "NotifyAccess"}
    assert "User=voice-agent" in found  # or the directories would change their owner under the daemon


@pytest.mark.parametrize(
    ("starts", "arguments", "wanted"),
    [
        ("/usr/bin/voice-agent run", [], "/usr/bin/voice-agent doctor --here"),
        ("-/usr/bin/voice-agent run", ["--json"], "/usr/bin/voice-agent doctor --here --json"),
        ("/opt/va/run --config /etc/x.yaml", [], None),
        ("/a run --config /etc/x.yaml", [], "/a doctor --here --config /etc/x.yaml"),
        ("/a run --config /etc/x.yaml", ["--config", "/y"], "/a doctor --here --config /y"),
        ('/a run --config "/etc/x.yaml', [], None),  # it was a traceback; systemd starts nothing and says so
    ],
)
def test_the_program_is_that_of_the_unit(starts: str, arguments: list[str], wanted: str | None) -> None:
    # It was this Python with "-m agent", which knows nothing of a library that the package keeps to itself.
    unit = f"[Service]\nExecStart=/bin/false run\n# a drop-in\n[Service]\nExecStart=\nExecStart={starts}\n"
    assert program(unit, arguments) == (wanted.split() if wanted else [sys.argv[0], "doctor", "--here", *arguments])


def test_what_root_was_told_by_systemd_is_believed_where_systemd_does_not_answer(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("microphone: {device: none}\nspeaker: {device: none}\nserver: {start: false}\n")
    name, _, value = HostFacts({**ACTIVE, "StatusText": 'a "$b" %c'}, synchronised=False).as_variable().partition("=")
    found = {finding.subject: finding for finding in examine(file, {name: value}, show=lambda: None)}
    assert 'a "$b" %c' in found["systemd"].saw
    assert found["clock"].verdict == DOUBTFUL
    for nonsense in ("", "[]", "{}", '{"other": 1}'):
        assert HostFacts.of({name: nonsense}) == HostFacts()


@pytest.mark.parametrize(("facts", "words"), [("1 2", "inside a sandbox"), ("0 0", "without the sandbox")])
def test_who_examines_is_told(tmp_path: Path, facts: str, words: str) -> None:
    new, filtered = facts.split()
    (tmp_path / "status").write_text(f"Name:\tpython3\nGroups:\t \nNoNewPrivs:\t{new}\nSeccomp:\t{filtered}\n")
    found = check_user(tmp_path / "status")
    assert f"(uid {os.geteuid()})" in found.saw and words in found.saw


def test_the_exit_code_is_that_of_the_worst() -> None:
    outside, own = Finding("a", BROKEN, "b"), Finding("a", BROKEN, "b", own=True)
    assert exit_code([Finding("a", DOUBTFUL, "b", own=True)]) == 0
    assert exit_code([outside]) == 69
    assert exit_code([outside, own]) == 78
