"""Measures what thousands of consecutive short utterances leak: memory, descriptors and threads.

    scripts/bench utterances [--count 10000] [--json]

Each utterance takes the full path: text to the tone engine of the local server over a real connection, audio through
synthesizer, ring buffer and speaker into a sink that accepts everything at once. The slope is that of the regression
line through the resident memory after the first tenth, in KiB per 1000 utterances.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from support.local_server import LocalServerProcess
from support.speech_harness import SpeechHarness

from agent.audio.format import Format
from agent.pipeline.events import UtterancePlayed
from scripts.benchmarks._report import Column, Result, Table, at_most, progress

PROGRESS = 500
WORDS = ("yes", "no", "well", "now", "good")
SAMPLES = 100
MAX_SLOPE_KIB = 64.0
MAX_LEFT = 2
"""A standby connection may exist or not, and one thread may dial or close a connection."""


class DiscardingSink:
    """A sink that accepts everything at once and discards it. Not thread-safe; owned by the speaker thread."""

    underruns = 0
    empty_at = math.inf
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
                if number % PROGRESS == PROGRESS - 1:
                    progress(f"utterances: {number + 1} of {count}")
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
    columns = (
        Column("spoken", 0),
        Column("seconds", 1),
        Column("memory, MiB", 1),
        Column("finally, MiB", 1),
        Column("KiB per 1000", 1),
        Column("descriptors left", 0),
        Column("threads left", 0),
    )
    sizes = (kib / 1024 for kib in report.memory_kib)
    row = (str(report.utterances), report.spoken, report.seconds, *sizes, report.slope_kib, *report.left)
    name = f"{report.utterances} utterances"
    return Result(
        [Table(("utterances",), columns, [row])],
        [
            at_most("every utterance is spoken", 0, {name: report.utterances - report.spoken}),
            at_most(f"memory grows by at most {MAX_SLOPE_KIB:g} KiB per 1000", MAX_SLOPE_KIB, {name: report.slope_kib}),
            at_most("no descriptor and no thread is left", MAX_LEFT, {name: max(report.left)}),
        ],
    ).show(as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
