"""Measures the echo canceller and the interruption of the device in a simulated room.

    scripts/bench barge_in [--short] [--json]

The device speaks with the voice slt of flite; after 40 s without an interruption the user says a command into each of
20 utterances, at the level of the echo or 6 dB below it. *Missed*: no segment begins while the user speaks. *Latency*:
from the first sound of the user to the stop of the playback. *False*: segments without the user, and the minutes of
playback without the user. *Word errors*: of the local recognizer, in the segment that is sent; *clean* is the same
speech without the device. The time is simulated; the units from the card's clock to the endpointer are those of the
daemon. *Stop words*: the user says those of English in three voices instead, and the engine vosk of the daemon
hears what the canceller leaves; the part needs the model of the tests.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from support.echo_room import (
    DEVICE_LEVEL,
    DEVICE_TEXTS,
    DEVICE_VOICE,
    FRAME,
    RATE,
    Room,
    Utterance,
    device_speech,
    to_samples,
)
from support.frame_detector import FrameDetector
from support.human_voice import spoken
from support.vosk_model import MODEL

from agent.pipeline.capture.vad import create_detector
from agent.pipeline.capture.vosk_words import VoskSpotter
from agent.pipeline.settings import WakeSettings
from agent.pipeline.text.stopping import DEFAULT_WORDS
from agent.server.stt.engine import SttEngine, SttOptions
from agent.server.stt.moonshine import create
from scripts.benchmarks._report import Column, Result, Table, at_most

USER = "flite rms"
ECHO_GAIN = 0.5
CALIBRATION_SECONDS = 40.0
FALSE_SECONDS = 300.0
COMMANDS = (
    "what time is it",
    "please stop talking now",
    "turn off the light in the kitchen",
    "play some music instead",
    "tell me about tomorrow",
)
CLOCKS = (0.0, 50.0, 100.0)
DELAYS = (0.04, 0.12, 0.2)
LEVELS = (0.0, -6.0)
STOPS = [(word, voice) for voice in (USER, "espeak-ng", "espeak-ng female") for word in DEFAULT_WORDS["en"]]
STOP_SECONDS = 1.0
"""Longest time from the end of a stop word until it is found."""


class Score(NamedTuple):
    missed: int
    false: int
    minutes: float
    latencies: list[float]
    errors: float
    clean: float
    return_loss: float


def interrupted(
    count: int, said: Sequence[tuple[str, str]], decibels: float
) -> tuple[list[Utterance], list[Utterance], float]:
    """Return what the device and the user (text, voice) say with so many interruptions, and the end."""
    device, user = device_speech(CALIBRATION_SECONDS), []
    start = device[-1].end + 1.3
    level = DEVICE_LEVEL * ECHO_GAIN * 10 ** (decibels / 20)
    for number in range(count):
        each = Utterance(
            start, to_samples(spoken(DEVICE_TEXTS[number % len(DEVICE_TEXTS)], DEVICE_VOICE), DEVICE_LEVEL)
        )
        speech = to_samples(spoken(*said[number % len(said)]), level)
        command = Utterance(start + 1.0 + 0.13 * (number % 8), speech)
        device.append(each)
        user.append(command)
        start = max(each.end, command.end) + 1.5
    return device, user, start


def score(delay: float, ppm: float, decibels: float, count: int, *, words: bool) -> Score:
    """Run one room with so many interruptions."""
    device, user, end = interrupted(count, [(text, USER) for text in COMMANDS], decibels)
    room = Room(device, user, delay_seconds=delay, ppm=ppm, detector=create_detector("auto"))
    room.run()
    segments = {}
    false = 0
    for segment in room.segments:
        at = [index for index, each in enumerate(user) if each.start <= segment.found_at <= each.end + 0.5]
        if at:
            segments.setdefault(at[0], segment)
        elif segment.found_at > CALIBRATION_SECONDS:
            false += 1
    latencies = [segment.found_at - onset(user[index]) for index, segment in segments.items()]
    errors = clean = 0.0
    if words:
        pairs = [(COMMANDS[index % len(COMMANDS)], segment.audio) for index, segment in segments.items()]
        errors = word_errors(pairs)
        clean = word_errors([(text, spoken(text, USER)) for text, _ in pairs])
    minutes = (end - CALIBRATION_SECONDS) / 60
    return Score(count - len(segments), false, minutes, latencies, errors, clean, room.measures.return_loss_db or 0.0)


def onset(each: Utterance) -> float:
    """The time of the first sound."""
    first = next(index for index, value in enumerate(abs(each.samples)) if value > 0.02 * abs(each.samples).max())
    return each.start + first / RATE


def false_starts(delay: float, ppm: float, seconds: float) -> tuple[int, int]:
    """Return the segments and the ducks in so much playback without the user, after the calibration."""
    room = Room(
        device_speech(CALIBRATION_SECONDS + seconds), [], delay_seconds=delay, ppm=ppm, detector=create_detector("auto")
    )
    room.run()
    segments = [each for each in room.segments if each.found_at > CALIBRATION_SECONDS]
    return len(segments), len([at for at in room.ducks() if at > CALIBRATION_SECONDS])


def stop_words(count: int, seconds: float) -> tuple[int, int, int]:
    """Return how many of so many stop words are found, how many of them without the device, and the false ones.

    One clock, -6 dB; the false ones in ``seconds`` of playback.
    """
    device, user, _ = interrupted(count, STOPS, LEVELS[-1])
    false = behind_canceller(device_speech(CALIBRATION_SECONDS + seconds), [])
    return found(user, behind_canceller(device, user)), found(user, alone(user)), len(spotted(false))


def behind_canceller(device: list[Utterance], user: list[Utterance]) -> list[tuple[float, bytes]]:
    room = Room(
        device, user, delay_seconds=DELAYS[1], ppm=0.0, detector=FrameDetector(lambda frame: False), interrupt="word"
    )
    room.run()
    return room.cleaned


def alone(user: list[Utterance]) -> list[tuple[float, bytes]]:
    """Return the frames of the user without the device."""
    samples = np.zeros(round((user[-1].end + 2.0) * RATE) // FRAME * FRAME)
    for each in user:
        start = round(each.start * RATE)
        samples[start : start + len(each.samples)] = each.samples
    pieces = samples.astype(np.int16).reshape(-1, FRAME)
    return [((number + 1) * FRAME / RATE, piece.tobytes()) for number, piece in enumerate(pieces)]


def found(user: list[Utterance], frames: list[tuple[float, bytes]]) -> int:
    times = spotted(frames)
    return len([each for each in user if any(each.start <= at <= each.end + STOP_SECONDS for at in times)])


def spotted(frames: list[tuple[float, bytes]]) -> list[float]:
    """Return when stop words are found, after the calibration."""
    spotter = VoskSpotter(str(MODEL), DEFAULT_WORDS["en"], WakeSettings().sensitivity)
    assert spotter.wait(60.0), "the model cannot be loaded"
    spots = [(at, spotter.find(frame)) for at, frame in frames]
    return [at for at, spot in spots if spot is not None and spot.is_found and at > CALIBRATION_SECONDS]


def word_errors(pairs: Sequence[tuple[str, bytes]]) -> float:
    """Return the word error rate in percent."""
    wrong = sum(_distance(text.split(), _transcript(audio)) for text, audio in pairs)
    return 100 * wrong / max(1, sum(len(text.split()) for text, _ in pairs))


@functools.cache
def _engine() -> SttEngine:
    engine = create(SttOptions())
    engine.prepare()
    return engine


def _transcript(audio: bytes) -> list[str]:
    stream = _engine().open()
    finals = [*stream.feed(audio), *stream.finish()]
    stream.close()
    text = " ".join(each.text for each in finals if each.is_final)
    return "".join(each for each in text.lower() if each.isalnum() or each == " ").split()


def _distance(expected: list[str], words: list[str]) -> int:
    row = list(range(len(words) + 1))
    for number, word in enumerate(expected, 1):
        before, row = row, [number]
        for at, other in enumerate(words):
            row.append(min(before[at] + (word != other), before[at + 1] + 1, row[at] + 1))
    return row[-1]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one delay and one level for each clock, 6 interruptions")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    delays, levels, count = (DELAYS, LEVELS, 20) if not options.short else (DELAYS[1:2], LEVELS[1:], 6)
    scores: dict[tuple[float, float, float], Score] = {}
    for ppm in CLOCKS:
        for delay in delays:
            for decibels in levels:
                scores[ppm, delay, decibels] = score(delay, ppm, decibels, count, words=True)
    seconds = 60.0 if options.short else FALSE_SECONDS
    falses = {ppm: false_starts(DELAYS[1], ppm, seconds) for ppm in CLOCKS}
    rows = [
        (
            _clock(ppm),
            f"{1000 * delay:.0f} ms",
            f"{decibels:.0f} dB",
            each.missed,
            each.false,
            statistics.median(each.latencies) if each.latencies else None,
            max(each.latencies, default=None),
            each.errors,
            each.clean,
            each.return_loss,
        )
        for (ppm, delay, decibels), each in scores.items()
    ]
    columns = (
        Column(f"missed of {count}", 0),
        Column("false", 0),
        Column("median latency, s"),
        Column("longest, s"),
        Column("word errors, %", 1),
        Column("clean, %", 1),
        Column("return loss, dB", 0),
    )
    false_rows = [(_clock(ppm), *falses[ppm]) for ppm in CLOCKS]
    false_columns = (Column(f"stops in {seconds / 60:.0f} minutes", 0), Column("ducks", 0))
    one = {f"{key[1]} s": each for key, each in scores.items() if key[0] == 0 and key[2] == LEVELS[-1]}
    two = {f"{key[0]:.0f} ppm, {key[1]} s": each for key, each in scores.items() if key[0] and key[2] == LEVELS[-1]}
    verdicts = [
        at_most("one clock, -6 dB: no interruption is missed", 0, {name: each.missed for name, each in one.items()}),
        at_most("one clock: no false stop", 0, {"120 ms": falses[0.0][0]}),
        at_most("two clocks: no false stop", 0, {_clock(ppm): falses[ppm][0] for ppm in CLOCKS[1:]}),
        at_most("one clock, -6 dB: each stop within 0.45 s", 0.45, {n: _longest(each) for n, each in one.items()}),
        at_most("one clock, -6 dB: at most 10 % word errors", 10, {n: each.errors for n, each in one.items()}),
        at_most("two clocks, -6 dB: at most one missed", 1, {name: each.missed for name, each in two.items()}),
        at_most("two clocks, -6 dB: each stop within 0.9 s", 0.9, {n: _longest(each) for n, each in two.items()}),
        at_most("two clocks, -6 dB: at most 20 % word errors", 20, {n: each.errors for n, each in two.items()}),
    ]
    tables = [
        Table(("clocks", "delay", "user to echo"), columns, rows),
        Table(("clocks, without the user",), false_columns, false_rows),
    ]
    if MODEL.is_dir():
        stops = stop_words(count, seconds)
        stop_columns = (
            Column(f"found of {count}", 0),
            Column("without the device", 0),
            Column(f"false in {seconds / 60:.0f} minutes", 0),
        )
        tables.append(Table(("stop words, one clock, -6 dB",), stop_columns, [("vosk", *stops)]))
    return Result(tables, verdicts).show(as_json=options.json)


def _clock(ppm: float) -> str:
    return f"two, {ppm:.0f} ppm" if ppm else "one"


def _longest(each: Score) -> float:
    return max(each.latencies, default=float("inf"))
