"""Compares ``voice-agent say --output -`` with the services' own SDKs and a bare websocket-client loop.

Every program speaks the same text through the local server with the exact engine and writes the audio to a pipe. All
programs run in turns, so that a busy machine affects all of them. The ratios are medians over the turns, to the bare
loop. "first byte" and "last byte" are the times from the server's write of a chunk to the reader of the pipe, median
over the chunks; the chunks come at real-time pace. "first request" is the time from exec to the text at the server.
"CPU" is user and system time per minute of audio, at full pace and with start and end of the program included.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
from _processes import clean_environment

from agent.server.listener import Listener
from agent.server.options import ServerOptions, parse
from agent.server.stt import registry as stt_registry
from agent.server.stt.engine import SttOptions
from agent.server.tts import registry as tts_registry
from agent.server.tts.tone import WORD_SECONDS
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Message
from agent.system.threads import Deadline

ROOT = Path(__file__).resolve().parents[2]
DRIVERS = Path(__file__).resolve().parent / "peers_drivers"
TIMEOUT_SECONDS = 120.0
PACED_WORDS, FULL_WORDS = 30, 300
HEADER_BYTES = 44
SDKS = {
    "neuphonic": "pyneuphonic==3.1.2",
    "playai": "pyht==0.1.14",
    "vachana": "gnani-vachana==0.8.2",
    "fish": "fish-audio-sdk==1.3.0",
}
PATHS = {
    "neuphonic": "/speak/en",
    "playai": "/api/v1/tts/websocket-auth",
    "vachana": "/api/v1/tts",
    "fish": "/v1/tts/live",
}
LIMITS = {"CPU": 1.5, "first byte": 2.0, "last byte": 2.0, "first request": 1.5, "memory": 1.4}
"""The largest ratio to the bare loop for each metric."""


class Run(NamedTuple):
    """One run of one program. Times in seconds, memory in bytes."""

    cpu_per_minute: float
    first_byte: float
    last_byte: float
    first_request: float
    memory: float


class Recorder(WireLog):
    """Records the times of texts and of audio messages in place of a wire log. Thread-safe."""

    def __init__(self) -> None:
        super().__init__(None)
        self.request_at: float | None = None
        self.chunks: list[tuple[float, int]] = []

    def clear(self) -> None:
        self.request_at, self.chunks = None, []

    def message(
        self, connection: int, service: str, direction: str, message: Message, events: Iterable[Any] = ()
    ) -> None:
        now = time.perf_counter()
        if direction == "in":
            self.request_at = self.request_at or now
        elif size := audio_bytes(message):
            self.chunks.append((now, size))


def audio_bytes(message: Message) -> int:
    """Return the number of bytes of audio in a message of a server, without a RIFF header."""
    audio = message
    if isinstance(message, str):
        data = json.loads(message).get("data")
        audio = base64.b64decode(data.get("audio") or "") if isinstance(data, dict) else b""
    elif message[:1] in (b"\x82", b"\x83", b"\x84"):  # a msgpack map
        audio = msgpack.unpackb(message).get("audio", b"")
    return len(audio) - (HEADER_BYTES if audio[:4] == b"RIFF" else 0)


class Server:
    """The local server in this process, with the exact engine. Not thread-safe."""

    def __init__(self, *arguments: str) -> None:
        self.recorder = Recorder()
        options: ServerOptions = parse(["--port", "0", "--speech", "tone", "--recognition", "none", *arguments])
        engine = stt_registry.create("none", SttOptions(None, None))
        self._listener = Listener(options, tts_registry.create("tone"), engine, self.recorder)
        self.port = self._listener.address[1]

    def stop(self) -> None:
        self._listener.stop(Deadline(1.0), Deadline(2.0))


class Program(NamedTuple):
    """A program to measure."""

    name: str
    words: list[str]
    environment: dict[str, str]


def programs(service: str, port: int, text: str, folder: Path, sdk: Path | None) -> list[Program]:
    environment = clean_environment(folder)
    found = [Program("bare loop", [sys.executable, str(DRIVERS / "bare.py"), service, str(port), text], environment)]
    if sdk is not None:
        words = [str(sdk / "bin" / "python"), str(DRIVERS / f"{service}.py"), str(port), text]
        found.append(Program(SDKS[service].replace("==", " "), words, environment))
    section = f"VOICE_AGENT_SYNTHESIS__{service.upper()}__"
    url = (
        f"http://127.0.0.1:{port}{PATHS[service]}" if service == "playai" else f"ws://127.0.0.1:{port}{PATHS[service]}"
    )
    key = "AUTH_URL" if service == "playai" else "URL"
    ours = environment | {f"{section}{key}": url, f"{section}API_KEY": "key"}
    if service == "playai":
        ours[f"{section}USER_ID"] = "a user"
    words = [sys.executable, "-m", "agent", "say", "--service", service, "--output", "-", text]
    found.append(Program("voice-agent", words, ours))
    return found


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory; 0 after the end. ``ru_maxrss`` would include this process before the exec."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def measure(program: Program, server: Server, service: str) -> Run:
    """Run one program to its end."""
    server.recorder.clear()
    began = time.perf_counter()
    arrivals: list[tuple[float, int]] = []
    with subprocess.Popen(
        program.words, cwd=ROOT, env=program.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        killer = threading.Timer(TIMEOUT_SECONDS, process.kill)
        killer.start()
        total, head, descriptor, memory = 0, b"", process.stdout.fileno(), 0
        while data := os.read(descriptor, 1 << 20):
            head = head or data[:4]
            total += len(data)
            arrivals.append((time.perf_counter(), total))
            memory = peak_bytes(process.pid) or memory
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        killer.cancel()
        if process.returncode:
            raise SystemExit(f"{program.name} ({service}) failed: {process.stderr.read().decode()[-2000:]}")
    offset = HEADER_BYTES if head == b"RIFF" else 0
    sent = sum(size for _, size in server.recorder.chunks)
    if total - offset != sent:
        raise SystemExit(f"{program.name} ({service}) wrote {total - offset} of {sent} bytes")
    firsts, lasts, at = [], [], offset
    steps = iter(arrivals)
    moment, reached = next(steps)
    for sent_at, size in server.recorder.chunks:
        while reached <= at:
            moment, reached = next(steps)
        firsts.append(moment - sent_at)
        at += size
        while reached < at:
            moment, reached = next(steps)
        lasts.append(moment - sent_at)
    minutes = len(program.words[-1].split()) * WORD_SECONDS / 60
    assert server.recorder.request_at is not None
    return Run(
        (usage.ru_utime + usage.ru_stime) / minutes,
        statistics.median(firsts),
        statistics.median(lasts),
        server.recorder.request_at - began,
        memory,
    )


def install(service: str) -> Path | str:
    """Return the environment of a service's SDK, made once; or why it cannot be installed."""
    folder = ROOT / ".sdk" / f"bench-{SDKS[service].replace('==', '-')}"
    if (folder / "complete").exists():
        return folder
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], capture_output=True, text=True)
    if not made.returncode:
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        made = subprocess.run([*pip, SDKS[service]], capture_output=True, text=True)
    if made.returncode:
        return made.stderr.strip().splitlines()[-1] if made.stderr.strip() else "pip failed"
    (folder / "complete").touch()
    return folder


