"""The file ``bench.json``: the results of several benchmarks of one run, their comparison and their report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from scripts.benchmarks._report import Result

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
"""The lines of a document between which the report stands."""


class Collection(NamedTuple):
    """The results of one run, by benchmark. Immutable.

    ``machine``: what was measured, and where. ``missing``: why a benchmark has no result.
    """

    machine: Mapping[str, str]
    results: Mapping[str, Result]
    missing: Mapping[str, str]

    @property
    def holds(self) -> bool:
        return not self.missing and all(result.holds for result in self.results.values())

    def save(self, path: Path) -> None:
        results = {name: result.as_json() for name, result in self.results.items()}
        value = {"machine": self.machine, "benchmarks": results, "missing": self.missing}
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Collection:
        """Read a file.

        Raises:
            SystemExit: The file cannot be read, or has other contents.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            results = {name: Result.from_json(result) for name, result in value["benchmarks"].items()}
            return cls(value["machine"], results, value["missing"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path} cannot be read: {error!r}. Write it with scripts/bench all") from error

    def markdown(self) -> str:
        """Return the report: a section for each benchmark."""
        machine = ", ".join(f"{name} {value}" for name, value in self.machine.items())
        parts = [f"Measured with: {machine}."]
        for name, result in self.results.items():
            parts += [f"### {name}", result.markdown()]
        parts += [f"### {name}\n\nNot measured: {reason}." for name, reason in self.missing.items()]
        return "\n\n".join(parts)

    def figures(self) -> Iterator[tuple[tuple[str, str, str], float]]:
        """Yield each number of the tables with its benchmark, row and column."""
        for name, result in self.results.items():
            for table in result.tables:
                for row in table.rows:
                    keys = ", ".join(row[: len(table.keys)])
                    for column, value in zip(table.columns, row[len(table.keys) :], strict=True):
                        if value is not None:
                            yield (name, keys, column.name), value


class Change(NamedTuple):
    """One figure in two runs. ``ratio`` is new to old; ``None`` if the old one is 0. Immutable."""

    benchmark: str
    row: str
    column: str
    old: float
    new: float

    @property
    def ratio(self) -> float | None:
        return self.new / self.old if self.old else None

    @property
    def percent(self) -> float:
        """The size of the change in percent."""
        if self.old == self.new:
            return 0.0
        return float("inf") if self.ratio is None else 100 * abs(self.ratio - 1)


def changes(old: Collection, new: Collection) -> list[Change]:
    """Return the figures that both runs have, in the order of the new one."""
    before = dict(old.figures())
    return [Change(*place, before[place], value) for place, value in new.figures() if place in before]


def insert(document: str, report: str) -> str:
    """Return the document with the report between its two marks.

    Raises:
        ValueError: A mark is missing.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    return f"{head}{BEGIN}\n\n{report}\n\n{END}{tail}"
