"""Runs the benchmarks one after the other, in about 12 minutes on an idle machine, and writes their results to a file.

    scripts/bench all [--output bench.json] [--peers] [NAME ...]

The turns are fewer than those of a single benchmark. A benchmark that does not fit into the 15 minutes, or fails, is
named in the file and at the end. With ``--peers`` the comparison with the official SDKs follows, without this limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from scripts.benchmarks._collection import Collection
from scripts.benchmarks._report import Result, progress

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 15 * 60.0
END_SECONDS = 30.0
"""Time for a benchmark to end its processes after the limit."""
PLAN: dict[str, tuple[str, ...]] = {
    "commands": ("--rounds", "9"),
    "start": ("--rounds", "7", "--seconds", "20"),
    "turn": ("--rounds", "7"),
    "turn_end": (),
    "say": ("--count", "20"),
    "speaking": ("--rounds", "7", "--seconds", "5"),
    "idle": ("--seconds", "30"),
    "hush": ("--rounds", "9"),
    "shutdown": ("--rounds", "7"),
    "server": ("--rounds", "3"),
    "jitter": (),
    "growth": ("--seconds", "10", "100", "1000", "--utterances", "10", "100"),
    "utterances": ("--count", "2000"),
    "instructions": (),
}
"""The benchmarks and their options, in their order."""
PEERS = ("--rounds", "7")


def run(name: str, options: tuple[str, ...], seconds: float | None) -> Result | str:
    """Run one benchmark; return its result, or why there is none."""
    words = [sys.executable, str(ROOT / "scripts" / "bench"), name, *options, "--json"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.communicate(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            return f"it did not end within the remaining {seconds:.0f} s"
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            raise
    try:
        return Result.from_json(json.loads(output))
    except (ValueError, KeyError, TypeError):
        return f"it failed with {process.returncode}"


def machine() -> dict[str, str]:
    """Return what is measured, and where."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith(("model name", "Model"))]
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    version = subprocess.run(words, capture_output=True, text=True).stdout.strip() or "unknown"
    processor = f"{os.cpu_count()} x {names[0] if names else platform.machine()}"
    kernel = f"{platform.system()} {platform.release()}"
    return {"processor": processor, "system": kernel, "Python": platform.python_version(), "version": version}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench all", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"only these benchmarks ({', '.join(PLAN)})")
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="file for the results (bench.json)")
    parser.add_argument("--peers", action="store_true", help="compare with the official SDKs as well")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in PLAN:
            parser.error(f"{name} is no benchmark of this list: {', '.join(PLAN)}")
    deadline = time.monotonic() + LIMIT_SECONDS
    results: dict[str, Result] = {}
    missing: dict[str, str] = {}
    plan: list[tuple[str, tuple[str, ...], bool]] = [
        (name, words, True) for name, words in PLAN.items() if not options.names or name in options.names
    ]
    plan += [("peers", PEERS, False)] if options.peers else []
    for name, words, is_limited in plan:
        began = time.monotonic()
        found = run(name, words, max(0.0, deadline - began) if is_limited else None)
        progress(f"{name}: {time.monotonic() - began:.0f} s")
        if isinstance(found, Result):
            results[name] = found
        else:
            missing[name] = found
        # Written after each benchmark: an interrupted run keeps its results.
        Collection(machine(), results, missing).save(options.output)
    for name, result in results.items():
        for verdict in result.verdicts:
            print(f"{name}: {verdict.text()}")
    for name, reason in missing.items():
        print(f"{name}: not measured, {reason}")
    print(f"results: {options.output}")
    return 0 if Collection({}, results, missing).holds else 1
