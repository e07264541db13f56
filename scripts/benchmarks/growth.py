"""Measures whether memory, threads and descriptors grow with the length of the work.

- *say*: ``voice-agent say --output -`` with 10, 100 and 1000 s of speech at full pace, peak of the process;
- *transcribe*: ``voice-agent transcribe`` with 10, 100 and 1000 s of audio at full pace, peak of the process;
- *daemon*: an announcing daemon after 10, 100 and 1000 utterances of one word through the virtual card.

``scripts/bench utterances`` measures thousands of utterances without a card.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.local_server import LocalServerProcess
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.server.tts import tone
from scripts.benchmarks._daemon import ROOT, TIMEOUT_SECONDS, Ready, daemon, environment
from scripts.benchmarks._processes import Size, size
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

LENGTHS = (10, 100, 1000)
MAX_MIB = 4.0
"""Largest growth of the memory from the first row of a kind to its last."""
MAX_OBJECTS = 3
"""The same for threads and descriptors: a connection in standby may exist or not, and one may be closing."""
SAMPLE_SECONDS = 0.05
WARM_UP_UTTERANCES = 40
"""Until every module is imported and the caches of the allocator and of SQLite are full."""


def peak(words: Sequence[str], folder: Path, text: str = "") -> Size:
    """Run a command to its end; return its peak memory and its largest numbers of threads and descriptors."""
    found: list[Size] = []
    over = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-m", "agent", *words],
        cwd=ROOT,
        env=environment(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:

        def sample() -> None:
            while not over.wait(SAMPLE_SECONDS):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    found.append(size(process.pid, peak=True))

        sampler = threading.Thread(target=sample)
        sampler.start()
        _, errors = process.communicate(text.encode())
        over.set()
        sampler.join()
    if process.returncode or not found:
        raise SystemExit(f"voice-agent {words[0]} failed: {errors.decode()[-2000:]}")
    return Size(*(max(each) for each in zip(*found, strict=True)))


def of_say(server: LocalServerProcess, folder: Path, seconds: int) -> Size:
    text = "word " * round(seconds / tone.WORD_SECONDS)
    (folder / "local.yaml").write_text(
        f"server: {{start: false}}\nsynthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
    )
    return peak(["say", "--config", f"{folder}/local.yaml", "--output", "-", "-"], folder, text)


def of_transcribe(server: LocalServerProcess, folder: Path, seconds: int) -> Size:
    (folder / "listen.yaml").write_text(f"server: {{start: false}}\ntranscription: {{url: '{server.ws}/'}}\n")
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SPEECH.rate)
        file.writeframes(tone.pcm("word " * round(seconds / tone.WORD_SECONDS), SPEECH.rate))
    return peak(["transcribe", "--config", f"{folder}/listen.yaml", f"{folder}/talk.wav"], folder)


def of_daemon(server: LocalServerProcess, folder: Path, counts: Sequence[int]) -> dict[int, Size]:
    """Return the size of the daemon after each number of utterances."""
    found: dict[int, Size] = {}
    config = (
        "conversation: {mode: announce}\nspeaker: {device: speaker}\nserver: {start: false}\n"
        f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
    )
    card = VirtualCard(folder)
    with daemon(folder, Ready(folder), config, card.env) as running:
        client = running.connect()
        for number in range(1 - WARM_UP_UTTERANCES, max(counts) + 1):
            client.say("yes")
            if (state := client.wait(TIMEOUT_SECONDS)) != "played":
                raise SystemExit(f"an utterance was {state}: {running.log()}")
            if number in counts:
                found[number] = size(running.pid)
                progress(f"growth: {number} of {max(counts)} utterances")
    return found


def run(seconds: Sequence[int], utterances: Sequence[int]) -> Result:
    found: dict[str, dict[int, Size]] = {"say, s": {}, "transcribe, s": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "script.txt").write_text("one two three\n" * 2000)
        words = ("--speech", "tone", "--recognition", "script", "--script", str(folder / "script.txt"))
        with LocalServerProcess(folder, *words) as server:
            of_say(server, folder, 1)  # compiles the modules
            of_transcribe(server, folder, 1)
            for length in seconds:
                found["say, s"][length] = of_say(server, folder, length)
                found["transcribe, s"][length] = of_transcribe(server, folder, length)
                progress(f"growth: {length} of {max(seconds)} s")
            found["daemon, utterances"] = of_daemon(server, folder, utterances)
    rows: list[tuple[Any, ...]] = [
        (kind, str(length), *its_size) for kind, sizes in found.items() for length, its_size in sizes.items()
    ]
    mib, threads, descriptors = (
        {kind: sizes[max(sizes)][field] - sizes[min(sizes)][field] for kind, sizes in found.items()}
        for field in range(3)
    )
    columns = (Column("memory, MiB", 1), Column("threads", 0), Column("descriptors", 0))
    return Result(
        [Table(("work", "length"), columns, rows)],
        [
            at_most(f"memory grows by at most {MAX_MIB:g} MiB", MAX_MIB, mib),
            at_most("no thread is left", MAX_OBJECTS, threads),
            at_most("no descriptor is left", MAX_OBJECTS, descriptors),
        ],
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench growth", description=(__doc__ or "").split("\n")[0])
    lengths = " ".join(map(str, LENGTHS))
    parser.add_argument("--seconds", type=int, nargs="+", default=LENGTHS, help=f"seconds of speech ({lengths})")
    parser.add_argument("--utterances", type=int, nargs="+", default=LENGTHS, help=f"utterances ({lengths})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    return run(options.seconds, options.utterances).show(as_json=options.json)
