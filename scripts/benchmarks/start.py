"""Measures the start time of the daemon, relative to the bare imports of its two libraries, and its memory.

All variants run in turns, so that a busy machine affects all of them. Each ratio is the median over the turns: of the
wall clock time, and of the CPU time (user and system, all threads), which a busy machine changes less. All processes
use the same interpreter and the same compiled modules. "imports" ends after ``import websocket, pyaudio``, "READY" with
the notification of the service manager. The memory is that of a daemon that has spoken once and then waits, and of the
shortest loop with websocket-client and PyAudio after the same speech through the same virtual card. Both have run once
before: their modules are compiled, and the parsed configuration and the sentence for an outage are on the disk.
"""

from __future__ import annotations

import argparse
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.local_server import LocalServerProcess
from support.timing import poll_until
from support.vcard import VirtualCard

from scripts.benchmarks._daemon import Ready, daemon, environment
from scripts.benchmarks._processes import cpu_seconds
from scripts.benchmarks._report import Column, Result, Table, at_most, progress
from scripts.benchmarks.speaking import LOOP, RATE

MAX_RATIO = 1.4
MAX_MEMORY_RATIO = 1.3
TIMEOUT_SECONDS = 30.0

BARE = "import websocket, pyaudio, os; os.write(1, b'.'); os.read(0, 1)"
IMPORTS = "imports of websocket and pyaudio"
BARE_LOOP = "the bare loop with PyAudio"
TEXT = "one two three four"
Duration = tuple[float, float]
"""Seconds of wall clock time and of CPU time."""


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
    def started(config: str) -> Callable[[], Duration]:
        def run() -> Duration:
            with daemon(folder, ready, config) as running:
                return running.ready_seconds, cpu_seconds(running.pid)

        return run

    ways: dict[str, Callable[[], Duration]] = {
        IMPORTS: lambda: imports(folder),
        "READY, defaults": started(""),
        "READY, announcing, from a file": started("conversation: {mode: announce}\n"),
    }
    results: dict[str, list[Duration]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            duration = way()
            if turn:  # the first turn compiles the modules
                results[name].append(duration)
        progress(f"start: turn {turn} of {rounds}")
    return results


def memory(pid: int) -> tuple[float, float, float]:
    """Return the resident, anonymous and file memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith(" kB")}
    return sizes["VmRSS"], sizes["RssAnon"], sizes["RssFile"]


def of_loop(folder: Path, server: LocalServerProcess, card: VirtualCard) -> tuple[float, float, float]:
    """Return the memory of the bare loop after it has spoken."""
    url = f"{server.ws}/speak/en?sampling_rate={RATE}"
    with subprocess.Popen(
        [sys.executable, "-c", LOOP, url, TEXT, str(RATE), "0"],
        env=environment(folder) | card.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n", "the loop failed"
        found = memory(process.pid)
        process.stdin.close()
    return found


def resident(folder: Path, ready: Ready, seconds: float) -> dict[str, tuple[float, float, float]]:
    """Return the memory of the loop, and of announcing daemons that have spoken."""
    found = {}
    with LocalServerProcess(folder, "--speech", "tone", "--recognition", "none") as server:
        card = VirtualCard(folder)
        of_loop(folder, server, card)
        found[BARE_LOOP] = of_loop(folder, server, card)
        for device in ("none", "speaker"):
            config = (
                f"conversation: {{mode: announce}}\nspeaker: {{device: {device}}}\nserver: {{start: false}}\n"
                f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
            )
            with daemon(folder, ready, config, card.env) as first:
                first.speak(TEXT)
                poll_until(lambda: any(folder.rglob("notice-*.phrase")), 0.2)
            with daemon(folder, ready, config, card.env) as running:
                running.speak(TEXT)
                progress(f"start: memory with speaker {device} after {seconds:g} s")
                time.sleep(seconds)
                found[f"the daemon, speaker: {device}, after {seconds:g} s"] = memory(running.pid)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench start", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="starts of each kind (15)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="age of the daemon when its memory is measured (60)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = Ready(folder)
        found = times(folder, ready, options.rounds)
        sizes = resident(folder, ready, options.seconds)
    rows: list[tuple[Any, ...]] = []
    ratios: dict[str, float] = {}
    for what, took in found.items():
        row: list[Any] = [what]
        for kind, unit in enumerate(("clock", "CPU")):
            ratio = statistics.median(one[kind] / other[kind] for one, other in zip(took, found[IMPORTS], strict=True))
            row += [statistics.median(one[kind] for one in took) * 1000, ratio]
            ratios[f"{what}, {unit}"] = ratio
        rows.append(tuple(row))
    bare = sizes[BARE_LOOP][0]
    memory_ratios = {what: size[0] / bare for what, size in sizes.items()}
    columns = (Column("clock, ms", 1), Column("clock ratio"), Column("CPU, ms", 1), Column("CPU ratio"))
    memory_columns = (*(Column(f"{kind}, MiB", 1) for kind in ("resident", "anonymous", "files")), Column("ratio"))
    return Result(
        [
            Table((f"exec to ({options.rounds} turns)",), columns, rows),
            Table(("memory of",), memory_columns, [(what, *size, memory_ratios[what]) for what, size in sizes.items()]),
        ],
        [
            at_most(f"READY at most {MAX_RATIO:g} times the imports", MAX_RATIO, ratios),
            at_most(f"at most {MAX_MEMORY_RATIO:g} times the memory of the loop", MAX_MEMORY_RATIO, memory_ratios),
        ],
    ).show(as_json=options.json)
