"""Players with a remote control (MPRIS) on the D-Bus session, through busctl.

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
"""It stands for the player that was used last, which has a name of its own."""
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_PLAYER = ("/org/mpris/MediaPlayer2", "org.mpris.MediaPlayer2.Player")
_CALL_SECONDS = 1
"""The timeout for a player that does not answer."""
_TOLERANCE = 0.02


class Players:
    """Pauses players, or changes their volumes. Not thread-safe; owned by one thread.

    Args:
        environ: The environment of the daemon, which names the session (``DBUS_SESSION_BUS_ADDRESS`` or
            ``XDG_RUNTIME_DIR``).
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def pauses(self) -> list[Change]:
        """Return how to pause the players that play. Raises ``ProgramError`` without a session."""
        return [Change(PAUSED, name, owner) for name, owner in self._playing()]

    def ducks(self, share: float) -> list[Change]:
        """Return how to duck the players that play and have a volume. Raises ``ProgramError`` without a session."""
        changes = []
        for name, owner in self._playing():
            volume = self._get(name, "Volume")
            if isinstance(volume, int | float) and volume > 0:
                changes.append(Change(VOLUME, name, owner, (volume,), (round(share * volume, 3),)))
        return changes

    def processes(self, changes: list[Change]) -> frozenset[str]:
        """Return the ids of the processes that own the players."""
        found = set()
        for change in changes:
            try:
                found.add(str(self._bus("GetConnectionUnixProcessID", "s", change.owner)))
            except ProgramError:
                continue
        return frozenset(found)

    def apply(self, change: Change) -> None:
        """Make a change. Raises ``ProgramError``."""
        if change.kind == PAUSED:
            self._busctl("call", change.name, *_PLAYER, "Pause")
        else:
            self._set_volume(change.name, change.after[0])

    def undo(self, change: Change) -> None:
        """Undo a change, unless the player has been restarted, or the user has changed it since.

        Raises:
            ProgramError: The session or the player does not answer.
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
        """Return a property; ``None`` if the player does not answer or has none."""
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
