"""Describes the changes to other players, and keeps them in a file until they are undone."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from agent.system.files import AtomicFile
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

log = logging.getLogger(__name__)

MAX_CHANGES = 64
_MAX_FILE_BYTES = 65536


class Change(NamedTuple):
    """One change to another player. Immutable.

    Args:
        kind: ``stream`` (volume of a stream), ``player`` (volume of a player) or ``playback`` (the player is paused).
        name: The stream (index at the sound server) or the player (its D-Bus name).
        owner: The program of the stream (name and process id) or the owner of the D-Bus name.
        before: The original volumes: of a stream one for each channel (65536 is 100 percent), of a player one (1.0 is
            100 percent). Empty for ``playback``.
        after: The changed volumes, in the same form.
    """

    kind: str
    name: str
    owner: str
    before: tuple[float, ...] = ()
    after: tuple[float, ...] = ()

    def is_same_target(self, other: Change) -> bool:
        return self[:3] == other[:3]

    def is_same_value(self, other: Change) -> bool:
        """Return whether both changes have the same kind, program and volumes; the name may differ."""
        return self.kind == other.kind and self[2:] == other[2:]


class ChangeFile:
    """A file with the changes that are not undone yet, so that they survive a crash.

    Not thread-safe; owned by one thread.

    Args:
        path: The file. It exists only while there are changes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Change]:
        """Return the changes; an empty list if the file is missing or damaged."""
        try:
            with self._path.open("rb") as file:
                rows = json.loads(file.read(_MAX_FILE_BYTES))
            return [_change(row) for row in rows[:MAX_CHANGES]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, RecursionError) as error:
            log.warning("other audio: cannot read what to restore, path=%s, %s", self._path, escape(str(error), 200))
            return []

    def write(self, changes: Sequence[Change]) -> None:
        """Replace the changes in the file. An empty sequence removes the file. Raises ``OSError``."""
        if not changes:
            self._path.unlink(missing_ok=True)
            return
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with AtomicFile(self._path) as draft:
            draft.file.write(json.dumps([tuple(change) for change in changes]).encode("utf-8"))
            draft.commit()


def _change(row: Sequence[object]) -> Change:
    kind, name, owner, before, after = row
    if not (isinstance(kind, str) and isinstance(name, str) and isinstance(owner, str)):
        raise TypeError("a change without a name")
    return Change(kind, name, owner, _numbers(before), _numbers(after))


def _numbers(values: object) -> tuple[float, ...]:
    if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
        raise TypeError("a change without volumes")
    return tuple(values)
