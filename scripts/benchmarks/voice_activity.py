"""Measures the voice activity detectors: turns begun by noise, speech found at six levels, and CPU.

    scripts/bench voice_activity [--json]

- *turns*: turns that a recording without speech begins, with the length of the longest one. Every turn is reported to
  the detector as one without words, so that it adapts.
- *sentences*: share of the loud pieces of speech (20 dB below the loudest or more, pieces of 0.1 s) that lie in a turn.
  The speech is a sentence of each voice of `tests/support/human_voice.py`, and 10 s of each recording of LibriVox in
  Debian's package `pocketsphinx-testdata`.
- *words*: share of the words that begin a turn; each word of each voice begins at ten different positions in a frame.
- *CPU*: share of one core, in percent, over the whole process.

The level is that of the loud pieces of speech, in dB of full scale; the noise of the microphone has -72 dB. The frames
have 0.1 s, `silence_seconds` and `turn_seconds` their defaults.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
import wave
from array import array
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

from support import noise
from support.human_voice import VOICES, spoken
from support.turns import Turn, turns

from agent.audio.format import SPEECH
from agent.pipeline.capture import silero
from agent.pipeline.capture.detector import Detector
from agent.pipeline.capture.vad import create_detector

DETECTORS = ("energy", "webrtc", "energy and webrtc", "silero")
LEVELS = (-10, -20, -30, -40, -50, -56)
WORDS = ("up", "no")
POSITIONS = 10
HISS = 8.0
PIECE_SAMPLES = 1600
HUMAN_SECONDS = 10
LIBRIVOX = Path("/usr/share/pocketsphinx/test/data/librivox")
SENTENCE = "please turn on the light in the kitchen and tell me what time it is"

SOUNDS = {
    "typing, 30 s": lambda: noise.repeated(noise.burst(0.012, 6000, 330), 0.22, 30),
    "alarm, 2 kHz, 30 s": lambda: noise.beeps(30),
    "alarm, 440 Hz, 20 s": lambda: noise.beeps(20, 440, 0.25),
    "music, 60 s": lambda: noise.music(60),
    "air conditioning, 4 starts, 48 s": lambda: (noise.silence(6) + noise.air(6)) * 4,
    "fan in steps, 20 s": lambda: [each for level in (50, 500, 2500, 300, 1500) for each in noise.air(4, level)],
    "mains hum, 20 s": lambda: noise.tones(20, f50=3000, f150=1500, f250=900),
    "white noise, 20 s": lambda: noise.white(20),
    "claps, 20 s": lambda: noise.repeated(noise.burst(0.1, 9000, 70), 0.8, 20),
    "knocks, 20 s": lambda: noise.repeated(noise.burst(0.08, 9000, 60, 180), 1.0, 20),
    "coughs, 20 s": lambda: noise.repeated(noise.burst(0.25, 7000, 12), 1.5, 20),
    "knocks, automatic gain, 20 s": lambda: noise.automatic_gain(
        noise.repeated(noise.burst(0.08, 300, 60, 180), 3.0, 20)
    ),
}


def detector(name: str) -> Detector:
    """Create a detector; the third one is ``auto`` without Silero."""
    if name != "energy and webrtc":
        return create_detector(name)
    with patch.object(silero, "is_installed", return_value=False):
        return create_detector("auto")


def loudness(samples: Sequence[float]) -> list[float]:
    """Return the level of each piece."""
    starts = range(0, len(samples) - PIECE_SAMPLES + 1, PIECE_SAMPLES)
    return [math.hypot(*samples[start : start + PIECE_SAMPLES]) / math.sqrt(PIECE_SAMPLES) for start in starts]


def loud_pieces(samples: Sequence[float]) -> list[int]:
    levels = loudness(samples)
    return [number for number, level in enumerate(levels) if level > max(levels) / 10]


def at_level(sound: bytes, decibels: float) -> list[float]:
    """Scale speech so that its loud pieces have this level in dB of full scale."""
    samples = array("h", sound)
    levels = loudness(samples) or [math.hypot(*samples) / math.sqrt(len(samples))]
    loud = [level for level in levels if level > max(levels) / 10]
    factor = 32768 * 10 ** (decibels / 20) / (math.hypot(*loud) / math.sqrt(len(loud)))
    return [sample * factor for sample in samples]


def sentences() -> dict[str, bytes]:
    """Return the speech by name."""
    found = {voice: spoken(SENTENCE, voice) for voice in VOICES}
    for path in sorted(LIBRIVOX.glob("*.wav")):
        with wave.open(str(path)) as file:
            found[path.stem] = file.readframes(HUMAN_SECONDS * file.getframerate())
    return found


def shares_in_turns(speech: list[float]) -> list[float]:
    """Return the share of the loud pieces that lie in a turn, its pre-roll included, for each detector."""
    sound = noise.pcm(noise.silence(2) + speech + noise.silence(2), HISS)
    loud = [2.0 + (number + 0.5) * PIECE_SAMPLES / SPEECH.rate for number in loud_pieces(speech)]
    shares = []
    for name in DETECTORS:
        found = turns(detector(name), sound)
        shares.append(sum(any(turn.start - 0.6 <= at <= turn.end for turn in found) for at in loud) / len(loud))
    return shares


def words_found(decibels: float) -> list[list[float]]:
    """Return for each word of each voice at each position whether it begins one turn, for each detector."""
    results = []
    for word in WORDS:
        for voice in VOICES:
            speech = at_level(spoken(word, voice), decibels)
            for position in range(POSITIONS):
                lead = noise.silence(1 + position * 0.1 / POSITIONS)
                sound = noise.pcm(lead + speech + noise.silence(1), HISS)
                results.append([float(len(turns(detector(name), sound)) == 1) for name in DETECTORS])
    return results


def percent(rows: Sequence[Sequence[float]]) -> list[str]:
    """Return the mean of each column in percent."""
    return [f"{100 * sum(column) / len(rows):.0f}" for column in zip(*rows, strict=True)]


def cpu_percent(sound: bytes, name: str) -> float:
    """Return the CPU time per second of audio, as a share of one core in percent."""
    instance = detector(name)
    turns(instance, noise.pcm(noise.white(2, 3000)))  # the library is loaded
    turns(instance, bytes(SPEECH.bytes_of(3)))
    began = time.process_time()
    turns(instance, sound)
    return 100 * (time.process_time() - began) / SPEECH.seconds_of(len(sound))


def describe(found: list[Turn], seconds: float) -> str:
    """Return the number of turns and the length of the longest one."""
    longest = max((min(turn.end, seconds) - turn.start for turn in found), default=0.0)
    return f"{len(found)} ({longest:.0f} s)" if found else "0"


def measure() -> dict[str, dict[str, dict[str, str]]]:
    """Return the cells of the three tables by row and detector."""
    noises: dict[str, dict[str, str]] = {}
    for sound_name, make in SOUNDS.items():
        sound = noise.pcm(make())
        seconds = SPEECH.seconds_of(len(sound))
        noises[sound_name] = {
            name: describe(turns(detector(name), sound, has_words=False), seconds) for name in DETECTORS
        }
    speech, recall = sentences(), {}
    for level in LEVELS:
        spoken_sentences = percent([shares_in_turns(at_level(sound, level)) for sound in speech.values()])
        words = percent(words_found(level))
        pairs = zip(DETECTORS, spoken_sentences, words, strict=True)
        recall[f"{level} dB"] = {name: f"{first} / {second}" for name, first, second in pairs}
    draw = random.Random(1)
    talk = b"".join(sound + bytes(SPEECH.bytes_of(draw.uniform(0.2, 0.5))) for sound in speech.values())
    loads = {"silent room": noise.pcm(noise.silence(30), HISS), "speech": talk, "music": noise.pcm(noise.music(20))}
    cpu = {load: {name: f"{cpu_percent(sound, name):.1f}" for name in DETECTORS} for load, sound in loads.items()}
    return {
        "turns begun by noise (longest)": noises,
        "sentences / words found, percent": recall,
        "CPU, percent of a core": cpu,
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench voice_activity", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    options = parser.parse_args(arguments)
    tables = measure()
    if options.json:
        print(json.dumps(tables))
        return 0
    for title, rows in tables.items():
        print(f"| {title} | " + " | ".join(f"`{name}`" if " " not in name else name for name in DETECTORS) + " |")
        print("|---|" + "---|" * len(DETECTORS))
        for row_name, row in rows.items():
            print(f"| {row_name} | " + " | ".join(row[name] for name in DETECTORS) + " |")
        print()
    return 0
