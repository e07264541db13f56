"""Prints the tables of a file of ``scripts/bench all`` as Markdown, or writes them into a document.

scripts/bench report bench.json [--into docs/performance.md] [--picture docs/images/peers.svg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.benchmarks._collection import Collection, insert
from scripts.benchmarks._picture import draw


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="file of the results")
    parser.add_argument("--into", type=Path, metavar="DOCUMENT", help="replace the tables in this document")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the comparison with the SDKs as SVG")
    options = parser.parse_args(arguments)
    collection = Collection.read(options.file)
    if options.picture is not None:
        if "peers" not in collection.results:
            parser.error(f"{options.file} has no results of peers: add them with scripts/bench all --peers")
        options.picture.write_text(draw(collection.results["peers"]), encoding="utf-8")
    if options.into is None:
        print(collection.markdown())
        return 0
    try:
        document = insert(options.into.read_text(encoding="utf-8"), collection.markdown())
    except ValueError as error:
        parser.error(f"{options.into}: {error}")
    options.into.write_text(document, encoding="utf-8")
    return 0
