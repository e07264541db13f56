"""A container with systemd as its first process, without machinectl and without a network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

BOOT_SECONDS = 180.0
STEP_SECONDS = 0.1
_CGROUPS = Path("/sys/fs/cgroup")


class Container:
    """A booted root file system, as a context manager that leaves no process, mount or cgroup behind.

    Not thread-safe; owned by the main thread. The container has only the loopback device.

    Args:
        root: The root file system.
        binds: Directories of this machine, with their paths in the container.
    """

    def __init__(self, root: Path, binds: dict[Path, str] | None = None) -> None:
        self.root = root
        self._binds = binds or {}
        self._name = f"voice-agent-test-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self._console = root.with_name(root.name + ".console")

    def __enter__(self) -> Container:
        try:
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # --- commands

    def run(self, *command: str, check: bool = True, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command as root. Raises ``AssertionError`` with its output if it fails and ``check`` is set."""
        done = subprocess.run(
            [*self._inside(), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=_environment(),
        )
        if check:
            assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}: {done.stderr or done.stdout}"
        return done

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        return subprocess.Popen(
            [*self._inside(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=_environment(),
        )

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").stdout.strip()

    def journal(self, unit: str) -> list[dict[str, Any]]:
        self.run("journalctl", "--sync")  # without it the newest lines may be missing
        output = self.run("journalctl", "--unit", unit, "--output", "json", "--no-pager", "--all").stdout
        return [json.loads(line) for line in output.splitlines()]

    def lines(self, unit: str) -> list[str]:
        return [str(entry.get("MESSAGE", "")) for entry in self.journal(unit)]

    def wait(self, what: str, true: Callable[[], bool], seconds: float = 60.0) -> None:
        """Poll until the condition is true. Raises ``AssertionError`` with ``what`` after ``seconds``."""
        for _ in range(int(seconds / STEP_SECONDS)):
            if true():
                return
            time.sleep(STEP_SECONDS)
        raise AssertionError(f"not within {seconds:g} s: {what}")

    def outside(self, pid: int) -> int:
        """Return the process id on this machine for a process id of the container."""
        leader = self._leader()
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                numbers = next(line for line in status.read_text().splitlines() if line.startswith("NSpid:")).split()
                same = os.readlink(status.with_name("ns") / "pid") == os.readlink(f"/proc/{leader}/ns/pid")
            except (OSError, StopIteration):
                continue  # the process ended meanwhile
            if same and numbers[-1] == str(pid):
                return int(numbers[1])
        raise AssertionError(f"the container has no process {pid}")

    def add_address(self, address: str) -> None:
        """Add an address to the loopback device of the container."""
        network = ["nsenter", "-t", str(self._leader()), "-n", "--"]
        subprocess.run([*network, "ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)

    # --- boot and shutdown

    def _inside(self) -> list[str]:
        leader = self._leader()
        assert leader is not None, "the container is not running"
        return ["nsenter", "-t", str(leader), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--"]

    def _leader(self) -> int | None:
        if self._process is None:
            return None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            return int(children.read_text().split()[0])
        except (OSError, IndexError):
            return None

    def _boot(self) -> None:
        command = ["systemd-nspawn", "--quiet", "--boot", "-D", str(self.root), "-M", self._name, "--register=no"]
        command += ["--keep-unit", "--private-network", "--timezone=off", "--resolv-conf=off"]
        command += [f"--bind={source}:{target}" for source, target in self._binds.items()]
        # systemd filters addresses and devices with BPF programs, and nspawn's default filter denies bpf(2).
        command += ["--system-call-filter=bpf"]
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        for group in self._groups():
            group.mkdir(exist_ok=True)
        with self._console.open("wb") as console:
            self._process = subprocess.Popen(
                # The shell waits until it is in its own cgroups, which systemd then manages.
                ["sh", "-c", 'read go; exec "$@" </dev/null', "sh", *command, "systemd.unit=multi-user.target"],
                stdin=subprocess.PIPE,
                stdout=console,
                stderr=console,
                env=environment,
                start_new_session=True,
            )
        for group in self._groups():
            (group / "cgroup.procs").write_text(str(self._process.pid))
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
        self._process.stdin.close()
        self.wait("the container has booted", self._is_up, BOOT_SECONDS)

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the container does not boot: {self._console.read_text(errors='replace')[-2000:]}")
        if self._leader() is None:
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded")

    def _groups(self) -> Iterator[Path]:
        if (_CGROUPS / "cgroup.controllers").exists():
            yield _CGROUPS / self._name
            return
        for controller in sorted(_CGROUPS.iterdir()):
            if not controller.is_symlink() and (controller / "cgroup.procs").exists() and controller.name != "cpuset":
                yield controller / self._name

    def _end(self) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            if self._leader() is not None:
                self.run("systemctl", "--force", "poweroff", check=False)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(15)
        for group in self._groups():
            if group.is_dir():
                subprocess.run(["find", str(group), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=False)


def _environment() -> dict[str, str]:
    """Return the environment of a command, without variables of this machine."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
