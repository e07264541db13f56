"""Measures an idle daemon in each mode: CPU time, wakeups per second, memory, threads and descriptors.

The daemon has been started before, has spoken once and then waits. In the modes ``assistant`` and ``captions`` the
microphone is open and silent; captions send the silence to the local server, which runs in its own process. A wakeup is
a voluntary context switch of one of the daemon's threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from support.local_server import LocalServerProcess
from support.vcard import VirtualCard

from agent.daemon.outage_notice import PREPARE_SECONDS
from scripts.benchmarks._daemon import Ready, daemon
from scripts.benchmarks._processes import Size, cpu_seconds, size, wakeups, wakeups_since
from scripts.benchmarks._report import Column, Result, Table, Verdict, progress

SETTLE_SECONDS = 3.0
FIRST_SECONDS = PREPARE_SECONDS + 3.0
"""The first daemon compiles the modules, which takes 17 MiB, and speaks the sentence for an outage into a file."""
LIMITS = {"announce": (0.2, 8.0), "assistant": (1.5, 40.0), "captions": (1.5, 40.0)}
"""Percent of a core, and wakeups per second, by mode."""


def measure(mode: str, seconds: float) -> tuple[float, float, Size]:
    """Return percent of a core, wakeups per second, and the size at the end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "script.txt").write_text("one\n")
        words = ("--speech", "tone", "--recognition", "script", "--script", str(folder / "script.txt"))
        with LocalServerProcess(folder, *words) as server:
            card = VirtualCard(folder)
            config = (
                f"conversation: {{mode: {mode}}}\nmicrophone: {{device: mic}}\nspeaker: {{device: speaker}}\n"
                f"transcription: {{url: '{server.ws}/'}}\nserver: {{start: false}}\n"
                f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
            )
            ready = Ready(folder)
            with daemon(folder, ready, config, card.env) as first:
                if mode != "captions":
                    first.speak("good evening")
                time.sleep(FIRST_SECONDS)
            with daemon(folder, ready, config, card.env) as running:
                if mode != "captions":
                    running.speak("good evening")
                time.sleep(SETTLE_SECONDS)
                cpu, switches, began = cpu_seconds(running.pid), wakeups(running.pid), time.monotonic()
                time.sleep(seconds)
                took = time.monotonic() - began
                percent = 100 * (cpu_seconds(running.pid) - cpu) / took
                return percent, wakeups_since(running.pid, switches) / took, size(running.pid)


def run(seconds: float) -> Result:
    rows: list[tuple[Any, ...]] = []
    verdicts: list[Verdict] = []
    for mode, (max_percent, max_wakeups) in LIMITS.items():
        percent, per_second, its_size = measure(mode, seconds)
        progress(f"idle: {mode}, {seconds:g} s")
        rows.append((mode, percent, per_second, *its_size))
        verdicts.append(Verdict(f"{mode}: at most {max_percent:g} % of a core", max_percent, percent, mode))
        verdicts.append(Verdict(f"{mode}: at most {max_wakeups:g} wakeups/s", max_wakeups, per_second, mode))
    columns = (
        Column("CPU, % of a core"),
        Column("wakeups/s", 1),
        Column("resident, MiB", 1),
        Column("threads", 0),
        Column("descriptors", 0),
    )
    return Result([Table((f"idle ({seconds:g} s)",), columns, rows)], verdicts)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench idle", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the measurement in each mode (60)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    return run(options.seconds).show(as_json=options.json)
