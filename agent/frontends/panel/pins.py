"""Uses pins of a Raspberry Pi for the button and the light, through gpiozero."""

from __future__ import annotations

import glob
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import gpiozero

from agent.frontends.panel.interfaces import PanelError
from agent.system.paths import Paths
from agent.system.threads import Mailbox

log = logging.getLogger(__name__)

BOUNCE_SECONDS = 0.02
PWM_HERTZ = 200
"""Frequency of the pulse width modulation, high enough to avoid visible flicker. lgpio switches the pin in a thread of
its own, which needs CPU time."""

_factory_lock = threading.Lock()


class PinSource:
    """A button that is wired to a pin. Not thread-safe; owned by the button thread.

    Args:
        pin: The number of the pin (BCM).
        pull_up: ``True``: the button connects the pin to ground; ``False``: to 3.3 V.
    """

    def __init__(self, pin: int, *, pull_up: bool = True) -> None:
        self._pin, self._pull_up = pin, pull_up
        self._button: Any = None
        self._presses: Mailbox[bool] | None = None

    def open(self) -> None:
        presses: Mailbox[bool] = Mailbox()
        try:
            _choose_factory()
            # gpiozero.Button would start a thread for long presses that polls ten times per second. The kernel filters
            # the bounces (lgpio: gpio_set_debounce_micros).
            button = gpiozero.DigitalInputDevice(self._pin, pull_up=self._pull_up, bounce_time=BOUNCE_SECONDS)
        except Exception as error:  # noqa: BLE001 - the pin libraries have no common exception
            presses.close()
            raise PanelError(_explain(error)) from None  # a traceback would keep the half-open pin reserved
        # A thread of the pin library calls these functions.
        button.when_activated = lambda: presses.put(True)
        button.when_deactivated = lambda: presses.put(False)
        self._button, self._presses = button, presses

    def filenos(self) -> list[int]:
        return [] if self._presses is None else [self._presses.fileno()]

    def read(self, fd: int) -> list[bool | None]:
        return [] if self._presses is None else [*self._presses.take()]

    def problem(self) -> str | None:
        return None

    def close(self) -> None:
        if self._button is not None:
            _release(self._button.close)
            self._button = None
        if self._presses is not None:
            self._presses.close()
            self._presses = None


class PinLamp:
    """An LED, or a color LED with one pin for each color. Not thread-safe; owned by the light thread.

    Args:
        pins: The numbers of the pins (BCM).
        active_low: Whether a low level of the pin turns the LED on.
        brightness: From 0 to 1. Below 1 the pins use pulse width modulation.

    Raises:
        PanelError: A pin does not exist or is in use.
    """

    def __init__(self, pins: Sequence[int], *, active_low: bool, brightness: float) -> None:
        self._brightness = brightness
        self._parts: list[Any] = []
        try:
            _choose_factory()
            for pin in pins:
                if brightness < 1:
                    part = gpiozero.PWMOutputDevice(pin, active_high=not active_low, frequency=PWM_HERTZ)
                else:
                    part = gpiozero.DigitalOutputDevice(pin, active_high=not active_low)
                self._parts.append(part)
        except Exception as error:  # noqa: BLE001 - as above
            self.close()
            raise PanelError(_explain(error)) from None

    def set(self, levels: Sequence[int]) -> None:
        try:
            for part, level in zip(self._parts, levels, strict=True):
                part.value = self._brightness * level if self._brightness < 1 else level
        except Exception as error:  # noqa: BLE001 - as above
            raise PanelError(_explain(error)) from None

    def close(self) -> None:
        parts, self._parts = self._parts, []
        for part in parts:
            _release(part.off)
            _release(part.close)


def _choose_factory() -> None:
    """Choose lgpio, unless the user has chosen another pin library.

    Without this, gpiozero would fall back to a library that polls if lgpio fails.
    """
    with _factory_lock:
        if gpiozero.Device.pin_factory is not None or os.environ.get("GPIOZERO_PIN_FACTORY"):
            return
        # lgpio creates a pipe in the working directory, which is / for a service. LG_WD sets another directory (lgpio's
        # documentation).
        run = Paths.from_environment(os.environ).run
        if "LG_WD" not in os.environ and run.is_dir():
            os.environ["LG_WD"] = str(run)
        from gpiozero.pins.lgpio import LGPIOFactory

        gpiozero.Device.pin_factory = LGPIOFactory()


def _release(close: Callable[[], object]) -> None:
    """Call a function that turns a pin off or closes it. Errors are only logged, because the pin may have failed."""
    try:
        close()
    except Exception as error:  # noqa: BLE001 - as above
        log.debug("pin: not released, %s", error)


def chip_problem() -> str | None:
    """Return why no GPIO chip can be used; ``None`` if one can be used, or if a pin library is chosen already."""
    if gpiozero.Device.pin_factory is not None or os.environ.get("GPIOZERO_PIN_FACTORY"):
        return None
    chips = glob.glob("/dev/gpiochip*")
    if not chips:
        return "there is no GPIO chip (/dev/gpiochip0)"
    if not any(os.access(chip, os.R_OK | os.W_OK) for chip in chips):
        return f"this user may not open {chips[0]}: add it to the group gpio, see button-and-light.md"
    return None


def _explain(error: Exception) -> str:
    """Return why pins cannot be used; if the reason is known, with the cure."""
    return chip_problem() or str(error).strip("'\" ") or type(error).__name__
