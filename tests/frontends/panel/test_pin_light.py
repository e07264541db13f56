from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gpiozero
import pytest
from support.gathered import Gathered
from support.mock_pins import mock_pins

from agent.frontends.panel.interfaces import Lamp, PanelError
from agent.frontends.panel.patterns import COLOR, SINGLE, Pattern
from agent.frontends.panel.pin_light import PinLight
from agent.frontends.panel.pins import PinLamp
from agent.pipeline.events import ListenNow
from agent.pipeline.status import VISIBLE_STATES, Status
from agent.system.threads import Backoff, Deadline

SECONDS = 60.0


class Shown:
    """A lamp that passes on what it shows, and waits for a number of steps."""

    def __init__(self, lamp: Lamp) -> None:
        self._lamp = lamp
        self.levels: list[tuple[int, ...]] = []
        self._changed = threading.Condition()

    def set(self, levels: Sequence[int]) -> None:
        self._lamp.set(levels)
        with self._changed:
            self.levels.append(tuple(levels))
            self._changed.notify_all()

    def close(self) -> None:
        self._lamp.close()

    def await_steps(self, expected: Sequence[tuple[int, ...]]) -> None:
        """Wait until the last steps are the expected ones."""
        with self._changed:
            received = self._changed.wait_for(lambda: self.levels[-len(expected) :] == [*expected], SECONDS)
            assert received, f"expected {expected}, shown {self.levels}"


@contextmanager
def running(open_lamp: Callable[[], Lamp], patterns: dict[str, Pattern] = SINGLE) -> Iterator[PinLight]:
    light = PinLight(open_lamp, patterns, Gathered(), backoff=Backoff(0.0, 0.0))
    light.open()
    light.start()
    try:
        yield light
    finally:
        light.stop()
        assert light.join(Deadline(SECONDS))


def status(state: str) -> Status:
    shown: dict[str, Any] = {"muted": {"muted": ("microphone",)}, "error": {"can_speak": False}}
    return Status("", "idle" if state in shown else state, **shown.get(state, {}))


def fast(patterns: dict[str, Pattern]) -> dict[str, Pattern]:
    """Return the patterns with short steps."""
    return {
        state: tuple(step._replace(seconds=None if step.seconds is None else 0.002) for step in pattern)
        for state, pattern in patterns.items()
    }


@pytest.mark.parametrize("state", VISIBLE_STATES)
@pytest.mark.parametrize(("pins", "patterns"), [([27], SINGLE), ([5, 6, 13], COLOR)])
def test_a_state_is_shown_as_its_pattern_on_the_pins(state: str, pins: list[int], patterns: dict[str, Pattern]) -> None:
    with mock_pins() as factory:
        lamp = Shown(PinLamp(pins, active_low=False, brightness=1.0))
        with running(lambda: lamp, fast(patterns)) as light:
            light.notify(status("thinking"))
            lamp.await_steps([step.levels for step in patterns["thinking"]] * 2)
            light.notify(status(state))
            steps = [step.levels for step in patterns[state]]
            lamp.await_steps(steps if len(steps) == 1 else steps * 2)
            if len(steps) == 1:
                assert [int(factory.pin(pin).state) for pin in pins] == [*steps[0]]
        assert [factory.pin(pin).state for pin in pins] == [False] * len(pins)


@pytest.mark.parametrize("patterns", [SINGLE, COLOR])
def test_the_patterns_of_two_states_differ(patterns: dict[str, Pattern]) -> None:
    assert tuple(patterns) == VISIBLE_STATES
    assert len(set(patterns.values())) == len(VISIBLE_STATES)


def test_a_state_without_a_blinking_pattern_causes_no_step() -> None:
    with mock_pins():
        lamp = Shown(PinLamp([27], active_low=False, brightness=1.0))
        with running(lambda: lamp) as light:
            light.notify(status("listening"))
            lamp.await_steps([(0,), (1,)])
            beats = light.heartbeats
            light.notify(status("listening"))
            light.notify(status("idle"))
            lamp.await_steps([(1,), (0,)])
            assert light.heartbeats - beats <= 3  # before and after the one wait, and before the next one
    assert lamp.levels == [(0,), (1,), (0,)]


def test_a_busy_pin_is_logged_once_and_used_when_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    attempts, lamps = Gathered(), []

    def open_lamp() -> Lamp:
        attempts(ListenNow("an attempt"))
        lamps.append(Shown(PinLamp([27], active_low=False, brightness=1.0)))
        opened.set()
        return lamps[-1]

    opened = threading.Event()
    with mock_pins():
        other = gpiozero.Button(27)
        with running(open_lamp) as light:
            light.notify(status("listening"))
            attempts.await_first(ListenNow, 2)
            other.close()
            assert opened.wait(SECONDS)
            lamps[0].await_steps([(1,)])
    texts = [record.getMessage() for record in caplog.records if "usable" in record.getMessage()]
    assert [text.partition(",")[0] for text in texts] == ["light: not usable", "light: usable again"]


def test_a_lamp_that_fails_is_opened_again(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Shown):
        def set(self, levels: Sequence[int]) -> None:
            if not self.levels and len(lamps) == 1:
                raise PanelError("the chip is gone")
            super().set(levels)

    def open_lamp() -> Lamp:
        lamps.append(Failing(PinLamp([27], active_low=False, brightness=1.0)))
        opened.release()
        return lamps[-1]

    lamps: list[Failing] = []
    opened = threading.Semaphore(0)
    with mock_pins(), running(open_lamp) as light:
        assert opened.acquire(timeout=SECONDS)
        assert opened.acquire(timeout=SECONDS)
        light.notify(status("listening"))
        lamps[1].await_steps([(1,)])
    assert "the chip is gone" in caplog.text


def test_a_pin_that_cannot_be_turned_off_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_lamp() -> Lamp:
        lamps.append(Shown(PinLamp([27], active_low=False, brightness=1.0)))
        opened.release()
        return lamps[-1]

    def set_state(value: bool) -> None:
        if failures:
            raise OSError(failures.pop())
        works(value)

    lamps: list[Shown] = []
    failures: list[str] = []
    opened = threading.Semaphore(0)
    with mock_pins() as factory, running(open_lamp) as light:
        assert opened.acquire(timeout=SECONDS)
        lamps[0].await_steps([(0,)])
        works = factory.pin(27)._set_state
        failures += ["it cannot be turned off", "it cannot be turned on"]
        monkeypatch.setattr(factory.pin(27), "_set_state", set_state)
        light.notify(status("listening"))
        assert opened.acquire(timeout=SECONDS)
        lamps[1].await_steps([(1,)])
    assert not failures


def test_a_light_that_was_not_started_can_be_stopped() -> None:
    light = PinLight(lambda: PinLamp([27], active_low=False, brightness=1.0), SINGLE, Gathered())
    light.stop()
    light.open()
    light.notify(status("listening"))
    light.abort()
    assert light.join(Deadline(SECONDS))
