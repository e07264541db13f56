"""Measures the answer time: from the end of speech at the microphone to the first audio at the card, with its parts.

The daemon listens and plays through the virtual card. First, the recognizer and the speech service are exact and answer
at once, so that the parts are those of the daemon: *pause* until the end mark of the transcription, *reply* until the
text is at the speech service, *service* until its first audio, *playback* until the card starts. The reply is the echo
of the words. The default of ``conversation.silence_seconds`` depends on the words; the verdict counts the time beyond
it.

Then the question of ``voice-agent demo`` is asked with the default configuration: the local server recognizes and
speaks. The last table has the turns that natural pauses cut (``scripts/bench turn_end`` has more of it).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

from support.local_server import LocalServerProcess

from agent.audio.format import SPEECH
from agent.cli.demo import QUESTION
from agent.server.tts import tone
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Audio, End, Message, Text
from scripts.benchmarks import turn_end
from scripts.benchmarks._card import TimedCard
from scripts.benchmarks._daemon import Ready, daemon
from scripts.benchmarks._report import Column, Result, Table, at_most, progress
from scripts.benchmarks._server import Server
from scripts.benchmarks._speech import spoken

MAX_SECONDS = 0.25
"""Largest answer time beyond the pause of ``conversation.silence_seconds``."""
MAX_DEMO_SECONDS = 0.55
"""Largest median from the end of speech to the first audio with the local recognizer and voice."""
SENTENCES = {"complete": ("what time is it?", 0.3), "unsure": ("please turn on the light", 0.7)}
"""Words by the kind of their end, and the pause in seconds that follows them."""
PARTS = ("pause", "reply", "service", "playback")


class Moments(WireLog):
    """Keeps the time of the first message of each kind in place of a wire log. Thread-safe."""

    def __init__(self) -> None:
        super().__init__(None)
        self.at: dict[str, float] = {}

    def message(
        self, connection: int, service: str, direction: str, message: Message, events: Iterable[Any] = ()
    ) -> None:
        now = time.perf_counter()
        for event in events:
            match direction, event:
                case "in", Audio():
                    self.at["heard"] = now
                case "in", End() if service == "transcription" and "heard" in self.at:
                    self.at.setdefault("pause", now)
                case "in", Text():
                    self.at.setdefault("reply", now)
                case "out", Audio(data) if data:
                    self.at.setdefault("service", now)


def run(rounds: int, pace: str) -> Result:
    rows: list[tuple[Any, ...]] = []
    beyond: dict[str, float] = {}
    for kind, (words, pause_seconds) in SENTENCES.items():
        times = measure(words, rounds, pace)
        progress(f"turn: {kind}, {rounds} turns")
        middle = [statistics.median(part) * 1000 for part in zip(*times, strict=True)]
        totals = [sum(each) * 1000 for each in times]
        rows.append((f"{kind}, {pause_seconds:g} s", *middle, statistics.median(totals), max(totals)))
        beyond[kind] = statistics.median(totals) - pause_seconds * 1000
    columns = tuple(Column(f"{name}, ms", 0) for name in (*PARTS, "all", "worst"))
    demo = measure_demo(rounds)
    median = statistics.median(demo)
    cut = {row.name: row.cut_percent for row in turn_end.measure_text()}
    return Result(
        [
            Table((f"end of the words ({rounds} turns)",), columns, rows),
            Table(
                (f"local recognizer and voice ({rounds} turns)",),
                (Column("median, s"), Column("best, s"), Column("worst, s")),
                [("end of speech to first audio", median, min(demo), max(demo))],
            ),
            Table(("100 sentences with natural pauses",), (Column("turns cut, %", 1),), [*cut.items()]),
        ],
        [
            at_most(f"first audio at most {MAX_SECONDS * 1000:g} ms after the pause", MAX_SECONDS * 1000, beyond),
            at_most(
                f"median with the local recognizer and voice at most {MAX_DEMO_SECONDS:g} s",
                MAX_DEMO_SECONDS,
                {"end of speech to first audio": median},
            ),
            at_most(f"at most {turn_end.LIMIT_PERCENT:g} % of the turns are cut", turn_end.LIMIT_PERCENT, cut),
        ],
    )


def measure_demo(rounds: int) -> list[float]:
    """Return the seconds from the end of speech to the first audio with the local server, for each turn."""
    found: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        card = TimedCard(folder)
        question = spoken(QUESTION)
        with LocalServerProcess(folder) as server:
            config = (
                "conversation: {mode: assistant}\nserver: {start: false}\n"
                "microphone: {device: mic}\nspeaker: {device: speaker}\n"
                f"transcription: {{url: '{server.ws}/'}}\n"
                f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
            )
            with daemon(folder, Ready(folder), config, card.env):
                for turn in range(rounds + 1):
                    card.inject(question, SPEECH)
                    ends = card.wait("mic") + SPEECH.seconds_of(len(question))
                    starts = card.wait("play")
                    card.wait("stop")
                    progress(f"turn: local server, {starts - ends:.2f} s")
                    if turn:  # the first turn loads the model
                        found.append(starts - ends)
        card.close()
    return found


def measure(words: str, rounds: int, pace: str) -> list[list[float]]:
    """Return the seconds of each part, for each turn."""
    found: list[list[float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "script.txt").write_text(f"{words}\n")
        card, moments = TimedCard(folder), Moments()
        arguments = ("--recognition", "script", "--script", str(folder / "script.txt"), "--pace", pace)
        sound = tone.pcm(words, SPEECH.rate)
        with Server(moments, *arguments) as server:
            config = (
                "conversation: {mode: assistant, vad: energy}\nresponder: {kind: echo}\nserver: {start: false}\n"
                "microphone: {device: mic}\nspeaker: {device: speaker}\n"
                f"transcription: {{url: 'ws://127.0.0.1:{server.port}/'}}\n"
                f"synthesis: {{services: [local], local: {{url: 'ws://127.0.0.1:{server.port}'}}}}\n"
            )
            with daemon(folder, Ready(folder), config, card.env):
                for turn in range(rounds + 1):
                    moments.at.clear()
                    card.inject(sound, SPEECH)
                    ends = card.wait("mic") + SPEECH.seconds_of(len(sound))
                    starts = card.wait("play")
                    card.wait("stop")
                    times = [ends, *(moments.at[part] for part in PARTS[:-1]), starts]
                    if turn:  # the first turn imports
                        found.append([after - before for before, after in pairwise(times)])
        card.close()
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench turn", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns (7)")
    parser.add_argument("--pace", default="2", help="pace of the service, as a multiple of real time (2)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    return run(options.rounds, options.pace).show(as_json=options.json)
