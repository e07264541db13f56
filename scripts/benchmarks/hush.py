"""Measures how soon the card is silent after a request to cancel all speech.

The daemon speaks through the virtual card, which reports the end of what it has played. *socket*: from the request at
the control socket. *command*: from the exec of ``voice-agent hush``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.local_server import LocalServerProcess

from scripts.benchmarks._card import TimedCard
from scripts.benchmarks._daemon import ROOT, TIMEOUT_SECONDS, Daemon, Ready, Speech, daemon, environment
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

MAX_SECONDS = 0.05
"""Largest time from the request at the socket to silence."""
SPEECH_SECONDS = 0.5
TEXT = "word " * 100


def hushed(running: Daemon, client: Speech, card: TimedCard, folder: Path, *, by_command: bool) -> float:
    """Speak, cancel, and return the seconds from the request to silence."""
    client.say(TEXT)
    card.wait("play")
    time.sleep(SPEECH_SECONDS)
    began = time.perf_counter()
    if by_command:
        words = [sys.executable, "-m", "agent", "hush"]
        subprocess.run(words, cwd=ROOT, env=environment(folder), check=True, timeout=TIMEOUT_SECONDS)
    else:
        client.hush()
    seconds = card.wait("stop") - began
    if (state := client.wait()) != "cancelled":
        raise SystemExit(f"the utterance was not cancelled but {state}: {running.log()}")
    return seconds


def run(rounds: int) -> Result:
    found: dict[str, list[float]] = {"socket": [], "command": []}
    with (
        tempfile.TemporaryDirectory() as name,
        LocalServerProcess(Path(name), "--speech", "tone", "--recognition", "none", "--pace", "2") as server,
    ):
        folder = Path(name)
        card = TimedCard(folder)
        config = (
            "conversation: {mode: announce}\nspeaker: {device: speaker}\nserver: {start: false}\n"
            f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
        )
        with daemon(folder, Ready(folder), config, card.env) as running:
            for turn in range(rounds + 1):
                for way, times in found.items():
                    # A connection of its own, so that only its utterance answers.
                    client = running.connect()
                    seconds = hushed(running, client, card, folder, by_command=way == "command")
                    if turn:  # the first turn compiles the modules
                        times.append(seconds)
                progress(f"hush: turn {turn} of {rounds}")
        card.close()
    rows = [(way, statistics.median(times) * 1000, max(times) * 1000) for way, times in found.items()]
    claim = f"silence within {MAX_SECONDS * 1000:g} ms of the request at the socket"
    return Result(
        [Table((f"hush ({rounds} turns), from",), (Column("silence, ms", 1), Column("worst, ms", 1)), rows)],
        [at_most(claim, MAX_SECONDS * 1000, {"socket": rows[0][1]})],
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench hush", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns (15)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    return run(options.rounds).show(as_json=options.json)
