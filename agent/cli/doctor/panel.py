"""Checks of the button and the light: the chip, its permissions, the pins, the key and the program."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult

if TYPE_CHECKING:
    from agent.settings.model import Config

_GROUPS = "see Install in /usr/share/doc/voice-agent/docs/button-and-light.md"


def check_panel(config: Config, *, in_use: bool) -> Iterator[CheckResult]:
    """Yield one result for the button and one for the light, if they are configured.

    Args:
        config: The configuration.
        in_use: Whether the service runs and may have opened the pins.
    """
    button, led = config.button, config.led
    if button.gpio is not None:
        yield _check_pins("button", (button.gpio,), in_use=in_use)
    elif button.key is not None:
        yield _check_key(button.key, button.device)
    if led.gpio:
        yield _check_pins("light", led.gpio, in_use=in_use)
    elif led.command:
        yield _check_program(led.command[0])


def _check_pins(subject: str, pins: tuple[int, ...], *, in_use: bool) -> CheckResult:
    from agent.frontends.panel.interfaces import PanelError
    from agent.frontends.panel.pins import PinSource, chip_problem

    numbers = ", ".join(map(str, pins))
    if (problem := chip_problem()) is not None:
        return CheckResult(subject, ERROR, problem, f"use a machine with a GPIO chip, or {_GROUPS}")
    if in_use:
        return CheckResult(subject, OK, f"pin {numbers} of the GPIO chip, not opened: the running service may use it")
    for pin in pins:
        source = PinSource(pin)  # an input, also for an LED: it does not drive the pin
        try:
            source.open()
        except PanelError as error:
            cure = f"end the program that uses it (sudo gpioinfo, package gpiod) or choose another pin; {_GROUPS}"
            return CheckResult(subject, ERROR, f"pin {pin} cannot be used: {error}", cure)
        source.close()
    return CheckResult(subject, OK, f"pin {numbers} of the GPIO chip can be used")


def _check_key(key: str, device: str) -> CheckResult:
    from agent.frontends.panel.interfaces import PanelError
    from agent.frontends.panel.keys import KeySource
    from agent.frontends.panel.settings import ANY_DEVICE

    source = KeySource(key, None if device == ANY_DEVICE else device)
    try:
        source.open()
        problem, names = source.problem(), source.names()
    except PanelError as error:
        problem, names = str(error), []
    finally:
        source.close()
    if problem is not None:
        return CheckResult(
            "button", WARNING, problem, f"plug the device in; sudo evtest lists devices and keys; {_GROUPS}"
        )
    return CheckResult("button", OK, f"{key} of {', '.join(names)}")


def _check_program(program: str) -> CheckResult:
    path = shutil.which(program)
    if path is None:
        saw = f"the program {program} does not exist or is not executable for this user"
        return CheckResult(
            "light", ERROR, saw, "correct led.command, or make the program executable: chmod 755", own=True
        )
    return CheckResult("light", OK, f"{path} is started for each state")
