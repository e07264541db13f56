"""Measures the time from a request to the running daemon to the first sample in the sink.

    scripts/bench say [--count 40] [--json]

The speech comes from a service, the local speech server with its tone engine, and then, as a phrase, from the disk. The
round trip of the service is measured by a client without the daemon, on a connection that is open before: from the text
to the first audio. The request goes through the control socket, and each announcement is committed to the disk. The
moment of the first sample is that of the event ``started``, in milliseconds.
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
from support.web import EventReader, free_port

from scripts.benchmarks._daemon import Daemon, Ready, daemon
from scripts.benchmarks._report import Column, Result, Table, at_most

MAX_MORE_THAN_ROUND_TRIP_MS = 10.0
MAX_PHRASE_MS = 50.0
WARM_UP = 3


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench say", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=40, help="announcements of each kind (40)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    return run(options.count).show(as_json=options.json)


def run(count: int) -> Result:
    texts = [f"Train number {number} departs." for number in range(count + WARM_UP)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = ("--speech", "tone", "--recognition", "none")
        with LocalServerProcess(folder, *arguments) as server:
            port = free_port()
            config = (
                "conversation: {mode: announce}\nspeaker: {device: none}\n"
                f"synthesis: {{services: [neuphonic], neuphonic: {{url: '{server.ws}/speak/en'}},"
                f" phrases: {{enabled: true}}}}\nweb: {{listen: '127.0.0.1:{port}'}}\n"
            )
            round_trips = [round_trip(server, text) for text in texts][WARM_UP:]
            with daemon(folder, Ready(folder), config, {"CACHE_DIRECTORY": str(folder / "cache")}) as running:
                measure = starter(running, port)
                service = [measure(text) for text in texts][WARM_UP:]
                phrase = [measure(text) for text in texts][WARM_UP:]
    rows = {"round trip of the service": round_trips, "say, from the service": service, "say, from a phrase": phrase}
    middle = statistics.median(round_trips)
    table = Table(
        ("time to the first audio",),
        (Column("median in ms", 1), Column("95 % in ms", 1), Column("worst in ms", 1)),
        [(name, statistics.median(values), quantile(values), max(values)) for name, values in rows.items()],
    )
    more = {f"announcement {at}": value - middle for at, value in enumerate(service)}
    phrases = {f"announcement {at}": value for at, value in enumerate(phrase)}
    return Result(
        [table],
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
