"""Compares ``voice-agent say --output -`` with the services' own SDKs and a bare websocket-client loop.

``C`` is a program in C for this purpose only: the lower bound on this machine. It leaves PlayAI's authorization out.
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
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import msgpack

from agent.server.tts.tone import WORD_SECONDS
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Message
from scripts.benchmarks._picture import draw
from scripts.benchmarks._processes import clean_environment
from scripts.benchmarks._report import Column, Result, Table, Verdict, at_most, progress
from scripts.benchmarks._server import Server

ROOT = Path(__file__).resolve().parents[2]
DRIVERS = Path(__file__).resolve().parent / "peers_drivers"
TIMEOUT_SECONDS = 120.0
PACED_WORDS, FULL_WORDS = 30, 300
HEADER_BYTES = 44
PROGRAMS = 4
OVERHEAD_SECONDS = 2.0
"""Start and end of a program, and its run at full pace."""
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
FLOOR_ENDS = {"neuphonic": '"stop": true', "playai": '"end"', "vachana": '"complete"', "fish": "finish"}
"""What the last message of a session contains."""
BARE, FLOOR, OURS = "bare loop", "C", "voice-agent"
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


class Program(NamedTuple):
    """A program to measure; it speaks ``word_count`` words."""

    name: str
    words: list[str]
    environment: dict[str, str]
    word_count: int


def compile_floor(folder: Path) -> Path | str:
    """Return the compiled C floor, or why it cannot be compiled."""
    compiled = folder / "floor"
    words = ["gcc", "-O2", "-o", str(compiled), str(DRIVERS / "floor.c")]
    try:
        made = subprocess.run(words, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return made.stderr.strip().splitlines()[-1] if made.returncode else compiled


def floor_request(service: str, port: int, text: str) -> bytes:
    """Return the HTTP upgrade and the messages of a session, as the C floor sends them."""
    path = {"neuphonic": "/speak/en?sampling_rate=22050"}.get(service, PATHS[service])
    if service == "playai":
        headers = {"AUTHORIZATION": "Bearer key", "X-USER-ID": "a user", "Content-Type": "application/json"}
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", b"{}", headers, method="POST")) as answer:
            url = urlsplit(next(iter(json.loads(answer.read())["webSocketUrls"].values())))
        path = f"{url.path}?{url.query}"
    playai = {"text": text, "voice": "s3://voice/manifest.json", "output_format": "wav", "sample_rate": 24000}
    audio = {"sample_rate": 44100, "encoding": "linear_pcm", "num_channels": 1, "sample_width": 2, "container": "wav"}
    vachana = {"text": text, "voice": "Pranav", "model": "vachana-voice-v2", "audio_config": audio}
    start = {"event": "start", "request": {"text": "", "format": "pcm", "sample_rate": 44100}}
    fish = [start, {"event": "text", "text": text}, {"event": "stop"}]
    messages: list[str | bytes] = {
        "neuphonic": [json.dumps({"text": f"{text} <STOP>"})],
        "playai": [json.dumps(playai)],
        "vachana": [json.dumps(vachana)],
        "fish": [msgpack.packb(event) for event in fish],
    }[service]
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "x-api-key: key",
        "X-API-Key-ID: key",
        "Authorization: Bearer key",
    ]
    frames = b"".join(masked_frame(message) for message in messages)
    return "\r\n".join([*lines, "", ""]).encode() + frames


def masked_frame(message: str | bytes) -> bytes:
    """Return one frame of a client; its mask is zero, so that the payload is readable (RFC 6455, 5.3)."""
    data = message.encode() if isinstance(message, str) else message
    first = 0x81 if isinstance(message, str) else 0x82
    length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
    return bytes([first]) + length + bytes(4) + data


def programs(
    service: str, port: int, word_count: int, folder: Path, sdk: Path | None, floor: Path | None
) -> list[Program]:
    environment = clean_environment(folder)
    text = " ".join(["word"] * word_count)
    bare = [sys.executable, str(DRIVERS / "bare.py"), service, str(port), text]
    found = [Program(BARE, bare, environment, word_count)]
    if floor is not None:
        request = folder / f"{service}-{port}.request"
        request.write_bytes(floor_request(service, port, text))
        words = [str(floor), str(port), str(request), FLOOR_ENDS[service]]
        found.append(Program(FLOOR, words, environment, word_count))
    if sdk is not None:
        words = [str(sdk / "bin" / "python"), str(DRIVERS / f"{service}.py"), str(port), text]
        found.append(Program(SDKS[service].replace("==", " "), words, environment, word_count))
    section = f"VOICE_AGENT_SYNTHESIS__{service.upper()}__"
    url = (
        f"http://127.0.0.1:{port}{PATHS[service]}" if service == "playai" else f"ws://127.0.0.1:{port}{PATHS[service]}"
    )
    key = "AUTH_URL" if service == "playai" else "URL"
    ours = environment | {f"{section}{key}": url, f"{section}API_KEY": "key"}
    if service == "playai":
        ours[f"{section}USER_ID"] = "a user"
    words = [sys.executable, "-m", "agent", "say", "--service", service, "--output", "-", text]
    found.append(Program(OURS, words, ours, word_count))
    return found


def peak_bytes(pid: int) -> int:
    """Return the peak resident memory; 0 after the end. ``ru_maxrss`` would include this process before the exec."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def measure(program: Program, recorder: Recorder, service: str) -> Run:
    """Run one program to its end."""
    recorder.clear()
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
    sent = sum(size for _, size in recorder.chunks)
    if total - offset != sent:
        raise SystemExit(f"{program.name} ({service}) wrote {total - offset} of {sent} bytes")
    firsts, lasts, at = [], [], offset
    steps = iter(arrivals)
    moment, reached = next(steps)
    for sent_at, size in recorder.chunks:
        while reached <= at:
            moment, reached = next(steps)
        firsts.append(moment - sent_at)
        at += size
        while reached < at:
            moment, reached = next(steps)
        lasts.append(moment - sent_at)
    minutes = program.word_count * WORD_SECONDS / 60
    assert recorder.request_at is not None
    return Run(
        (usage.ru_utime + usage.ru_stime) / minutes,
        statistics.median(firsts),
        statistics.median(lasts),
        recorder.request_at - began,
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


def compare(service: str, folder: Path, rounds: int, sdk: Path | None, floor: Path | None) -> list[dict[str, Any]]:
    """Return one row for each program."""
    paced, full = Recorder(), Recorder()
    with Server(paced, "--pace", "1.0") as slow_server, Server(full) as fast_server:
        slow = programs(service, slow_server.port, PACED_WORDS, folder, sdk, floor)
        fast = programs(service, fast_server.port, FULL_WORDS, folder, sdk, floor)
        runs: dict[str, list[Run]] = {program.name: [] for program in slow}
        for turn in range(rounds + 1):
            for timed, loaded in zip(slow, fast, strict=True):
                one, other = measure(timed, paced, service), measure(loaded, full, service)
                if turn:  # the first turn compiles the modules
                    runs[timed.name].append(one._replace(cpu_per_minute=other.cpu_per_minute, memory=other.memory))
            progress(f"peers: {service}, turn {turn} of {rounds}")
    rows = []
    for name, found in runs.items():
        row: dict[str, Any] = {"service": service, "program": name}
        for metric, (field, factor, _) in METRICS.items():
            values = [getattr(run, field) for run in found]
            bare = [getattr(run, field) for run in runs[BARE]]
            row[metric] = statistics.median(values) * factor
            row[f"{metric} ratio"] = statistics.median(a / b for a, b in zip(values, bare, strict=True))
        rows.append(row)
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[Verdict]:
    """Judge voice-agent on its worst service: against the limit, and against every SDK, for each metric."""
    found = []
    services = dict.fromkeys(row["service"] for row in rows)
    by_service = {name: {row["program"]: row for row in rows if row["service"] == name} for name in services}
    for metric, limit in LIMITS.items():
        ratios = {name: programs[OURS][f"{metric} ratio"] for name, programs in by_service.items()}
        found.append(at_most(f"{metric}: at most {limit:g} times the bare loop", limit, ratios))
        shares = {
            f"{row['program']}": programs[OURS][metric] / row[metric]
            for programs in by_service.values()
            for name, row in programs.items()
            if name not in (OURS, BARE, FLOOR)
        }
        if shares and metric != "memory":
            found.append(at_most(f"{metric}: below every SDK", 1.0, shares))
    return found


def result(rows: list[dict[str, Any]], missing: list[str]) -> Result:
    """Return the table, the verdicts, and the peers that are missing."""
    columns = [
        column
        for name, (*_, unit) in METRICS.items()
        for column in (Column(f"{name}, {unit}"), Column(f"{name} ratio"))
    ]
    names = [name for metric in METRICS for name in (metric, f"{metric} ratio")]
    cells = [(row["service"], row["program"], *(row[name] for name in names)) for row in rows]
    return Result([Table(("service", "program"), tuple(columns), cells)], verdicts(rows), missing)


def path_or_none(made: Path | str) -> Path | None:
    return made if isinstance(made, Path) else None


def expected_seconds(services: int, rounds: int) -> float:
    """Return the time of a run: of each program one run at real-time pace, and one at full pace."""
    return services * (rounds + 1) * PROGRAMS * (PACED_WORDS * WORD_SECONDS + OVERHEAD_SECONDS)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns (7)")
    parser.add_argument("--service", choices=tuple(SDKS), action="append", help="only this service")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the ratios as SVG")
    options = parser.parse_args(arguments)
    services = options.service or list(SDKS)
    minutes = expected_seconds(len(services), options.rounds) / 60
    progress(f"peers: {options.rounds} turns take about {minutes:.0f} minutes, and the installation of the SDKs")
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        floor = compile_floor(Path(name))
        if isinstance(floor, str):
            missing.append(f"the C floor cannot be compiled: {floor}")
            progress(f"peers: {missing[-1]}")
        for service in services:
            sdk = install(service)
            if isinstance(sdk, str):
                missing.append(f"{SDKS[service]} cannot be installed: {sdk}")
                progress(f"peers: {missing[-1]}")
            try:
                rows += compare(service, Path(name), options.rounds, path_or_none(sdk), path_or_none(floor))
            except SystemExit as error:  # the other services still count
                missing.append(f"{service} was not measured: {error}")
                progress(f"peers: {missing[-1]}")
    if not rows:
        raise SystemExit("; ".join(missing))
    found = result(rows, missing)
    if options.picture is not None:
        options.picture.write_text(draw(found), encoding="utf-8")
    return found.show(as_json=options.json)
