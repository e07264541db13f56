"""A key of a USB remote or keyboard as the button, read with evdev."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Protocol

import evdev

from agent.frontends.panel.interfaces import PanelError
from agent.system.inotify import DirectoryWatch

DIRECTORY = "/dev/input"
_RELEASED, _PRESSED = 0, 1  # 2 is the automatic repetition


class InputDevice(Protocol):
    """An input device, as far as this module uses ``evdev.InputDevice``."""

    name: str

    def fileno(self) -> int: ...
    def capabilities(self) -> dict[int, list[int]]: ...
    def read(self) -> Iterable[evdev.InputEvent]: ...
    def close(self) -> None: ...


def known_keys() -> list[str]:
    """Return the names of all keys and buttons."""
    return [name for name in evdev.ecodes.ecodes if name.startswith(("KEY_", "BTN_"))]


class KeySource:
    """One key of every input device that has it, also of devices that are plugged in later.

    The kernel reports new devices (inotify), so that nothing is polled. Other programs get the key as well. Not
    thread-safe; owned by the button thread.

    Args:
        key: The name of the key.
        device: Part of the name of the device; ``None`` for any device.
        directory: The directory of the devices.
        open_device: Opens one. Raises ``OSError``.
    """

    def __init__(
        self,
        key: str,
        device: str | None = None,
        directory: str = DIRECTORY,
        open_device: Callable[[str], InputDevice] = evdev.InputDevice,
    ) -> None:
        self._key, self._code = key, evdev.ecodes.ecodes[key]
        self._device, self._directory, self._open_device = device, directory, open_device
        self._watch: DirectoryWatch | None = None
        self._devices: dict[str, InputDevice] = {}  # by path
        self._is_forbidden = False

    def open(self) -> None:
        try:
            self._watch = DirectoryWatch()
        except OSError as error:
            raise PanelError(f"cannot wait for new input devices: {error.strerror}") from error
        self._scan()

    def filenos(self) -> list[int]:
        watch = [] if self._watch is None else [self._watch.fileno()]
        return watch + [device.fileno() for device in self._devices.values()]

    def read(self, fd: int) -> list[bool | None]:
        if self._watch is not None and fd == self._watch.fileno():
            self._watch.drain()
            self._scan()
            return []
        path = next(path for path, device in self._devices.items() if device.fileno() == fd)
        device = self._devices[path]
        try:
            events = list(device.read())
        except BlockingIOError:
            return []
        except OSError:  # ENODEV: it was unplugged
            del self._devices[path]
            device.close()
            self._scan()  # its successor may have the same path, and was not opened when it was reported
            return [None]
        values = [event.value for event in events if event.type == evdev.ecodes.EV_KEY and event.code == self._code]
        return [value == _PRESSED for value in values if value in (_PRESSED, _RELEASED)]

    def problem(self) -> str | None:
        if self._devices:
            return None
        of_name = "" if self._device is None else f' whose name contains "{self._device}"'
        if self._is_forbidden:
            return f"this user may not read {self._directory}: add it to the group input, see button-and-light.md"
        return f"there is no input device{of_name} with {self._key}, waiting for one"

    def names(self) -> list[str]:
        """Return the names of the open devices."""
        return [device.name for device in self._devices.values()]

    def close(self) -> None:
        for device in self._devices.values():
            device.close()
        self._devices.clear()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def _scan(self) -> None:
        """Open the devices that have the key and are not open."""
        assert self._watch is not None
        self._is_forbidden = False
        if not self._watch.add(self._directory):  # the kernel creates it with the first device
            self._watch.add(os.path.dirname(self._directory))
            if not self._watch.add(self._directory):
                return
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:  # removed with the last device in this moment, which the watch reports
            return
        for name in names:
            path = os.path.join(self._directory, name)
            if not name.startswith("event") or path in self._devices:
                continue
            try:
                device = self._open_device(path)
            except OSError as error:
                # A new device first belongs to root; the change of its group is reported too.
                self._is_forbidden |= error.errno in (errno.EACCES, errno.EPERM)
                continue
            if self._is_wanted(device):
                self._devices[path] = device
            else:
                device.close()

    def _is_wanted(self, device: InputDevice) -> bool:
        is_named = self._device is None or self._device.lower() in device.name.lower()
        try:
            return is_named and self._code in device.capabilities().get(evdev.ecodes.EV_KEY, [])
        except OSError:  # unplugged in this moment
            return False
