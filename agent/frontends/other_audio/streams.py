"""Controls the playback streams of other programs at PulseAudio or PipeWire, through pactl."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from agent.frontends.other_audio.changes import Change
from agent.frontends.other_audio.program import ProgramError, StreamEndedError, parse, run
from agent.system.named_tuple import NamedTuple

KIND = "stream"
_PROCESS = "application.process.id"
_TOLERANCE = 2.0
"""Maximum difference of two volumes that count as equal; 65536 is 100 percent. PipeWire stores volumes as cubes of
floats, so a volume that is read may differ from the volume that was set."""


class _Stream(NamedTuple):
    """One playback stream. Immutable.

    Args:
        number: Its index at the sound server, as text.
        owner: The name of its program and ``process``, separated by a space.
        process: The process id, as text.
        volumes: One volume for each channel; 65536 is 100 percent.
    """

    number: str
    owner: str
    process: str
    volumes: tuple[float, ...]


class Streams:
    """Changes the volumes of streams. Not thread-safe; owned by one thread.

    Args:
        environ: The environment of the daemon. It contains the address of the sound server.
        own_process: The id of the process whose streams are not changed; ``None``: the current process.
    """

    def __init__(self, environ: Mapping[str, str], own_process: int | None = None) -> None:
        # In another locale pactl translates its output.
        self._environ = {**environ, "LC_ALL": "C"}
        self._own = str(os.getpid() if own_process is None else own_process)

    def ducks(self, share: float, except_processes: frozenset[str] = frozenset()) -> list[Change]:
        """Return the changes that duck the streams of other programs.

        Args:
            share: The new volume as a share of the current one, from 0 to 1.
            except_processes: The ids of further processes whose streams are not changed.

        Raises:
            ProgramError: The sound server cannot be reached.
        """
        others = [each for each in self._list() if each.process != self._own and each.process not in except_processes]
        ducked = [tuple(round(share * volume) for volume in each.volumes) for each in others]
        return [
            Change(KIND, each.number, each.owner, each.volumes, volumes)
            for each, volumes in zip(others, ducked, strict=True)
            if volumes != each.volumes
        ]

    def apply(self, change: Change) -> None:
        """Make a change. Raises ``ProgramError``."""
        self._set(change.name, change.after)

    def undo(self, change: Change) -> None:
        """Undo a change, unless the user has changed the volume meanwhile.

        The program may have replaced its stream, for example for the next song, or may have restarted. Sound servers
        store the volume of each program, so the new stream has the ducked volume of the old one and is restored too.

        Raises:
            StreamEndedError: The program has no stream now.
            ProgramError: The sound server cannot be reached.
        """
        program = _program(change.owner)
        streams = [each for each in self._list() if _program(each.owner) == program]
        changed = [each for each in streams if _is_close(each.volumes, change.after)]
        same = [each for each in changed if each.number == change.name]
        for each in same or changed:
            self._set(each.number, change.before)
        if not streams:
            raise StreamEndedError(f"{program} has no stream")

    def _set(self, index: str, volumes: tuple[float, ...]) -> None:
        run(["pactl", "set-sink-input-volume", index, *(str(round(volume)) for volume in volumes)], self._environ)

    def _list(self) -> list[_Stream]:
        rows = self._pactl("sink-inputs")
        try:
            # Streams of PipeWire's own ALSA plugin have no process id. Then only the list of clients has it.
            has_all = all(_PROCESS in row.get("properties", {}) for row in rows)
            clients = {} if has_all else {str(row["index"]): row["properties"] for row in self._pactl("clients")}
            return [*_streams(rows, clients)]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProgramError(f"pactl: the list of streams is not understood: {error!r}") from error

    def _pactl(self, what: str) -> Any:
        return parse(run(["pactl", "--format=json", "list", what], self._environ))


def _streams(rows: Any, clients: Mapping[str, Any]) -> Iterator[_Stream]:
    for row in rows:
        properties = {**clients.get(str(row.get("client")), {}), **row.get("properties", {})}
        process = str(properties.get(_PROCESS, ""))
        owner = f"{properties.get('application.name', '')} {process}"
        volumes = tuple(float(channel["value"]) for channel in row.get("volume", {}).values())
        yield _Stream(str(row["index"]), owner, process, volumes)


def _program(owner: str) -> str:
    """Return the name of a program from ``_Stream.owner``, or the process id if the program has no name."""
    return owner.rpartition(" ")[0] or owner


def _is_close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= _TOLERANCE for a, b in zip(one, other, strict=True))
