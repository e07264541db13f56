"""Measures the local speech server: first audio and speed of its real engines, with 1, 4, 8 and 16 clients at once.

All clients of a round send the same long sentence at the same moment and read as fast as they can. For recognition they
send the sound of a short sentence at once.

- *first*: time from the request to the first audio of a client, or to its last final transcript;
- *fair*: the largest *first* relative to the mean of all clients of its round; with a fair order the last client
  waits at most twice as long as the mean;
- *factor*: duration of all audio of a round by its time: how many clients the engine serves in real time.
"""

from __future__ import annotations

import argparse
import base64
import functools
import importlib.util
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support.local_server import LocalServerProcess
from websockets.sync.client import connect

from scripts.benchmarks._report import Column, Result, Table, at_most, progress

ENGINES = {"flite": "flite", "espeak": "espeak-ng"}
"""The real engines for speech and the program that each needs."""

RECOGNIZER = "moonshine"
RECOGNIZED = "What time is it, and what is the weather today?"
FRAME_BYTES = 3200

CLIENTS = (1, 4, 8, 16)
MAX_FAIR_RATIO = 2.0
RATE = 16000
TIMEOUT_SECONDS = 120.0
TEXT = (
    "The quick brown fox, which had been sleeping under the old oak tree since early morning, suddenly jumped over the "
    "lazy dog and disappeared into the dark forest behind the house."
)


class Answer(NamedTuple):
    """One client of one round: seconds from the request to its first audio or last final, and seconds of its audio."""

    first: float
    audio: float


class Row(NamedTuple):
    """One engine with one number of clients, over all rounds."""

    engine: str
    clients: int
    first: float
    worst: float
    fair: float
    factor: float


Ask = Callable[[LocalServerProcess, threading.Barrier, list[Answer]], None]


def speak(server: LocalServerProcess, text: str, start: threading.Barrier | None = None) -> tuple[float, bytes]:
    """Let the server speak a text once; return the seconds to the first audio, and the audio."""
    with connect(f"{server.ws}/speak/en?sampling_rate={RATE}") as client:
        if start is not None:
            start.wait(TIMEOUT_SECONDS)
        began, first, pcm = time.perf_counter(), 0.0, bytearray()
        client.send(f"{text} <STOP>")
        while not (data := json.loads(client.recv(timeout=TIMEOUT_SECONDS))["data"])["stop"]:
            pcm += base64.b64decode(data["audio"])
            first = first or time.perf_counter() - began
        return first, bytes(pcm)


def ask(server: LocalServerProcess, start: threading.Barrier, answers: list[Answer]) -> None:
    """Let the server speak the text once."""
    first, pcm = speak(server, TEXT, start)
    answers.append(Answer(first, len(pcm) / 2 / RATE))


def recognize(pcm: bytes, server: LocalServerProcess, start: threading.Barrier, answers: list[Answer]) -> None:
    """Let the server recognize the sound once."""
    with connect(f"{server.ws}/") as client:
        start.wait(TIMEOUT_SECONDS)
        began, last = time.perf_counter(), 0.0
        for at in range(0, len(pcm), FRAME_BYTES):
            client.send(pcm[at : at + FRAME_BYTES])
        client.send("eof")
        for message in client:
            if str(message).startswith("{") and json.loads(message).get("text"):
                last = time.perf_counter() - began
        if last:
            answers.append(Answer(last, len(pcm) / 2 / RATE))


def one_round(server: LocalServerProcess, clients: int, act: Ask = ask) -> tuple[list[Answer], float]:
    """Return the answers of all clients and the seconds until the last one was complete."""
    answers: list[Answer] = []
    start = threading.Barrier(clients + 1)
    threads = [threading.Thread(target=act, args=(server, start, answers)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    start.wait(TIMEOUT_SECONDS)
    began = time.perf_counter()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    if len(answers) != clients:
        raise SystemExit(f"only {len(answers)} of {clients} clients have an answer")
    return answers, time.perf_counter() - began


def measure(server: LocalServerProcess, engine: str, clients: int, rounds: int, act: Ask = ask) -> Row:
    """Measure one engine with one number of clients; the rounds are medians, ``worst`` is the maximum."""
    firsts: list[float] = []
    fair: list[float] = []
    factors: list[float] = []
    for _ in range(rounds):
        answers, seconds = one_round(server, clients, act)
        times = [answer.first for answer in answers]
        firsts += times
        fair.append(max(times) / statistics.fmean(times))
        factors.append(sum(answer.audio for answer in answers) / seconds)
    medians = [statistics.median(values) for values in (firsts, fair, factors)]
    return Row(engine, clients, medians[0], max(firsts), medians[1], medians[2])


def result(rows: list[Row]) -> Result:
    """Return the table and the verdict on the order of the clients."""
    columns = (Column("first, s", 3), Column("worst, s", 3), Column("fair"), Column("factor", 1))
    table = Table(("engine", "clients"), columns, [(row.engine, str(row.clients), *row[2:]) for row in rows])
    fair = {f"{row.engine}, {row.clients} clients": row.fair for row in rows}
    verdicts = [at_most("no client waits more than twice its fair share", MAX_FAIR_RATIO, fair)] if rows else []
    return Result([table], verdicts)


def recognition(rounds: int) -> list[Row]:
    """Measure the recognizer with the sound of the first engine for speech that is installed."""
    engine = next((engine for engine, program in ENGINES.items() if shutil.which(program)), None)
    if engine is None or importlib.util.find_spec(f"{RECOGNIZER}_voice") is None:
        progress(
            f"server: {RECOGNIZER} is not measured, the extra recognition or an engine for speech is not installed"
        )
        return []
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory() as name,
        LocalServerProcess(Path(name), "--speech", engine, "--recognition", RECOGNIZER) as server,
    ):
        act = functools.partial(recognize, speak(server, RECOGNIZED)[1])
        one_round(server, 1, act)  # loads the model
        for clients in CLIENTS:
            rows.append(measure(server, RECOGNIZER, clients, rounds, act))
            progress(f"server: {RECOGNIZER}, {clients} clients")
    return rows


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench server", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each kind (7)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for engine, program in ENGINES.items():
        if shutil.which(program) is None:
            progress(f"server: {engine} is not measured, the program {program} is not installed")
            continue
        with tempfile.TemporaryDirectory() as name:
            words = ("--speech", engine, "--recognition", "none")
            with LocalServerProcess(Path(name), *words) as server:
                one_round(server, 1)  # imports and the page cache
                for clients in CLIENTS:
                    rows.append(measure(server, engine, clients, options.rounds))
                    progress(f"server: {engine}, {clients} clients")
    rows += recognition(options.rounds)
    return result(rows).show(as_json=options.json)
