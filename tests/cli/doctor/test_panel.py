from __future__ import annotations

import glob
import os

import gpiozero
import pytest
from support.mock_pins import mock_pins

from agent.cli.doctor.panel import check_panel
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.frontends.panel.settings import ButtonSettings, LedSettings
from agent.settings.model import Config

PINS = Config()._replace(button=ButtonSettings(gpio=17), led=LedSettings(gpio=(5, 6, 13)))


def checked(config: Config, *, in_use: bool = False) -> list[CheckResult]:
    return [*check_panel(config, in_use=in_use)]


def test_without_a_button_and_a_light_there_is_no_row() -> None:
    assert checked(Config()) == []


def test_free_pins_are_ok_and_stay_free() -> None:
    with mock_pins():
        for _ in range(2):
            assert [(row.subject, row.verdict) for row in checked(PINS)] == [("button", OK), ("light", OK)]


def test_a_busy_pin_is_an_error_that_names_the_pin() -> None:
    with mock_pins():
        other = gpiozero.LED(6)
        button, light = checked(PINS)
        other.close()
    assert (button.verdict, light.verdict) == (OK, ERROR)
    assert "pin 6" in light.saw
    assert "gpioinfo" in light.cure


def test_the_pins_of_the_running_service_are_not_opened() -> None:
    with mock_pins():
        other = gpiozero.LED(17)
        assert [row.verdict for row in checked(PINS, in_use=True)] == [OK, OK]
        other.close()


def test_a_missing_chip_and_a_missing_permission_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    monkeypatch.setattr(glob, "glob", lambda pattern: [])
    assert ["no GPIO chip" in row.saw for row in checked(PINS)] == [True, True]
    monkeypatch.setattr(glob, "glob", lambda pattern: ["/dev/gpiochip0"])
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for row in checked(PINS):
        assert row.verdict == ERROR
        assert "group gpio" in row.saw


def test_a_key_that_no_device_has_is_a_warning() -> None:
    config = Config()._replace(button=ButtonSettings(key="KEY_PLAYPAUSE", device="no such device"))
    [row] = checked(config)
    assert (row.subject, row.verdict) == ("button", WARNING)
    assert "KEY_PLAYPAUSE" in row.saw


@pytest.mark.parametrize(("program", "verdict"), [("true", OK), ("/no/such/program", ERROR)])
def test_the_program_of_the_light_has_to_exist(program: str, verdict: str) -> None:
    [row] = checked(Config()._replace(led=LedSettings(command=(program,))))
    assert row.verdict == verdict
    assert program in row.saw
