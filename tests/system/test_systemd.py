from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.system.paths import Paths
from agent.system.stacks import dump_stacks
from agent.system.systemd import SystemdNotifier, child_environment


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What systemd listens on, and its name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        yield sock, str(tmp_path / "notify")


def heard(sock: socket.socket) -> str:
    return sock.recv(4096).decode()


def everything_said(service: SystemdNotifier) -> None:
    service.ready("listening")
    service.status("speaking")
    service.reloading()
    service.ping_watchdog()
    service.stopping(2.0)


def test_each_word_arrives_as_systemd_wants_it(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    before = time.monotonic_ns() // 1000
    everything_said(SystemdNotifier({"NOTIFY_SOCKET": address}))
    assert heard(sock) == "READY=1\nSTATUS=listening"
    assert heard(sock) == "STATUS=speaking"
    reloading, moment = heard(sock).split("\n")
    assert reloading == "RELOADING=1"
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert [heard(sock) for _ in range(2)] == ["WATCHDOG=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=5000000"]


def test_the_words_are_the_same_through_systemds_own_library(
    systemd: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sock, address = systemd
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert SystemdNotifier(os.environ).ready("listening")
    assert heard(sock) == "READY=1\nSTATUS=listening"


def test_the_words_arrive_where_the_library_is_not_installed(
    systemd: tuple[socket.socket, str], tmp_path: Path
) -> None:
    # The folder of the units is found under the library's name instead: it has no daemon in it.
    sock, address = systemd
    (tmp_path / "shadow" / "systemd").mkdir(parents=True)
    (tmp_path / "shadow" / "systemd" / "__init__.py").write_text("")
    program = "import os\nfrom agent.system.systemd import Service\nassert Service(os.environ).ready('here')\n"
    root = str(Path(__file__).parents[2])
    environ = {**os.environ, "NOTIFY_SOCKET": address, "PYTHONPATH": f"{tmp_path / 'shadow'}:{root}"}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True, timeout=300)
    assert heard(sock) == "READY=1\nSTATUS=here"


def test_an_abstract_socket_is_found(tmp_path: Path) -> None:
    name = f"voice-agent-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(60)
        assert SystemdNotifier({"NOTIFY_SOCKET": f"@{name}"}).ping_watchdog()
        assert heard(sock) == "WATCHDOG=1"


@pytest.mark.parametrize(
    "address", [None, "", "@", "/", "nonsense", "vsock:2:1234", "/nowhere/notify", "/" + "x" * 300]
)
def test_a_supervisor_that_is_not_there_is_no_trouble(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {} if address is None else {"NOTIFY_SOCKET": address}
    everything_said(SystemdNotifier(environ))
    assert not SystemdNotifier(environ).ping_watchdog()
    for name, value in environ.items():  # and now through systemd's own library
        monkeypatch.setenv(name, value)
        everything_said(SystemdNotifier(os.environ))


def test_a_supervisor_that_goes_away_is_no_trouble(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    service = SystemdNotifier({"NOTIFY_SOCKET": address})
    assert service.ping_watchdog()
    sock.close()
    assert not service.ping_watchdog()
    os.unlink(address)
    everything_said(service)


def fill(address: str) -> int:
    """Has others say so much that nothing more goes in; how many messages that were."""
    for count in range(100_000):
        # Each from a socket of its own: what one may have on the way is limited as well.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            other.connect(address)
            try:
                other.send(b"STATUS=of another")
            except BlockingIOError:
                return count
    raise AssertionError("it takes everything")


def drain(sock: socket.socket, count: int) -> None:
    assert {sock.recv(4096) for _ in range(count)} == {b"STATUS=of another"}


def test_a_supervisor_that_does_not_read_is_not_waited_for(systemd: tuple[socket.socket, str]) -> None:
    # Each status held the main thread up for a second.
    _, address = systemd
    service = SystemdNotifier({"NOTIFY_SOCKET": address})
    fill(address)
    began = time.monotonic()
    assert not any(service.status(f"number {number}") for number in range(40))
    assert time.monotonic() - began < 20


def test_what_did_not_fit_is_told_at_the_next_occasion_and_of_a_status_only_the_latest(
    systemd: tuple[socket.socket, str], caplog: pytest.LogCaptureFixture
) -> None:
    sock, address = systemd
    service = SystemdNotifier({"NOTIFY_SOCKET": address})
    count = fill(address)
    for said in (
        service.ready("starting"),
        service.status("listening"),
        service.status("thinking"),
        service.ping_watchdog(),
    ):
        assert not said
    drain(sock, count)
    assert service.ping_watchdog()
    assert [heard(sock) for _ in range(3)] == ["READY=1\nSTATUS=starting", "STATUS=thinking", "WATCHDOG=1"]
    assert service.status("speaking")
    assert heard(sock) == "STATUS=speaking"
    assert [record.levelname for record in caplog.records if "systemd" in record.message] == ["WARNING"]


def test_the_words_on_which_systemd_acts_are_kept_in_their_order(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    service = SystemdNotifier({"NOTIFY_SOCKET": address})
    count = fill(address)
    service.ready("up")
    for number in range(3):
        service.reloading()
        service.ready(f"reloaded {number}")
    service.ping_watchdog()
    service.stopping(2.0)
    drain(sock, count)
    assert service.resend()
    words = [re.sub(r"\n\w+_USEC=\d+$", "", heard(sock)) for _ in range(5)]
    assert words == ["READY=1\nSTATUS=up", "RELOADING=1", "READY=1\nSTATUS=reloaded 2", "WATCHDOG=1", "STOPPING=1"]
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(4096)


def test_a_status_is_one_line_that_cannot_say_more_than_a_status(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    service = SystemdNotifier({"NOTIFY_SOCKET": address})
    service.status('no microphone: waiting for "x\nWATCHDOG=trigger\x1b[2J"')
    assert heard(sock) == 'STATUS=no microphone: waiting for "x\\nWATCHDOG=trigger\\x1b[2J"'
    service.status("x" * 100000)
    assert len(heard(sock)) < 300


def test_the_same_status_is_sent_once(systemd: tuple[socket.socket, str]) -> None:
    sock, address = systemd
    service = SystemdNotifier({"NOTIFY_SOCKET": address})
    for text in ("listening", "listening", "thinking"):
        service.status(text)
    service.ping_watchdog()
    assert [heard(sock) for _ in range(3)] == ["STATUS=listening", "STATUS=thinking", "WATCHDOG=1"]


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "³"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_only_the_process_that_is_watched_pets(environ: dict[str, str], seconds: float | None) -> None:
    assert SystemdNotifier(environ).watchdog_seconds == seconds


def test_a_child_neither_speaks_for_the_daemon_nor_knows_its_keys() -> None:
    environ = {
        "NOTIFY_SOCKET": "/x",
        "WATCHDOG_USEC": "1",
        "CREDENTIALS_DIRECTORY": "/c",
        "PATH": "/bin",
        "VOICE_AGENT_SYNTHESIS__FISH__API_KEY": "k",
    }
    assert child_environment(environ) == {"PATH": "/bin"}


def test_systemds_directories_are_used_where_it_gives_some() -> None:
    paths = Paths.from_environment(
        {"RUNTIME_DIRECTORY": "/run/a:/run/b", "STATE_DIRECTORY": "/var/lib/a", "CACHE_DIRECTORY": "/c"}
    )
    assert (paths.run, paths.state, paths.cache) == (Path("/run/a"), Path("/var/lib/a"), Path("/c"))
    assert paths.control_socket == Path("/run/a/control.sock")
    assert paths.candidate_sockets() == (Path("/run/a/control.sock"), Path("/run/voice-agent/control.sock"))


def test_an_ordinary_user_has_directories_of_its_own(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom agent.system.paths import Paths\n"
        "for environ in ({'HOME': '/home/me'}, {'HOME': '/home/me', 'XDG_RUNTIME_DIR': '/run/user/7',"
        " 'XDG_STATE_HOME': '/s', 'XDG_CACHE_HOME': 'relative'}, {}):\n"
        "    paths = Paths.from_environment(environ)\n"
        "    print(paths.run, paths.state, paths.cache)\n"
    )
    user = 65534 if os.getuid() == 0 else None  # root may write everywhere, and uses the system's directories
    prepared = f"import os\nif {user!r} is not None: os.setuid({user!r})\n" if user else ""
    imports = "import agent.system.paths\n"  # before the change of user: the sources may be readable for root alone
    whole = imports + prepared + program
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, timeout=300, check=True)
    uid = user if user is not None else os.getuid()
    assert done.stdout.splitlines()[:2] == [
        "/home/me/.local/state/voice-agent/run /home/me/.local/state/voice-agent /home/me/.cache/voice-agent",
        "/run/user/7/voice-agent /s/voice-agent /home/me/.cache/voice-agent",
    ]
    assert f"voice-agent-{uid}" in done.stdout.splitlines()[2]


def test_the_stacks_of_all_threads_are_told_by_name(tmp_path: Path) -> None:
    import threading

    ready, leave = threading.Event(), threading.Event()

    def stuck_in_a_call() -> None:
        ready.set()
        leave.wait(300)

    thread = threading.Thread(target=stuck_in_a_call, name="speaker\n<0>")
    thread.start()
    try:
        assert ready.wait(60)
        with (tmp_path / "stacks").open("w") as stream:
            dump_stacks(stream)
    finally:
        leave.set()
        thread.join(10)
    text = (tmp_path / "stacks").read_text()
    assert 'thread "MainThread" (' in text
    assert 'thread "speaker\\n<0>" (' in text
    assert "stuck_in_a_call" in text
    assert f"{__file__}:" in text