METRICS = {
    "CPU": ("cpu_per_minute", 1.0, "s/min"),
    "first byte": ("first_byte", 1e3, "ms"),
    "last byte": ("last_byte", 1e3, "ms"),
    "first request": ("first_request", 1e3, "ms"),
    "memory": ("memory", 1 / 2**20, "MiB"),
}


def compare(service: str, folder: Path, rounds: int, sdk: Path | None) -> list[dict[str, Any]]:
    """Return one row for each program."""
    paced, full = Server("--pace", "1.0"), Server()
    try:
        slow = programs(service, paced.port, " ".join(["word"] * PACED_WORDS), folder, sdk)
        fast = programs(service, full.port, " ".join(["word"] * FULL_WORDS), folder, sdk)
        runs: dict[str, list[Run]] = {program.name: [] for program in slow}
        for turn in range(rounds + 1):
            for timed, loaded in zip(slow, fast, strict=True):
                one, other = measure(timed, paced, service), measure(loaded, full, service)
                if turn:  # the first turn compiles the modules
                    runs[timed.name].append(one._replace(cpu_per_minute=other.cpu_per_minute, memory=other.memory))
            print(f"{service}: turn {turn} of {rounds}", file=sys.stderr, flush=True)
    finally:
        paced.stop()
        full.stop()
    rows = []
    for name, found in runs.items():
        row: dict[str, Any] = {"service": service, "program": name}
        for metric, (field, factor, _) in METRICS.items():
            values = [getattr(run, field) for run in found]
            bare = [getattr(run, field) for run in runs["bare loop"]]
            row[metric] = statistics.median(values) * factor
            row[f"{metric} ratio"] = statistics.median(a / b for a, b in zip(values, bare, strict=True))
        rows.append(row)
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[tuple[str, bool, str]]:
    """Return for each metric whether voice-agent is within the limit and below every SDK, and the worst row."""
    found = []
    for metric, limit in LIMITS.items():
        worst, holds = (0.0, ""), True
        for service in {row["service"] for row in rows}:
            of_service = {row["program"]: row for row in rows if row["service"] == service}
            ours = of_service["voice-agent"]
            worst = max(worst, (ours[f"{metric} ratio"], service))
            peers = [row[metric] for name, row in of_service.items() if name not in ("voice-agent", "bare loop")]
            below = metric == "memory" or all(ours[metric] < peer for peer in peers)
            holds = holds and ours[f"{metric} ratio"] <= limit and below
        found.append((metric, holds, f"worst {worst[0]:.2f} ({worst[1]}), at most {limit:g}"))
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns (7)")
    parser.add_argument("--service", choices=tuple(SDKS), action="append", help="only this service")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for service in options.service or SDKS:
            sdk = install(service)
            if isinstance(sdk, str):
                print(f"{SDKS[service]} cannot be installed: {sdk}", file=sys.stderr)
            rows += compare(service, Path(name), options.rounds, sdk if isinstance(sdk, Path) else None)
    judged = verdicts(rows)
    if options.json:
        print(json.dumps({"rows": rows, "verdicts": judged}))
    else:
        print(
            "| service | program | " + " | ".join(f"{metric}, {unit}" for metric, (*_, unit) in METRICS.items()) + " |"
        )
        print("|---" * (2 + len(METRICS)) + "|")
        for row in rows:
            cells = (f"{row[metric]:.2f} ({row[f'{metric} ratio']:.2f})" for metric in METRICS)
            print(f"| {row['service']} | {row['program']} | {' | '.join(cells)} |")
        print()
        for metric, holds, text in judged:
            print(f"{metric}: {'yes' if holds else 'no'} ({text} times the bare loop)")
    return 0 if all(holds for _, holds, _ in judged) else 1
