from __future__ import annotations

import pytest

from agent.audio.devices.period import playback_period


@pytest.mark.parametrize(
    ("period", "buffer", "expected"),
    [(0.02, 0.2, 0.09), (0.02, 0.1, 0.045), (0.2, 0.2, 0.2), (0.005, 0.02, 0.009)],
)
def test_period_follows_from_the_buffer(period: float, buffer: float, expected: float) -> None:
    assert playback_period(period, buffer) == pytest.approx(expected)
