"""The result of a benchmark: tables, verdicts that the worst row decides, and their output as Markdown or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A column of numbers. Immutable."""

    name: str
    digits: int = 2


class Table(NamedTuple):
    """A table: each row has one text for each of ``keys``, then one number (or ``None``) for each of ``columns``.

    Immutable.
    """

    keys: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: Sequence[tuple[Any, ...]]

    def markdown(self) -> str:
        heads = [*self.keys, *(column.name for column in self.columns)]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for row in self.rows:
            numbers = zip(self.columns, row[len(self.keys) :], strict=True)
            cells = ["-" if value is None else f"{value:.{column.digits}f}" for column, value in numbers]
            lines.append(f"| {' | '.join([*row[: len(self.keys)], *cells])} |")
        return "\n".join(lines)


class Verdict(NamedTuple):
    """A claim about all rows, with its worst row. Immutable."""

    claim: str
    limit: float
    worst: float
    where: str

    @property
    def holds(self) -> bool:
        return self.worst <= self.limit

    def text(self) -> str:
        return f"{self.claim}: {'yes' if self.holds else 'no'} (worst {self.worst:.3g}, {self.where})"


def at_most(claim: str, limit: float, values: Mapping[str, float]) -> Verdict:
    """Judge the largest of the values, by row."""
    where = max(values, key=lambda row: values[row])
    return Verdict(claim, limit, values[where], where)


class Result(NamedTuple):
    """The tables and verdicts of one run. Immutable."""

    tables: Sequence[Table]
    verdicts: Sequence[Verdict] = ()
    notes: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        return all(verdict.holds for verdict in self.verdicts)

    def markdown(self) -> str:
        parts = [table.markdown() for table in self.tables]
        parts += ["\n".join(f"- {line}" for line in [v.text() for v in self.verdicts] + list(self.notes))]
        return "\n\n".join(part for part in parts if part)

    def as_json(self) -> dict[str, Any]:
        return {
            "tables": [
                {"keys": table.keys, "columns": [list(column) for column in table.columns], "rows": table.rows}
                for table in self.tables
            ],
            "verdicts": [verdict._asdict() | {"holds": verdict.holds} for verdict in self.verdicts],
            "notes": self.notes,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """Read what ``as_json`` has written."""
        tables = [
            Table(
                tuple(table["keys"]),
                tuple(Column(*column) for column in table["columns"]),
                [tuple(row) for row in table["rows"]],
            )
            for table in value["tables"]
        ]
        verdicts = [Verdict(*(each[name] for name in Verdict._fields)) for each in value["verdicts"]]
        return cls(tables, verdicts, value["notes"])

    def show(self, *, as_json: bool) -> int:
        """Print the result; return the exit code: 1 if a verdict does not hold."""
        print(json.dumps(self.as_json()) if as_json else self.markdown())
        return 0 if self.holds else 1


def progress(text: str) -> None:
    """Print one line of progress to stderr."""
    print(text, file=sys.stderr, flush=True)
