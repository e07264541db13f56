from __future__ import annotations

import math
import random

import pytest

from agent.audio.echo.clock_rate import ClockRate


@pytest.mark.parametrize("ppm", [-100.0, 0.0, 50.0, 600.0])
def test_rate_is_found_in_noisy_readings_of_several_runs(ppm: float) -> None:
    noise = random.Random(1)
    clock = ClockRate(16000)
    for run in range(8):
        for reading in range(100):  # 5 s
            at = 0.05 * reading
            clock.observe(16000 * at * (1 + ppm * 1e-6), 10.0 * run + at + abs(noise.gauss(0, 0.0003)))
        clock.pause()
    assert clock.ppm == pytest.approx(ppm, abs=5.0)
    assert clock.error_ppm < 5.0


def test_few_readings_say_nothing() -> None:
    clock = ClockRate(16000)
    for reading in range(10):
        clock.observe(reading * 800.0, reading * 0.05)
    assert clock.error_ppm == math.inf
    assert clock.ppm == pytest.approx(0.0, abs=1e-6)
