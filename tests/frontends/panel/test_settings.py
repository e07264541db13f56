from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from agent.frontends.panel.settings import ButtonSettings, LedSettings, gpio_problem


@pytest.fixture(autouse=True)
def mock_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in libraries else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.parametrize(
    ("settings", "path", "words"),
    [
        (ButtonSettings(gpio=17, key="KEY_A"), "key", "button.gpio is set too"),
        (ButtonSettings(key="KEY_PLAYPAUS"), "key", "no key KEY_PLAYPAUS"),
        (LedSettings(gpio=(5,), command=("true",)), "command", "led.gpio is set too"),
        (LedSettings(gpio=(5, 6)), "gpio", "one pin, or three"),
        (LedSettings(gpio=(5, 6, 5)), "gpio", "three different ones"),
        (LedSettings(command=("",)), "command[0]", "no program"),
    ],
)
def test_an_error_names_its_key(settings: ButtonSettings | LedSettings, path: str, words: str) -> None:
    [finding] = settings.check()
    assert finding.key == path
    assert words in finding.what


@pytest.mark.parametrize(
    "settings",
    [
        ButtonSettings(),
        ButtonSettings(gpio=17),
        ButtonSettings(key="KEY_PLAYPAUSE"),
        LedSettings(),
        LedSettings(gpio=(5,)),
        LedSettings(gpio=(5, 6, 13)),
        LedSettings(command=("true",)),
    ],
)
def test_a_valid_section_has_no_finding(settings: ButtonSettings | LedSettings) -> None:
    assert [*settings.check()] == []
    assert settings.is_used is (settings != type(settings)())


def test_a_misspelled_key_is_corrected() -> None:
    [finding] = ButtonSettings(key="KEY_PLAYPAUS").check()
    assert finding.suggestion == "KEY_PLAYPAUSE"


@pytest.mark.parametrize(
    ("settings", "library", "command"),
    [
        (ButtonSettings(gpio=17), "gpiozero", "apt install python3-gpiozero python3-lgpio"),
        (LedSettings(gpio=(17,)), "gpiozero", "apt install python3-gpiozero python3-lgpio"),
        (ButtonSettings(key="KEY_A"), "evdev", "apt install python3-evdev"),
    ],
)
def test_a_missing_library_is_an_error_with_the_command(
    settings: ButtonSettings | LedSettings, library: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, library)
    [finding] = settings.check()
    assert library in finding.what
    assert command in finding.what


def test_without_lgpio_the_message_names_distributions_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "lgpio")
    assert gpio_problem() is None  # another library is chosen
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY")
    assert "Debian 13" in str(gpio_problem())


def test_a_program_that_does_not_exist_is_a_warning() -> None:
    assert [*LedSettings(command=("true",)).warnings()] == []
    [finding] = LedSettings(command=("/no/such/program",)).warnings()
    assert "/no/such/program" in finding.what
