"""Measures from exec until the running daemon has the request of a command, relative to a bare Python socket client.

A peer at the control socket takes the place of the daemon: it reads the first line, takes the time and the CPU time
of its client from the kernel, and answers. All ways run in turns, so that a busy machine affects all of them. Each
ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scripts.benchmarks._processes import clean_environment, cpu_seconds
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

ROOT = Path(__file__).resolve().parents[2]
MAX_RATIO = 1.6
TIMEOUT_SECONDS = 30.0

BARE = """
import json, socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(json.dumps(json.loads(sys.argv[2])).encode() + b"\\n")
client.makefile().readline()
"""
TEXT = "The museum closes in ten minutes."
SAY = {"jsonrpc": "2.0", "id": 1, "method": "say", "params": {"text": TEXT, "wait": True}}
ANSWERS = {
    "say": b'{"jsonrpc": "2.0", "id": 1, "result": {"id": "1"}}\n'
    b'{"jsonrpc": "2.0", "method": "ended", "params": {"id": "1", "state": "played"}}\n',
    "hush": b'{"jsonrpc": "2.0", "id": 1, "result": {}}\n',
    "status": b'{"jsonrpc": "2.0", "id": 1, "result": {"status": "ready"}}\n',
}


class HandOver(NamedTuple):
    """From exec to the complete request, in seconds."""

    clock: float
    cpu: float


def measure(listener: socket.socket, words: Sequence[str], answer: bytes, environment: dict[str, str]) -> HandOver:
    """Run one command until it has handed over its request."""
    began = time.perf_counter()
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        peer, _ = listener.accept()
        peer.settimeout(TIMEOUT_SECONDS)
        with peer:
            data = b""
            while not data.endswith(b"\n"):
                piece = peer.recv(65536)
                assert piece, "the command ended without a request"
                data += piece
            took = time.perf_counter() - began
            pid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            cpu = cpu_seconds(pid)
            peer.sendall(answer)
            assert process.wait(TIMEOUT_SECONDS) == 0
    return HandOver(took, cpu)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench commands", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="turns (15)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listener:
        path = os.path.join(name, "control.sock")
        listener.bind(path)
        listener.listen()
        listener.settimeout(TIMEOUT_SECONDS)
        environment = clean_environment(Path(name)) | {"RUNTIME_DIRECTORY": name}
        agent = [sys.executable, "-m", "agent"]
        ways = {
            "a bare socket client": ([sys.executable, "-c", BARE, path, json.dumps(SAY)], ANSWERS["say"]),
            "voice-agent say": ([*agent, "say", TEXT], ANSWERS["say"]),
            "voice-agent hush": ([*agent, "hush"], ANSWERS["hush"]),
            "voice-agent status": ([*agent, "status"], ANSWERS["status"]),
        }
        found: dict[str, list[HandOver]] = {way: [] for way in ways}
        for turn in range(options.rounds + 1):
            for way, (words, answer) in ways.items():
                took = measure(listener, words, answer, environment)
                if turn:  # the first turn compiles the modules
                    found[way].append(took)
            progress(f"commands: turn {turn} of {options.rounds}")
    bare = found["a bare socket client"]
    rows: list[tuple[Any, ...]] = []
    ratios: dict[str, float] = {}
    for way, took in found.items():
        row: list[Any] = [way]
        for kind, unit in enumerate(("clock", "CPU")):
            ratio = statistics.median(one[kind] / other[kind] for one, other in zip(took, bare, strict=True))
            row += [statistics.median(one[kind] for one in took) * 1000, ratio]
            ratios[f"{way}, {unit}"] = ratio
        rows.append(tuple(row))
    columns = (Column("clock, ms", 1), Column("clock ratio"), Column("CPU, ms", 1), Column("CPU ratio"))
    return Result(
        [Table((f"exec to handed over ({options.rounds} turns)",), columns, rows)],
        [at_most(f"at most {MAX_RATIO:g} times the bare client", MAX_RATIO, ratios)],
    ).show(as_json=options.json)
