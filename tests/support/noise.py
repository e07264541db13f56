"""Sounds that are not speech, 16 kHz mono s16le, from a seeded generator."""

from __future__ import annotations

import itertools
import math
import random
from array import array
from collections.abc import Callable

RATE = 16000

Samples = list[float]


def silence(seconds: float) -> Samples:
    return [0.0] * round(seconds * RATE)


def white(seconds: float, level: float = 1500, seed: int = 7) -> Samples:
    draw = random.Random(seed)
    return [draw.gauss(0, level) for _ in range(round(seconds * RATE))]


def air(seconds: float, level: float = 1500) -> Samples:
    """The noise of a fan: more power at low frequencies."""
    value, samples = 0.0, []
    for each in white(seconds, level):
        value = 0.9 * value + 0.43 * each
        samples.append(value)
    return samples


def tones(seconds: float, **levels: float) -> Samples:
    """Steady tones; ``f440=3000`` is 440 Hz of the amplitude 3000."""
    steps = [(2 * math.pi * float(name[1:]) / RATE, level) for name, level in levels.items()]
    return [sum(level * math.sin(step * n) for step, level in steps) for n in range(round(seconds * RATE))]


def beeps(seconds: float, hertz: float = 2000, on_seconds: float = 0.5) -> Samples:
    half = round(on_seconds * RATE)
    return [each if n // half % 2 == 0 else 0.0 for n, each in enumerate(tones(seconds, **{f"f{hertz:g}": 5000}))]


def music(seconds: float) -> Samples:
    """Chords with a beat."""
    draw, beat, samples = random.Random(3), RATE // 2, []
    for number in range(round(seconds * RATE / beat)):
        root = (220, 196, 174.6, 261.6)[number // 4 % 4]
        for n in range(beat):
            t = n / RATE
            chord = sum(math.sin(2 * math.pi * root * harmonic * t) for harmonic in (1, 1.26, 1.5, 2))
            samples.append(1500 * (chord * math.exp(-2 * t) + draw.gauss(0, 1.5) * math.exp(-40 * t)))
    return samples


def repeated(make: Callable[[random.Random], Samples], every_seconds: float, seconds: float) -> Samples:
    """One sound again and again, at irregular intervals."""
    draw, samples = random.Random(5), silence(seconds)
    start = RATE // 2
    while start < len(samples) - RATE // 2:
        for n, each in enumerate(make(draw), start):
            if n < len(samples):
                samples[n] += each
        start += round(every_seconds * draw.uniform(0.6, 1.4) * RATE)
    return samples


def burst(seconds: float, level: float, decay: float, hertz: float = 0.0) -> Callable[[random.Random], Samples]:
    """A decaying sound: noise, or a tone with a little noise."""

    def make(draw: random.Random) -> Samples:
        samples = []
        for n in range(round(seconds * RATE)):
            t = n / RATE
            tone = math.sin(2 * math.pi * hertz * t) + draw.gauss(0, 0.3) if hertz else draw.gauss(0, 1)
            samples.append(level * math.exp(-decay * t) * tone)
        return samples

    return make


def automatic_gain(samples: Samples) -> Samples:
    """The automatic gain of a microphone: quick to fall, slow to rise, at most 35 dB."""
    gain, loud = 1.0, []
    for start in range(0, len(samples), RATE // 100):
        piece = samples[start : start + RATE // 100]
        level = math.hypot(*piece) / math.sqrt(len(piece)) + 1
        wanted = min(60.0, 3000 / level)
        gain = wanted if wanted < gain else min(wanted, gain * 1.01)
        loud += [each * gain for each in piece]
    return loud


SOUNDS: dict[str, Callable[[], Samples]] = {
    # steady
    "white noise": lambda: white(8),
    "mains hum": lambda: tones(8, f50=3000, f150=1500, f250=900),
    "whistle": lambda: tones(8, f3000=3000),
    # periodic
    "alarm": lambda: silence(1) + beeps(10) + silence(1),
    "quick alarm": lambda: beeps(8, 440, 0.25),
    "music": lambda: music(10),
    # impulsive
    "typing": lambda: repeated(burst(0.012, 6000, 330), 0.22, 8),
    "claps": lambda: repeated(burst(0.1, 9000, 70), 0.8, 8),
    "knocks": lambda: repeated(burst(0.08, 9000, 60, 180), 1.0, 8),
    "coughs": lambda: repeated(burst(0.25, 7000, 12), 1.5, 8),
    # starts and stops
    "air conditioning": lambda: (silence(2) + air(4)) * 2 + silence(2),
    "fan in steps": lambda: [each for level in (50, 500, 2500, 300) for each in air(3, level)],
    "knocks with automatic gain": lambda: automatic_gain(repeated(burst(0.08, 300, 60, 180), 3.0, 10)),
}


_HISS = white(10, 1.0, seed=11)


def pcm(samples: Samples, hiss: float = 10) -> bytes:
    """Return samples with the hiss of a microphone as s16le, clipped."""
    noisy = [each + hiss * draw for each, draw in zip(samples, itertools.cycle(_HISS), strict=False)]
    return array("h", [max(-32768, min(32767, round(each))) for each in noisy]).tobytes()
