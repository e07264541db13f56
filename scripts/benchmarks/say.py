"""Measures the time from a request to the running daemon to the first sample in the sink.

    scripts/bench say [--count 20] [--json]

Each text is spoken by a service, the local speech server with its tone engine, and then, as a phrase, from the disk.
The round trip of the service is measured just before by a client without the daemon, on a connection that is open: from
the text to the first audio. The request goes through the control socket, and each announcement is committed to the
disk. The moment of the first sample is that of the event ``started``, in milliseconds. A row is judged by its median,
because the worst value shows what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import websocket
from support.local_server import LocalServerProcess
from support.machine import free_port
from support.web import EventReader

from scripts.benchmarks._daemon import Daemon, Ready, daemon
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

MAX_MORE_THAN_ROUND_TRIP_MS = 10.0
MAX_PHRASE_MS = 50.0
WARM_UP = 2
TEXTS = {
    "one word": "Departure",
    "a sentence": "The next train departs from platform number",
    "two sentences": "Please stand back from the edge of the platform. The train does not stop at platform number",
}
KINDS = ("round trip of the service", "say, from the service", "say, from a phrase")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench say", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="announcements of each kind (20)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    return run(options.count).show(as_json=options.json)


def run(count: int) -> Result:
    rows: list[tuple[str, str, float, float, float]] = []
    more: dict[str, float] = {}
    phrases: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with LocalServerProcess(folder, "--speech", "tone", "--recognition", "none") as server:
            port = free_port()
            config = (
                "conversation: {mode: announce}\nspeaker: {device: none}\n"
                f"synthesis: {{services: [neuphonic], neuphonic: {{url: '{server.ws}/speak/en'}},"
                f" phrases: {{enabled: true}}}}\nweb: {{listen: '127.0.0.1:{port}'}}\n"
            )
            with daemon(folder, Ready(folder), config, {"CACHE_DIRECTORY": str(folder / "cache")}) as running:
                measure = starter(running, port)
                for text, words in TEXTS.items():
                    progress(f"say: {text}")
                    times = []
                    for number in range(count + WARM_UP):
                        spoken = f"{words} {number}."
                        times.append((round_trip(server, spoken), measure(spoken), measure(spoken)))
                    round_trips, service, phrase = zip(*times[WARM_UP:], strict=True)
                    for kind, values in zip(KINDS, (round_trips, service, phrase), strict=True):
                        rows.append((text, kind, statistics.median(values), quantile(values), max(values)))
                    differences = [one - other for one, other in zip(service, round_trips, strict=True)]
                    more[text], phrases[text] = statistics.median(differences), statistics.median(phrase)
    columns = (Column("median in ms", 1), Column("95 % in ms", 1), Column("worst in ms", 1))
    return Result(
        [Table(("text", "first audio"), columns, rows)],
        [
            at_most("from the service within its round trip and 10 ms", MAX_MORE_THAN_ROUND_TRIP_MS, more),
            at_most("from a phrase within 50 ms", MAX_PHRASE_MS, phrases),
        ],
    )


def round_trip(server: LocalServerProcess, text: str) -> float:
    """Return the milliseconds from a text to its first audio, for a client without the daemon."""
    client = websocket.create_connection(f"{server.ws}/speak/en?sampling_rate=22050")
    began = time.perf_counter()
    client.send(json.dumps({"text": f"{text}<STOP>"}))
    while not json.loads(client.recv())["data"].get("audio"):
        pass
    took = time.perf_counter() - began
    client.close()
    return 1000 * took


def starter(running: Daemon, port: int) -> Callable[[str], float]:
    """Return a function that speaks a text and returns the milliseconds until its first sample."""
    speech, events = running.connect(), EventReader(port, "/events", {})

    def measure(text: str) -> float:
        began = time.time()
        speech.say(text)
        while (event := events.event()).get("state") != "started":
            pass
        if speech.wait() != "played":
            raise SystemExit(f"the daemon did not speak: {running.log()}")
        return 1000 * (float(event["time"]) - began)

    return measure


def quantile(values: Sequence[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))]
