"""Controls players with a remote control (MPRIS) on the D-Bus session bus, through busctl.

Source: the MPRIS D-Bus Interface Specification 2.2, ``org.mpris.MediaPlayer2.Player``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.frontends.other_audio.changes import Change
from agent.frontends.other_audio.program import ProgramError, parse, run

PAUSED, VOLUME = "playback", "player"
MAX_PLAYERS = 8
_PREFIX = "org.mpris.MediaPlayer2."
_PROXY = f"{_PREFIX}playerctld"
"""A proxy for the player that was used last. It is ignored, because that player also has its own name."""
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_PLAYER = ("/org/mpris/MediaPlayer2", "org.mpris.MediaPlayer2.Player")
_CALL_SECONDS = 1
"""Timeout of a call to a player, in seconds."""
_TOLERANCE = 0.02
"""Maximum difference of two volumes (0 to 1) that count as equal."""


class Players:
    """Pauses players, or changes their volumes. Not thread-safe; owned by one thread.

    Args:
        environ: The environment of the daemon. It contains the address of the session bus
            (``DBUS_SESSION_BUS_ADDRESS`` or ``XDG_RUNTIME_DIR``).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def pauses(self) -> list[Change]:
        """Return the changes that pause the players that play now. Raises ``ProgramError`` without a session bus."""
        return [Change(PAUSED, name, owner) for name, owner in self._playing()]

    def ducks(self, share: float) -> list[Change]:
        """Return the changes that duck the players that play now and have a volume.

        Args:
            share: The new volume as a share of the current one, from 0 to 1.

        Raises:
            ProgramError: There is no session bus.
        """
        changes = []
        for name, owner in self._playing():
            volume = self._get(name, "Volume")
            if isinstance(volume, int | float) and volume > 0:
                changes.append(Change(VOLUME, name, owner, (volume,), (round(share * volume, 3),)))
        return changes

    def processes(self, changes: list[Change]) -> frozenset[str]:
        """Return the process ids of the players of ``changes``, as text."""
        found = set()
        for change in changes:
            try:
                found.add(str(self._bus("GetConnectionUnixProcessID", "s", change.owner)))
            except ProgramError:
                continue
        return frozenset(found)

    def apply(self, change: Change) -> None:
        """Make a change. Raises ``ProgramError`` if the player does not answer."""
        if change.kind == PAUSED:
            self._busctl("call", change.name, *_PLAYER, "Pause")
        else:
            self._set_volume(change.name, change.after[0])

    def undo(self, change: Change) -> None:
        """Undo a change, unless the player has restarted, or the user has resumed it or changed its volume meanwhile.

        Raises:
            ProgramError: The session bus or the player does not answer.
        """
        if change.name not in self._names() or self._owner(change.name) != change.owner:
            return
        if change.kind == PAUSED:
            if self._get(change.name, "PlaybackStatus") == "Paused":
                self._busctl("call", change.name, *_PLAYER, "Play")
            return
        volume = self._get(change.name, "Volume")
        if isinstance(volume, int | float) and abs(volume - change.after[0]) <= _TOLERANCE:
            self._set_volume(change.name, change.before[0])

    def _playing(self) -> list[tuple[str, str]]:
        names = [name for name in self._names() if self._get(name, "PlaybackStatus") == "Playing"]
        return [(name, self._owner(name)) for name in names]

    def _names(self) -> list[str]:
        names = self._bus("ListNames")
        return sorted(name for name in names if name.startswith(_PREFIX) and name != _PROXY)[:MAX_PLAYERS]

    def _owner(self, name: str) -> str:
        return str(self._bus("GetNameOwner", "s", name))

    def _get(self, name: str, property: str) -> Any:
        """Return a property of a player; ``None`` if the player does not answer or does not have it."""
        try:
            return parse(self._busctl("get-property", name, *_PLAYER, property))["data"]
        except (ProgramError, KeyError, TypeError):
            return None

    def _set_volume(self, name: str, volume: float) -> None:
        self._busctl("set-property", name, *_PLAYER, "Volume", "d", f"{volume:.3f}")

    def _bus(self, method: str, *arguments: str) -> Any:
        try:
            return parse(self._busctl("call", *_BUS, method, *arguments))["data"][0]
        except (KeyError, TypeError, IndexError) as error:
            raise ProgramError(f"busctl: the answer to {method} is not understood") from error

    def _busctl(self, *arguments: str) -> str:
        options = ["--user", "--json=short", f"--timeout={_CALL_SECONDS}"]
        return run(["busctl", *options, *arguments], self._environ)
