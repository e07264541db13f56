"""Which device answers a wake word."""

from __future__ import annotations

import json

import pytest
from support.timing import Clock

from agent.frontends.mqtt.arbitration import WINDOW_SECONDS, Arbitration


def message(device: str, level: object) -> bytes:
    return json.dumps({"device": device, "level": level}).encode()


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(("level", "winner"), [(-20.0, "b"), (-40.0, None), (-30.0, "b")])
def test_the_louder_device_answers_in_either_order(is_first: bool, level: float, winner: str | None) -> None:
    clock = Clock()
    arbitration = Arbitration("a", clock)
    results = []
    if is_first:
        results.append(arbitration.receive(message("b", level)))
        clock.now += 0.1
    results.append(arbitration.wake(-30.0, clock.now))
    if not is_first:
        clock.now += 0.1
        results.append(arbitration.receive(message("b", level)))
    assert [result for result in results if result is not None] == ([winner] if winner else [])


def test_exactly_one_of_several_devices_answers() -> None:
    levels = {"a": -30.0, "b": -25.5, "c": -25.5, "d": -60.0}
    devices = {name: Arbitration(name, Clock()) for name in levels}
    losers = set()
    for name, level in levels.items():
        if devices[name].wake(level, 100.0) is not None:
            losers.add(name)
        for other, arbitration in devices.items():
            if other != name and arbitration.receive(message(name, level)) is not None:
                losers.add(other)
    assert sorted(levels.keys() - losers) == ["c"]


def test_a_wake_word_outside_the_window_is_another_one() -> None:
    clock = Clock()
    arbitration = Arbitration("a", clock)
    assert arbitration.wake(-50.0, clock.now) is None
    clock.now += WINDOW_SECONDS + 0.01
    assert arbitration.receive(message("b", -10.0)) is None
    clock.now += WINDOW_SECONDS + 0.01
    assert arbitration.wake(-50.0, clock.now) is None


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"[]", b'{"device": 1, "level": 0}', message("b", "loud"), message("b", 10**400)]
)
def test_a_message_that_is_none_is_ignored(payload: bytes) -> None:
    clock = Clock()
    arbitration = Arbitration("a", clock)
    arbitration.wake(-50.0, clock.now)
    assert arbitration.receive(payload) is None


def test_the_own_message_is_ignored() -> None:
    clock = Clock()
    arbitration = Arbitration("a", clock)
    arbitration.wake(-50.0, clock.now)
    assert arbitration.receive(message("a", -10.0)) is None
