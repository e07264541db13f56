"""Level meter: decibels, peak, floor and clipping."""

from __future__ import annotations

import random
from array import array

import pytest

from agent.audio.level_meter import MIN_DECIBELS, Level, LevelMeter, count_clipped, decibels
from agent.cli.sound import BAR_WIDTH, bar


def steady(value: int, count: int = 800) -> bytes:
    return array("h", [value, -value] * (count // 2)).tobytes()


def test_decibels_are_relative_to_full_scale() -> None:
    assert decibels(32768) == 0.0
    assert decibels(16384) == pytest.approx(-6.02, abs=0.01)
    assert decibels(0) == MIN_DECIBELS


def test_meter_holds_the_peak_and_tracks_the_floor() -> None:
    meter = LevelMeter(0.05)
    for _ in range(20):
        meter.feed(steady(33))
    loud = [meter.feed(steady(16384)) for _ in range(20)][-1]
    assert loud.level == pytest.approx(-6.0, abs=0.1) and loud.floor == pytest.approx(-60, abs=0.2)
    after = [meter.feed(steady(33)) for _ in range(10)][-1]
    assert after.level == pytest.approx(-60, abs=0.2) and after.peak == pytest.approx(-6.0, abs=0.1)
    later = [meter.feed(steady(33)) for _ in range(40)][-1]
    assert later.peak == pytest.approx(-60, abs=0.2)


def test_clipped_counts_samples_at_full_scale() -> None:
    assert count_clipped(array("h", [32767, -32768, 32766, -32767, 0]).tobytes()) == 2
    assert count_clipped(b"") == 0 and count_clipped(b"\x01") == 0


def test_bar_has_constant_width() -> None:
    made = random.Random(1)
    meter = LevelMeter(0.05)
    lengths = set()
    for _ in range(200):
        lengths.add(len(bar(meter.feed(steady(made.choice([0, 1, 100, 5000, 32767]))))))
    assert len(lengths) == 1
    assert bar(LevelMeter(0.05).feed(steady(0))).startswith("[|" + " " * (BAR_WIDTH - 1) + "]")


@pytest.mark.parametrize("columns", [None, 200, 80, 60, 55, 20])
def test_the_bar_fits_into_the_terminal(columns: int | None) -> None:
    """A longer line wraps, and each of the 20 lines in a second would scroll the screen."""
    lines = [
        bar(Level(level, level, floor, clipped_samples), columns)
        for level, floor in ((-96.0, -96.0), (-30.0, -60.0), (0.0, 0.0))
        for clipped_samples in (0, 9)
    ]
    assert len({len(line) for line in lines}) == 1
    assert columns is None or len(lines[0]) < columns
    assert all(line.count("|") == (1 if line.startswith("[") else 0) for line in lines)
    assert lines[0].startswith("[") == (columns is None or columns >= 55)
