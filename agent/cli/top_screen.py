"""The lines of ``voice-agent top``."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from agent.cli.clock import clock
from agent.cli.status_table import table
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

MIN_LEVEL_DECIBELS = -60
BAR_WIDTH = 20
RECORDS = 20
"""Maximum number of utterances on the screen."""

Fields = Mapping[str, Any]


class Snapshot(NamedTuple):
    """What the daemon reports at one moment. Immutable.

    ``levels`` (dBFS by device), ``queue`` and ``turns`` are ``None`` if the daemon has no web page or this user may not
    read them. ``records`` are the last utterances, newest first.
    """

    status: Fields
    records: Sequence[Fields] = ()
    levels: Fields | None = None
    queue: Sequence[Fields] | None = None
    turns: Sequence[Fields] | None = None


def screen(snapshot: Snapshot, notice: str = "") -> list[str]:
    """Return all lines of the screen.

    Args:
        snapshot: The state of the daemon.
        notice: The first line; empty for none.
    """
    lines = [notice] if notice else []
    lines += table(snapshot.status).splitlines()
    lines += [f"{f'{name} level':17}{_bar(level)}" for name, level in (snapshot.levels or {}).items()]
    if snapshot.queue:
        lines += ["", "QUEUE", *(_queued(entry) for entry in snapshot.queue)]
    if snapshot.turns:
        lines += ["", "TURNS", *(_turn(turn) for turn in snapshot.turns)]
    if snapshot.records:
        lines += ["", "UTTERANCES", *(_record(record) for record in snapshot.records)]
    return lines


def fit(lines: Sequence[str], width: int, height: int) -> list[str]:
    """Cut the lines to the size of a terminal in cells."""
    if len(lines) > height:
        lines = [*lines[: height - 1], "..."] if height > 1 else lines[:height]
    return [_cut(line, width) for line in lines]


def _cut(line: str, width: int) -> str:
    """Return the beginning of a line that fits into ``width`` cells; some characters occupy two cells or none."""
    cells = 0
    for index, character in enumerate(line):
        if not unicodedata.combining(character):
            cells += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if cells > width:
            return line[:index]
    return line


def _bar(level: object) -> str:
    decibels = float(level) if isinstance(level, int | float) else MIN_LEVEL_DECIBELS
    cells = round(BAR_WIDTH * (1 - max(MIN_LEVEL_DECIBELS, min(0.0, decibels)) / MIN_LEVEL_DECIBELS))
    return f"{'#' * cells:.<{BAR_WIDTH}} {decibels:.0f} dBFS"


def _queued(entry: Fields) -> str:
    fields = [entry.get("state"), entry.get("urgency"), entry.get("priority"), entry.get("source"), entry.get("id")]
    return _line(fields, entry.get("text"))


def _turn(turn: Fields) -> str:
    moments = turn.get("moments") or {}
    steps = [f"{str(name).replace('_', ' ')} {seconds:.2f} s" for name, seconds in moments.items()]
    texts = [str(turn[name]) for name in ("heard", "reply") if turn.get(name)]
    return _line([clock(turn.get("time")), turn.get("state"), turn.get("service"), *steps], " -> ".join(texts))


def _record(record: Fields) -> str:
    seconds = record.get("seconds")
    fields = [
        clock(record.get("accepted_at")),
        f"{record.get('state', ''):11}",
        f"{seconds:5.1f} s" if isinstance(seconds, int | float) else "",
        record.get("urgency"),
        record.get("source"),
        " ".join(record.get("services") or ()),
        record.get("reason"),
    ]
    return _line(fields, record.get("text"))


def _line(fields: Sequence[object], text: object) -> str:
    words = [escape(str(field), 120) for field in fields if field not in (None, "")]
    return " ".join([*words, f'"{escape(str(text), 300)}"'] if text else words)
