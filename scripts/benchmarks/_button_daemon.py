"""Runs the daemon with a simulated button: each line on the FIFO ``BUTTON_FIFO`` is one short press at pin 17."""

from __future__ import annotations

import os
import runpy
import threading
import time

import gpiozero
from gpiozero.pins.mock import MockFactory

PIN = 17
PRESS_SECONDS = 0.2


def _press() -> None:
    pin = gpiozero.Device.pin_factory.pin(PIN)
    while True:
        with open(os.environ["BUTTON_FIFO"]) as fifo:
            for _ in fifo:
                pin.drive_low()
                time.sleep(PRESS_SECONDS)
                pin.drive_high()


if __name__ == "__main__":
    gpiozero.Device.pin_factory = MockFactory()
    threading.Thread(target=_press, daemon=True).start()
    runpy.run_module("agent", run_name="__main__", alter_sys=True)
