"""Measures the start time of the daemon, relative to the bare imports of its two libraries, and its memory.

All variants run in turns, so that a busy machine affects all of them. Each ratio is the median over the turns: of the
wall clock time, and of the CPU time (user and system, all threads), which a busy machine changes less. All processes
use the same interpreter and the same compiled modules. "imports" ends after ``import websocket, pyaudio``, "READY" with
the notification of the service manager.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _processes import clean_environment, cpu_seconds

ROOT = Path(__file__).resolve().parents[2]
MAX_RATIO = 1.5
MAX_MIB = 30.0
TIMEOUT_SECONDS = 30.0

BARE = "import websocket, pyaudio, os; os.write(1, b'.'); os.read(0, 1)"
PROBE = """
import pyaudio, os
def rss():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS'))
before = rss()
pyaudio.PyAudio().terminate()
print(rss() - before)
"""
Duration = tuple[float, float]
"""Seconds of wall clock time and of CPU time."""

ANNOUNCE = "conversation: {mode: announce}\n"


class Ready:
    """The notification socket of a daemon. ``wait`` is thread-safe."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))

        self._moments: queue.SimpleQueue[float] = queue.SimpleQueue()
        # Reads all notifications, because a full socket would block the daemon.
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self) -> float:
        return self._moments.get(timeout=TIMEOUT_SECONDS)

    def _listen(self) -> None:
        while True:
            if b"READY=1" in self._socket.recv(4096):
                self._moments.put(time.perf_counter())


def environment(folder: Path, ready: Ready | None = None) -> dict[str, str]:
    kept = clean_environment(folder)
    kept["VOICE_AGENT_CONTROL__SOCKET"] = str(folder / "control.sock")
    kept["VOICE_AGENT_SERVER__PORT"] = "0"
    if ready is not None:
        kept["NOTIFY_SOCKET"] = str(ready.path)
    return kept


@contextlib.contextmanager
def daemon(folder: Path, ready: Ready, arguments: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start a daemon; yield its process and the seconds until READY."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "run", *arguments],
        cwd=ROOT,
        env=environment(folder, ready),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process, ready.wait() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_SECONDS)


def imports(folder: Path) -> Duration:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(folder)
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        readable, _, _ = select.select([process.stdout], [], [], TIMEOUT_SECONDS)
        seconds = time.perf_counter() - began
        assert readable and process.stdout.read(1) == b".", "the libraries are not installed"
        took = seconds, cpu_seconds(process.pid)
        process.stdin.close()
    return took


def times(folder: Path, ready: Ready, rounds: int) -> dict[str, list[Duration]]:
    file = folder / "announce.yaml"
    file.write_text(ANNOUNCE)

    def started(*arguments: str) -> Callable[[], Duration]:
        def run() -> Duration:
            with daemon(folder, ready, list(arguments)) as (process, seconds):
                return seconds, cpu_seconds(process.pid)

        return run

    ways: dict[str, Callable[[], Duration]] = {
        "imports of websocket and pyaudio": lambda: imports(folder),
        "READY, defaults": started(),
        "READY, announcing, from a file": started("--config", str(file)),
    }
    results: dict[str, list[Duration]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            duration = way()
            if turn:  # the first turn compiles the modules
                results[name].append(duration)
    return results


def memory(pid: int) -> dict[str, float]:
    """Return the memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return {"resident": sizes["VmRSS"], "anonymous": sizes["RssAnon"], "files": sizes["RssFile"]}


def say(folder: Path, ready: Ready) -> None:
    """Speak one utterance through the running daemon."""
    subprocess.run(
        [sys.executable, "-m", "agent", "say", "This is a measurement, and here is a second sentence of it."],
        cwd=ROOT,
        env=environment(folder),
        check=True,
        timeout=60,
        stderr=subprocess.DEVNULL,
    )


def resident(folder: Path, ready: Ready, seconds: float) -> dict[str, dict[str, float]]:
    """Return the memory (MiB) of an announcing daemon, without PortAudio and after PortAudio has probed the cards."""
    found = {}
    for name, device in (("speaker: none", "none"), ("speaker: default (PortAudio has probed)", "default")):
        file = folder / "memory.yaml"
        file.write_text(f"{ANNOUNCE}speaker: {{device: {device}}}\n")
        with daemon(folder, ready, ["--config", str(file)]) as (process, _):
            if device == "none":
                say(folder, ready)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds if device == "none" else min(seconds, 5.0))
                raise SystemExit("the daemon ended too early")
            found[f"{name}, after {seconds if device == 'none' else min(seconds, 5.0):g} s"] = memory(process.pid)
    return found


def probing(folder: Path) -> float:
    """Return the memory (MiB) that PortAudio's probing of the cards adds to a process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment(folder), capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout) / 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="starts of each kind (15)")
    parser.add_argument(
        "--seconds", type=float, default=600.0, help="age of the daemon when its memory is measured (600)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = Ready(folder)
        found = times(folder, ready, options.rounds)
        bare, worst = found["imports of websocket and pyaudio"], 0.0
        print(f"{'exec to':<40} {'clock':>9} {'ratio':>7} {'CPU':>9} {'ratio':>7}   ({options.rounds} each, in turns)")
        for what, took in found.items():
            line = f"{what:<40}"
            for kind in (0, 1):
                ratio = statistics.median(one[kind] / other[kind] for one, other in zip(took, bare, strict=True))
                line += f" {statistics.median(one[kind] for one in took) * 1000:6.1f} ms {ratio:7.2f}"
                worst = max(worst, ratio)
            print(line)
        sizes = resident(folder, ready, options.seconds)
        print(f"\n{'MiB':<40} {'resident':>9} {'anonymous':>9} {'files':>7}")
        for what, size in sizes.items():
            print(f"{what:<40} {' '.join(f'{value:8.1f}' for value in size.values())}")
        print(f"{'added by probing the cards':<40} {probing(folder):8.1f}")
    heaviest = next(iter(sizes.values()))["resident"]
    print(f"\nREADY within {MAX_RATIO:g} times the imports: {'yes' if worst <= MAX_RATIO else 'no'} ({worst:.2f})")
    print(f"at most {MAX_MIB:g} MiB resident: {'yes' if heaviest <= MAX_MIB else 'no'} ({heaviest:.1f})")
    return 0 if worst <= MAX_RATIO and heaviest <= MAX_MIB else 1
