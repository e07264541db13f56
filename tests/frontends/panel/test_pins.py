from __future__ import annotations

import select
from typing import Any

import gpiozero
import pytest
from support.mock_pins import mock_pins

from agent.frontends.panel.interfaces import PanelError
from agent.frontends.panel.pins import PinLamp, PinSource

ON, OFF = True, False


def reported(source: PinSource) -> list[bool | None]:
    [fd] = source.filenos()
    return source.read(fd) if select.select([fd], [], [], 0)[0] else []


@pytest.mark.parametrize("pull_up", [True, False])
def test_a_button_reports_presses_and_releases(pull_up: bool) -> None:
    with mock_pins() as factory:
        source = PinSource(17, pull_up=pull_up)
        source.open()
        pin = factory.pin(17)
        press, release = (pin.drive_low, pin.drive_high) if pull_up else (pin.drive_high, pin.drive_low)
        assert (pin.pull, reported(source)) == ("up" if pull_up else "down", [])
        press()
        assert reported(source) == [True]
        release()
        press()
        assert reported(source) == [False, True]
        source.close()
        assert source.filenos() == []


def test_a_busy_pin_raises_and_is_usable_when_it_is_free() -> None:
    with mock_pins():
        other = gpiozero.LED(17)
        source = PinSource(17)
        with pytest.raises(PanelError, match="17"):
            source.open()
        other.close()
        source.open()
        source.close()


@pytest.mark.parametrize("active_low", [True, False])
def test_a_lamp_lights_its_parts(active_low: bool) -> None:
    with mock_pins() as factory:
        lamp = PinLamp([5, 6, 13], active_low=active_low, brightness=1.0)
        pins = [factory.pin(number) for number in (5, 6, 13)]

        def lit() -> list[bool]:
            return [pin.state is not active_low for pin in pins]

        assert lit() == [OFF, OFF, OFF]
        lamp.set((1, 0, 1))
        assert lit() == [ON, OFF, ON]
        lamp.set((0, 1, 0))
        assert lit() == [OFF, ON, OFF]
        lamp.close()
        lamp.close()


def test_a_closed_lamp_is_dark_and_its_pins_are_free() -> None:
    with mock_pins() as factory:
        lamp = PinLamp([5], active_low=False, brightness=1.0)
        lamp.set((1,))
        lamp.close()
        assert factory.pin(5).state == OFF
        PinLamp([5], active_low=False, brightness=1.0).close()


def test_brightness_is_the_duty_cycle() -> None:
    with mock_pins(pwm=True) as factory:
        lamp = PinLamp([5], active_low=False, brightness=0.25)
        lamp.set((1,))
        assert factory.pin(5).state == 0.25
        lamp.set((0,))
        assert factory.pin(5).state == 0.0
        lamp.close()


def test_a_lamp_whose_last_pin_is_busy_frees_the_others() -> None:
    with mock_pins():
        other = gpiozero.LED(13)
        with pytest.raises(PanelError, match="13"):
            PinLamp([5, 6, 13], active_low=False, brightness=1.0)
        other.close()
        PinLamp([5, 6, 13], active_low=False, brightness=1.0).close()


def test_without_a_chip_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    found: dict[str, list[str]] = {"chips": []}
    monkeypatch.setattr("glob.glob", lambda pattern: found["chips"])
    for chips, words in ([], "no GPIO chip"), (["/dev/no-such-chip"], "group gpio"):
        found["chips"] = chips
        source: Any = PinSource(17)
        with pytest.raises(PanelError, match=words):
            source.open()
        assert gpiozero.Device.pin_factory is None
