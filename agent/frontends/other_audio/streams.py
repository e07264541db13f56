"""The playback streams of other programs at PulseAudio or PipeWire, through pactl."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from agent.frontends.other_audio.changes import Change
from agent.frontends.other_audio.program import EndedError, ProgramError, parse, run
from agent.system.named_tuple import NamedTuple

KIND = "stream"
_PROCESS = "application.process.id"
_TOLERANCE = 2.0
"""PipeWire stores volumes as cubes of floats; 65536 is 100 percent."""


class _Stream(NamedTuple):
    """One stream. Immutable. ``number``: its index. ``volumes``: one for each channel, 65536 is 100 percent."""

    number: str
    owner: str
    process: str
    volumes: tuple[float, ...]


class Streams:
    """Changes the volumes of streams. Not thread-safe; owned by one thread.

    Args:
        environ: The environment of the daemon, which names the sound server.
        own_process: The process whose streams are left alone.
    """

    def __init__(self, environ: Mapping[str, str], own_process: int | None = None) -> None:
        # With another language pactl translates its output.
        self._environ = {**environ, "LC_ALL": "C"}
        self._own = str(os.getpid() if own_process is None else own_process)

    def ducks(self, share: float, except_processes: frozenset[str] = frozenset()) -> list[Change]:
        """Return how to duck the streams of other programs to a share of their volume. Raises ``ProgramError``."""
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
        """Undo a change, unless the user has changed the volume since.

        A program may have replaced its stream, for example for the next song, or may have started again. Sound servers
        remember the volume of each program, so the new stream has the volume of the old one.

        Raises:
            EndedError: The program has no stream.
            ProgramError: The sound server cannot be reached.
        """
        program = _program(change.owner)
        streams = [each for each in self._list() if _program(each.owner) == program]
        changed = [each for each in streams if _is_close(each.volumes, change.after)]
        same = [each for each in changed if each.number == change.name]
        for each in same or changed:
            self._set(each.number, change.before)
        if not streams:
            raise EndedError(f"{program} has no stream")

    def _set(self, index: str, volumes: tuple[float, ...]) -> None:
        run(["pactl", "set-sink-input-volume", index, *(str(round(volume)) for volume in volumes)], self._environ)

    def _list(self) -> list[_Stream]:
        rows = self._pactl("sink-inputs")
        try:
            # The streams of PipeWire's own ALSA plugin do not name their process, only their clients do.
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
    """Return the name of the program without its process; the process of a program without a name."""
    return owner.rpartition(" ")[0] or owner


def _is_close(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= _TOLERANCE for a, b in zip(one, other, strict=True))
