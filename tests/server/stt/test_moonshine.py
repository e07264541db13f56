"""How often moonshine looks at what it has heard, with an engine made by hand: how long that takes is what matters."""

from __future__ import annotations

import threading
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from agent.server.stt.moonshine import MoonshineStream

SECOND = bytes(32000)


class Engine:
    """Stands for the model and its one stream: each look takes as long as the next of ``takes`` says, then no time."""

    def __init__(self, *takes: float) -> None:
        self.takes, self.now, self.heard = list(takes), 100.0, 0.0
        self.looked_at: list[float] = []

    def clock(self) -> float:
        return self.now

    def create_stream(self, update_interval: float) -> Engine:
        return self

    def start(self) -> None:
        """Nothing to do."""

    def add_audio(self, sound: list[float], rate: int) -> None:
        self.heard += len(sound) / rate

    def update_transcription(self) -> Any:
        self.looked_at.append(round(self.heard, 1))
        self.now += self.takes.pop(0) if self.takes else 0.0
        return SimpleNamespace(lines=[])


def pauses(engine: Engine, seconds: int) -> list[float]:
    """Between two looks each, in seconds of sound."""
    listening = MoonshineStream(engine, threading.Lock(), OSError, engine.clock)
    for at in range(0, seconds * len(SECOND), 3200):
        listening.feed((SECOND * seconds)[at : at + 3200])
    return [later - earlier for earlier, later in pairwise(engine.looked_at)]


def test_a_slow_machine_looks_so_often_that_it_keeps_up() -> None:
    found = pauses(Engine(*[1.0] * 100), 14)
    assert len(found) >= 4 and found[1:] == pytest.approx([3.0] * len(found[1:]), abs=0.2)


def test_one_slow_moment_does_not_cost_the_words_of_the_next_seconds() -> None:
    """A second in which the machine had other things to do was taken for its speed: for three seconds nothing more was
    understood, and of a short question not one word before its end."""
    found = pauses(Engine(0.0, 2.0), 4)
    assert len(found) >= 5 and found == pytest.approx([0.5] * len(found), abs=0.2)
