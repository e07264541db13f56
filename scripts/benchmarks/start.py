"""How long the daemon takes from exec to READY, against the bare imports of its two libraries, and how big it is.

Everything is measured in one run and in turns, so that a busy machine is busy for all. Each ratio is the median of
those of all turns: of the time on the clock, and of the work, which is the time that processors had for the process
(user and system, all its threads) and which a busy machine changes less. Every process is the same interpreter with the
same compiled modules on disk. "imports" ends when ``import websocket, pyaudio`` is done, "READY" when the service
manager has been told.
"""

from __future__ import annotations

import argparse
import contextlib
import os
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

ROOT = Path(__file__).resolve().parents[2]
MOST_RATIO = 1.5
MOST_MIB = 30.0
PATIENCE_SECONDS = 30.0

BARE = "import websocket, pyaudio, os; os.write(1, b'.'); os.read(0, 1)"
PROBE = """
import pyaudio, os
def rss():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmRSS'))
before = rss()
pyaudio.PyAudio().terminate()
print(rss() - before)
"""
Took = tuple[float, float]
"""Seconds on the clock, and seconds of work."""

ANNOUNCE = "conversation: {mode: announce}\n"


class Ready:
    """The socket at which a daemon says that it is ready."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))

        self._moments: queue.SimpleQueue[float] = queue.SimpleQueue()
        # Somebody has to read all that a daemon says, or it would have to wait.
        threading.Thread(target=self._listen, daemon=True).start()

    def wait(self) -> float:
        return self._moments.get(timeout=PATIENCE_SECONDS)

    def _listen(self) -> None:
        while True:
            if b"READY=1" in self._socket.recv(4096):
                self._moments.put(time.perf_counter())


def environment(folder: Path, ready: Ready | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICE_AGENT_", "PYTHON"))}
    kept["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    kept["VOICE_AGENT_CONTROL__SOCKET"] = str(folder / "control.sock")
    kept["VOICE_AGENT_SERVER__PORT"] = "0"
    kept["STATE_DIRECTORY"] = str(folder)  # what somebody has set on this machine is nothing to measure
    if ready is not None:
        kept["NOTIFY_SOCKET"] = str(ready.path)
    return kept


@contextlib.contextmanager
def daemon(folder: Path, ready: Ready, arguments: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A daemon, and how long it took."""
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
        process.wait(PATIENCE_SECONDS)


def worked(pid: int) -> float:
    """Seconds of processor time that all threads of a process have had, from the kernel's scheduler."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def imports(folder: Path) -> Took:
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(folder)
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
        seconds = time.perf_counter() - began
        assert readable and process.stdout.read(1) == b".", "the libraries are not installed"
        took = seconds, worked(process.pid)
        process.stdin.close()
    return took


def times(folder: Path, ready: Ready, rounds: int) -> dict[str, list[Took]]:
    file = folder / "announce.yaml"
    file.write_text(ANNOUNCE)

    def started(*arguments: str) -> Callable[[], Took]:
        def run() -> Took:
            with daemon(folder, ready, list(arguments)) as (process, seconds):
                return seconds, worked(process.pid)

        return run

    ways: dict[str, Callable[[], Took]] = {
        "imports of websocket and pyaudio": lambda: imports(folder),
        "READY, defaults": started(),
        "READY, announcing, from a file": started("--config", str(file)),
    }
    found: dict[str, list[Took]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            took = way()
            if turn:  # the first writes the compiled modules
                found[name].append(took)
    return found


def memory(pid: int) -> dict[str, float]:
    """MiB, from the kernel."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return {"resident": sizes["VmRSS"], "of it its own": sizes["RssAnon"], "of it shared files": sizes["RssFile"]}


def say(folder: Path, ready: Ready) -> None:
    """One utterance, through the running daemon."""
    subprocess.run(
        [sys.executable, "-m", "agent", "say", "This is a measurement, and here is a second sentence of it."],
        cwd=ROOT,
        env=environment(folder),
        check=True,
        timeout=60,
        stderr=subprocess.DEVNULL,
    )


def resident(folder: Path, ready: Ready, seconds: float) -> dict[str, dict[str, float]]:
    """MiB of a daemon that announces: with a card's library never loaded, and with PortAudio looking for the card."""
    found = {}
    for name, device in (("speaker: none", "none"), ("speaker: default (PortAudio has probed)", "default")):
        file = folder / "memory.yaml"
        file.write_text(f"{ANNOUNCE}speaker: {{device: {device}}}\n")
        with daemon(folder, ready, ["--config", str(file)]) as (process, _):
            if device == "none":
                say(folder, ready)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds if device == "none" else min(seconds, 5.0))
                raise SystemExit("the daemon did not live that long")
            found[f"{name}, after {seconds if device == 'none' else min(seconds, 5.0):g} s"] = memory(process.pid)
    return found


def probing(folder: Path) -> float:
    """MiB that PortAudio's look at the cards adds to any process."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment(folder), capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout) / 1024


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="starts of each kind (15)")
    parser.add_argument("--seconds", type=float, default=600.0, help="how old the daemon is when it is weighed (600)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = Ready(folder)
        found = times(folder, ready, options.rounds)
        bare, worst = found["imports of websocket and pyaudio"], 0.0
        print(f"{'exec to':<40} {'clock':>9} {'ratio':>7} {'work':>9} {'ratio':>7}   ({options.rounds} each, in turns)")
        for what, took in found.items():
            line = f"{what:<40}"
            for kind in (0, 1):
                ratio = statistics.median(one[kind] / other[kind] for one, other in zip(took, bare, strict=True))
                line += f" {statistics.median(one[kind] for one in took) * 1000:6.1f} ms {ratio:7.2f}"
                worst = max(worst, ratio)
            print(line)
        sizes = resident(folder, ready, options.seconds)
        print(f"\n{'MiB':<40} {'resident':>9} {'own':>9} {'files':>7}")
        for what, size in sizes.items():
            print(f"{what:<40} {' '.join(f'{value:8.1f}' for value in size.values())}")
        print(f"{'PortAudio looking for cards adds':<40} {probing(folder):8.1f}")
    heaviest = next(iter(sizes.values()))["resident"]
    print(f"\nREADY within {MOST_RATIO:g} times the imports: {'yes' if worst <= MOST_RATIO else 'no'} ({worst:.2f})")
    print(f"at most {MOST_MIB:g} MiB resident: {'yes' if heaviest <= MOST_MIB else 'no'} ({heaviest:.1f})")
    return 0 if worst <= MOST_RATIO and heaviest <= MOST_MIB else 1
