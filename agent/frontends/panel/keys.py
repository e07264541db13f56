"""Reads a key of a USB remote or keyboard as the button, with evdev."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Protocol

import evdev

from agent.frontends.panel.interfaces import PanelError
from agent.system.inotify import DirectoryWatch

DIRECTORY = "/dev/input"
_RELEASED, _PRESSED = 0, 1  # values of a key event; 2 is the automatic repetition


class InputDevice(Protocol):
    """The part of ``evdev.InputDevice`` that this module uses."""

    name: str

    def fileno(self) -> int: ...
    def capabilities(self) -> dict[int, list[int]]: ...
    def read(self) -> Iterable[evdev.InputEvent]: ...
    def close(self) -> None: ...


def known_keys() -> list[str]:
    """Return the names of all keys and buttons that the kernel knows."""
    return [name for name in evdev.ecodes.ecodes if name.startswith(("KEY_", "BTN_"))]


class KeySource:
    """Reads one key of all input devices that have it, including devices that are plugged in later.

    The kernel reports new devices (inotify), so the thread does not poll. Other programs receive the key events too.
    Not thread-safe; owned by the button thread.

    Args:
        key: The name of the key, such as ``KEY_PLAYPAUSE``.
        device: A part of the name of the device; ``None``: any device.
        directory: The directory of the device files.
        open_device: Opens the input device at a path. Raises ``OSError``.
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
        except OSError:  # ENODEV: the device was unplugged
            del self._devices[path]
            device.close()
            # A new device may have the same path already. It was not opened when the kernel reported it, because the
            # path was in use.
            self._scan()
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
        if not self._watch.add(self._directory):  # the directory exists only while there are input devices
            self._watch.add(os.path.dirname(self._directory))
            if not self._watch.add(self._directory):
                return
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:  # the directory was removed with the last device meanwhile; the watch reports this
            return
        for name in names:
            path = os.path.join(self._directory, name)
            if not name.startswith("event") or path in self._devices:
                continue
            try:
                device = self._open_device(path)
            except OSError as error:
                # A new device file belongs to root at first. When udev changes its group, the watch reports it again.
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
        except OSError:  # the device was unplugged meanwhile
            return False
