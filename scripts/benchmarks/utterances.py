"""Measures what thousands of consecutive short utterances leak: memory, descriptors and threads.

    scripts/bench utterances [--count 10000] [--json]

Each utterance takes the full path: text to the tone engine of the local server over a real connection, audio through
synthesizer, ring buffer and speaker into a sink that accepts everything at once. The slope is that of the regression
line through the resident memory after the first tenth, in KiB per 1000 utterances.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from support.local_server import LocalServerProcess
from support.speech_harness import SpeechHarness

from agent.audio.format import Format
from agent.pipeline.events import UtterancePlayed

WORDS = ("yes", "no", "well", "now", "good")
SAMPLES = 100


class DiscardingSink:
    """A sink that accepts everything at once and discards it. Not thread-safe; owned by the speaker thread."""

    underruns = 0
    queued_seconds = math.inf
    ready_in_seconds = 0.0

    def __init__(self, format: Format) -> None:
        self.format = format
        self.accepted_frames = 0

    def write(self, pcm: bytes) -> None:
        self.accepted_frames += len(pcm) // self.format.frame_bytes

    def drain_nowait(self) -> float:
        self.accepted_frames = 0
        return 0.0

    def drain(self) -> None:
        self.accepted_frames = 0

    def drop(self) -> None:
        self.accepted_frames = 0

    def change_format(self, format: Format) -> bool:
        return False

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Report:
    """The result of a run. Immutable.

    ``memory_kib``: first and last value; ``slope_kib``: growth per 1000 utterances; ``descriptors``, ``threads``:
    minimum and maximum; ``left``: growth of the minimum of descriptors and threads from the first quarter to the last.
    """

    utterances: int
    spoken: int
    seconds: float
    memory_kib: tuple[int, int]
    slope_kib: float
    descriptors: tuple[int, int]
    threads: tuple[int, int]
    left: tuple[int, int]


def run(count: int, warm: int | None = None) -> Report:
    """Speak ``count`` utterances; measure after the first ``warm``, by default a tenth."""
    warm = count // 10 if warm is None else warm
    every = max(1, (count - warm) // SAMPLES)
    spoken = 0
    points: list[tuple[int, int]] = []
    descriptors: list[int] = []
    threads: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--speech", "tone", "--recognition", "none")
        with (
            LocalServerProcess(Path(folder), *arguments) as server,
            SpeechHarness(server.port, open_sink=DiscardingSink) as harness,
        ):
            began = time.monotonic()
            for number in range(count):
                utterance = harness.begin(WORDS[number % len(WORDS)])
                spoken += isinstance(harness.end(utterance), UtterancePlayed)
                harness.forget(utterance)
                if number >= warm and (number - warm) % every == 0:
                    gc.collect()
                    points.append((number, memory_kib()))
                    descriptors.append(len(os.listdir("/proc/self/fd")))
                    threads.append(threading.active_count())
            seconds = time.monotonic() - began
    return Report(
        count,
        spoken,
        round(seconds, 1),
        (points[0][1], points[-1][1]),
        round(slope(points) * 1000, 1),
        (min(descriptors), max(descriptors)),
        (min(threads), max(threads)),
        (left(descriptors), left(threads)),
    )


def left(counts: Sequence[int]) -> int:
    """Return the growth of the minimum. Short-lived resources change the maximum, leaked ones the minimum."""
    quarter = max(1, len(counts) // 4)
    return min(counts[-quarter:]) - min(counts[:quarter])


def memory_kib() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def slope(points: Sequence[tuple[int, int]]) -> float:
    """Return the slope of the regression line."""
    middle = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    above = sum((x - middle[0]) * (y - middle[1]) for x, y in points)
    return above / sum((x - middle[0]) ** 2 for x, _ in points)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench utterances", description="Measure what utterances leak.")
    parser.add_argument("--count", type=int, default=10_000, help="number of utterances (10000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    report = run(options.count)
    if options.json:
        print(json.dumps(asdict(report)))
        return 0
    print(f"utterances   {report.utterances}, spoken {report.spoken}, in {report.seconds:g} s")
    print(f"memory       {report.memory_kib[0]} KiB, finally {report.memory_kib[1]} KiB")
    print(f"slope        {report.slope_kib:g} KiB per 1000 utterances")
    print(f"descriptors  {report.descriptors[0]} to {report.descriptors[1]}, {report.left[0]} left")
    print(f"threads      {report.threads[0]} to {report.threads[1]}, {report.left[1]} left")
    return 0


if __name__ == "__main__":
    sys.exit(main())
