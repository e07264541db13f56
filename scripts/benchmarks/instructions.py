"""Counts instructions with valgrind, and estimates from them the CPU time on a Raspberry Pi 4 and a Zero 2 W.

The count is of x86-64 instructions in user space. It does not depend on the load of this machine. The estimates assume
that Python code runs 0.8 billion instructions per second on a Raspberry Pi 4 and 0.4 billion on a Zero 2 W; a core of a
server runs four to six billion. Per minute of speech: the difference of two lengths, so that the start does not count.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import wave
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.local_server import LocalServerProcess

from agent.audio.format import SPEECH
from agent.server.tts import tone
from scripts.benchmarks._daemon import ROOT, Ready, daemon, environment
from scripts.benchmarks._report import Column, Result, Table, progress

RATES = {"Pi 4": 0.8e9, "Zero 2 W": 0.4e9}
"""Assumed instructions per second of one core."""
VALGRIND = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
COUNT = re.compile(r"I\s+refs:\s+([\d,]+)")
SHORT_WORDS, LONG_WORDS = 20, 320
TIMEOUT_SECONDS = 300.0


def count(words: Sequence[str], folder: Path, text: str = "", ready: Ready | None = None) -> int:
    """Run a Python command to its end, or to READY and SIGTERM; return its instructions."""
    with (folder / "valgrind.log").open("w+") as log:
        process = subprocess.Popen(
            [*VALGRIND, sys.executable, *words],
            cwd=ROOT,
            env=environment(folder, ready),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        if ready is not None:
            ready.wait(process)
            process.send_signal(signal.SIGTERM)
        process.communicate(text.encode(), TIMEOUT_SECONDS)
        log.seek(0)
        output = log.read()
    found = COUNT.search(output)
    if process.returncode or found is None:
        raise SystemExit(f"{' '.join(words)} failed: {output[-2000:]}")
    return int(found[1].replace(",", ""))


def warm_up(commands: Sequence[Sequence[str]], folder: Path) -> None:
    """Run Python commands without counting, so that their modules are compiled."""
    for words in commands:
        subprocess.run([sys.executable, *words], cwd=ROOT, env=environment(folder), check=True, capture_output=True)


def per_minute(run: Callable[[int], int]) -> float:
    """Return the instructions per minute of speech, for a function that counts a number of words."""
    seconds = (LONG_WORDS - SHORT_WORDS) * tone.WORD_SECONDS
    return (run(LONG_WORDS) - run(SHORT_WORDS)) * 60 / seconds


def measure() -> dict[str, float]:
    """Return the instructions of each kind of work."""
    agent = ["-m", "agent"]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "script.txt"
        script.write_text("one two three\n" * 1000)
        arguments = ("--speech", "tone", "--recognition", "script", "--script", str(script))
        with LocalServerProcess(folder, *arguments) as server:
            config = folder / "bench.yaml"
            config.write_text(
                "conversation: {mode: announce}\nspeaker: {device: none}\nserver: {start: false}\n"
                f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
                f"transcription: {{url: '{server.ws}/'}}\n"
            )

            def say(words: int) -> int:
                text = "word " * words
                return count([*agent, "say", "--config", str(config), "--output", "-", "-"], folder, text)

            def transcribe(words: int) -> int:
                with wave.open(f"{folder}/talk.wav", "wb") as file:
                    file.setnchannels(1)
                    file.setsampwidth(2)
                    file.setframerate(SPEECH.rate)
                    file.writeframes(tone.pcm("word " * words, SPEECH.rate))
                return count([*agent, "transcribe", "--config", str(config), f"{folder}/talk.wav"], folder)

            warm_up([[*agent, "say", "--config", str(config), "--output", "-", "one"]], folder)
            warm_up([[*agent, "transcribe", "--help"], ["-c", "import pyaudio"]], folder)
            ready = Ready(folder)
            works: dict[str, Callable[[], float]] = {
                "imports of websocket and pyaudio": lambda: count(["-c", "import websocket, pyaudio"], folder),
                "start and stop of the daemon": lambda: count(
                    [*agent, "run", "--config", str(config)], folder, ready=ready
                ),
                "say into a file, per minute of speech": lambda: per_minute(say),
                "transcribe a file, per minute of speech": lambda: per_minute(transcribe),
            }
            for work, run in works.items():
                found[work] = run()
                progress(f"instructions: {work}")
            with daemon(folder, ready, config.read_text()):
                warm_up([[*agent, "hush"]], folder)
                found["hush with a running daemon"] = count([*agent, "hush"], folder)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench instructions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed. Type: sudo apt install valgrind")
    columns = (Column("million instructions", 0), *(Column(f"{name}, CPU s (estimated)") for name in RATES))
    rows: list[tuple[Any, ...]] = [
        (work, number / 1e6, *(number / rate for rate in RATES.values())) for work, number in measure().items()
    ]
    return Result([Table(("work",), columns, rows)]).show(as_json=options.json)
