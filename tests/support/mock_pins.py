"""gpiozero's mock pins in the place of those of a Raspberry Pi, and input devices without a kernel driver."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import evdev
import gpiozero
from gpiozero.pins.mock import MockFactory, MockPin, MockPWMPin

PRESSED, RELEASED, REPEATED = 1, 0, 2


@contextmanager
def mock_pins(*, pwm: bool = False) -> Iterator[Any]:
    """Yield the factory of the pins. ``pin(number)`` has ``drive_low``, ``drive_high`` and ``state``."""
    factory = MockFactory(pin_class=MockPWMPin if pwm else MockPin)
    gpiozero.Device.pin_factory = factory
    try:
        yield factory
    finally:
        factory.reset()
        gpiozero.Device.pin_factory = None


class Remote(evdev.eventio.EventIO):
    """An input device with one key. Its events are in the encoding of the kernel and are decoded by evdev."""

    def __init__(self, key: str = "KEY_PLAYPAUSE", name: str = "USB Remote") -> None:
        self.name, self._code = name, evdev.ecodes.ecodes[key]
        self.fd, self._events = os.pipe()
        os.set_blocking(self.fd, False)

    def capabilities(self) -> dict[int, list[int]]:
        return {evdev.ecodes.EV_SYN: [0], evdev.ecodes.EV_KEY: [evdev.ecodes.KEY_A, self._code]}

    def report(self, value: int, key: str | None = None) -> None:
        """Report a press, a release or a repetition of the key, or of another one."""
        code = self._code if key is None else evdev.ecodes.ecodes[key]
        encoded = [(evdev.ecodes.EV_KEY, code, value), (evdev.ecodes.EV_SYN, evdev.ecodes.SYN_REPORT, 0)]
        os.write(self._events, b"".join(struct.pack("llHHi", 1, 2, *event) for event in encoded))

    def unplug(self) -> None:
        os.close(self._events)

    def read(self) -> Any:
        events = list(super().read())
        if not events:
            raise OSError(errno.ENODEV, "No such device")
        return events

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.fd)


class Plugs:
    """A directory of input devices.

    Args:
        directory: It need not exist.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._remotes: dict[str, Remote] = {}
        self.forbidden: set[str] = set()

    def plug(self, remote: Remote, name: str = "event0") -> None:
        self._remotes[str(self.directory / name)] = remote
        self.directory.mkdir(exist_ok=True)
        (self.directory / name).touch()

    def unplug(self, name: str = "event0") -> None:
        (self.directory / name).unlink()
        self._remotes.pop(str(self.directory / name)).unplug()

    def permit(self, name: str = "event0") -> None:
        """Let the user read a device, and report it as the kernel does."""
        self.forbidden.discard(name)
        (self.directory / name).chmod(0o660)

    def open(self, path: str) -> Remote:
        if os.path.basename(path) in self.forbidden:
            raise PermissionError(errno.EACCES, "Permission denied")
        return self._remotes[path]
