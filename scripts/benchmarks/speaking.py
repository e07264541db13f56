"""Measures the CPU time of the daemon while it speaks through a card, relative to a loop with PyAudio.

    scripts/bench speaking [--rounds 7] [--seconds 10] [--pace 2] [--busy 1] [--json]

All receive the same speech from the local server and play it on a virtual card at 22050 Hz. The loop is the shortest
program that does so: ``websocket.recv``, ``base64.b64decode``, ``Stream.write``. The second loop writes pieces as short
as those of the daemon, which follow from ``speaker.buffer_seconds``. They speak in turns, so that a busy machine
affects all. The time of the daemon is from the command ``say`` to its end, with all threads; the time of a loop is from
the connection to the last sample. With ``--busy``, as many busy loops run beside them: ``--busy 1 --rounds 1 --seconds
600`` shows whether ten minutes of speech have an underrun.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from support.local_server import LocalServerProcess
from support.vcard import VirtualCard

from agent.audio.devices.period import playback_period
from agent.pipeline.settings import SpeakerSettings
from agent.server.tts.tone import WORD_SECONDS
from scripts.benchmarks._daemon import Ready, Speech, daemon
from scripts.benchmarks._processes import cpu_seconds, wakeups, wakeups_since
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

ROOT = Path(__file__).resolve().parents[2]
MAX_RATIO = 1.6
TIMEOUT_SECONDS = 60.0
RATE = 22050
WRITE_BYTES = 2 * round(0.98 * playback_period(0.0, SpeakerSettings().buffer_seconds) * RATE)
"""One write of the daemon."""
LOOP_ROW, SHORT_LOOP_ROW, OUR_ROW = "a loop with PyAudio", "a loop with writes as short", "voice-agent"
BUSY = "while True: pass"
UNDERRUNS = re.compile(r"playback underruns, count=(\d+)")
"""The daemon's log line about an utterance that had underruns."""
SENTENCE = "one two three four five six seven eight nine ten. "

LOOP = """
import base64, json, sys, pyaudio, websocket
url, text, rate, write_bytes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
library = pyaudio.PyAudio()
index = next(n for n in range(library.get_device_count()) if library.get_device_info_by_index(n)["name"] == "speaker")
stream = library.open(rate=rate, channels=1, format=pyaudio.paInt16, output=True, output_device_index=index,
                      frames_per_buffer=rate // 20)
sys.stdin.readline()
client = websocket.create_connection(url, skip_utf8_validation=True)
client.send(json.dumps({"text": text + "<STOP>"}))
while True:
    data = json.loads(client.recv())["data"]
    if data.get("audio"):
        pcm = base64.b64decode(data["audio"])
        for start in range(0, len(pcm), write_bytes or len(pcm)):
            stream.write(pcm[start : start + (write_bytes or len(pcm))])
    if data.get("stop"):
        break
client.close()
print("done", flush=True)
sys.stdin.readline()
"""


class Usage(NamedTuple):
    """CPU time in seconds and voluntary context switches of a process."""

    cpu: float
    switches: int


class Meter:
    """Measures a process from now on. Not thread-safe."""

    def __init__(self, pid: int) -> None:
        self._pid, self._cpu, self._switches = pid, cpu_seconds(pid), wakeups(pid)

    def read(self) -> Usage:
        return Usage(cpu_seconds(self._pid) - self._cpu, wakeups_since(self._pid, self._switches))


def speak_with_loop(card: VirtualCard, server: LocalServerProcess, text: str, write_bytes: int = 0) -> Usage:
    url = f"{server.ws}/speak/en?sampling_rate={RATE}"
    with subprocess.Popen(
        [sys.executable, "-c", LOOP, url, text, str(RATE), str(write_bytes)],
        env={**os.environ, **card.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        # PyAudio is initialized when the process sleeps in readline.
        while Path(f"/proc/{process.pid}/wchan").read_text() not in ("pipe_read", "anon_pipe_read"):
            signal.sigtimedwait((), 0.05)
        meter = Meter(process.pid)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n", "the loop failed"
        spent = meter.read()
        process.stdin.close()
    return spent


def speak_with_daemon(client: Speech, pid: int, text: str) -> Usage:
    meter = Meter(pid)
    client.say(text)
    if (state := client.wait(TIMEOUT_SECONDS + len(text.split()) * WORD_SECONDS)) != "played":
        raise SystemExit(f"an utterance was {state}")
    return meter.read()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench speaking", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns (7)")
    parser.add_argument("--seconds", type=float, default=10.0, help="speech per turn (10)")
    parser.add_argument("--pace", default="2", help="pace of the service, as a multiple of real time (2)")
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside the programs (0)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    text = SENTENCE * max(1, round(options.seconds / (len(SENTENCE.split()) * WORD_SECONDS)))
    minutes = len(text.split()) * WORD_SECONDS / 60
    found: dict[str, list[Usage]] = {LOOP_ROW: [], SHORT_LOOP_ROW: [], OUR_ROW: []}
    with (
        contextlib.ExitStack() as busy,
        tempfile.TemporaryDirectory() as name,
        LocalServerProcess(Path(name), "--speech", "tone", "--recognition", "none", "--pace", options.pace) as server,
    ):
        folder = Path(name)
        card = VirtualCard(folder)
        card.env["VCARD_XRUNS"] = "1"  # underruns are counted
        config = (
            "conversation: {mode: announce}\nspeaker: {device: speaker}\n"
            f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
        )
        with daemon(folder, Ready(folder), config, card.env) as running:
            client = running.connect()
            speak_with_daemon(client, running.pid, "warm up.")
            for _ in range(options.busy):
                process = busy.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
                busy.callback(process.kill)
            for turn in range(options.rounds):
                found[LOOP_ROW].append(speak_with_loop(card, server, text))
                found[SHORT_LOOP_ROW].append(speak_with_loop(card, server, text, WRITE_BYTES))
                found[OUR_ROW].append(speak_with_daemon(client, running.pid, text))
                progress(f"speaking: turn {turn + 1} of {options.rounds}")
            running.terminate()
            log = running.log().splitlines()
    underruns = sum(int(count) for line in log for count in UNDERRUNS.findall(line))
    bare, rows, ratios = found[LOOP_ROW], [], {}
    for way, values in found.items():
        ratios[way] = statistics.median(one.cpu / other.cpu for one, other in zip(values, bare, strict=True))
        cpu = statistics.median(each.cpu for each in values) / minutes
        switches = statistics.median(each.switches for each in values) / minutes / 60
        rows.append((way, cpu, ratios[way], switches))
    columns = (Column("CPU, s/min"), Column("ratio"), Column("switches/s", 0))
    beside = f", beside {options.busy} busy loops" if options.busy else ""
    title = f"speaking ({options.rounds} turns of {minutes * 60:.0f} s{beside})"
    return Result(
        [Table((title,), columns, rows)],
        [
            at_most(f"CPU at most {MAX_RATIO:g} times the loop", MAX_RATIO, {OUR_ROW: ratios[OUR_ROW]}),
            at_most("no underrun", 0, {OUR_ROW: underruns}),
        ],
    ).show(as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
