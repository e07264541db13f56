"""Compares two files of ``scripts/bench all``: prints each figure of both runs with the ratio of new to old.

scripts/bench compare OLD NEW [--percent 10]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.benchmarks._collection import Change, Collection, changes


def table(found: list[Change]) -> str:
    """Return the changes as a Markdown table."""
    lines = ["| benchmark | row | figure | old | new | ratio |", "|---|---|---|---|---|---|"]
    for each in found:
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}"
        figures = f"{each.old:.4g} | {each.new:.4g} | {ratio}"
        lines.append(f"| {each.benchmark} | {each.row} | {each.column} | {figures} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("old", type=Path, metavar="OLD", help="file of the earlier run")
    parser.add_argument("new", type=Path, metavar="NEW", help="file of the later run")
    parser.add_argument("--percent", type=float, default=0.0, help="only figures that changed by this much (0)")
    options = parser.parse_args(arguments)
    found = changes(Collection.read(options.old), Collection.read(options.new))
    print(table([each for each in found if each.percent >= options.percent]))
    return 0
