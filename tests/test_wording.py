"""The words that the style guide replaces by standard terms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = ("agent", "README.md", "docs", "packaging", "config", "systemd", "scripts", "setup.cfg")
WORDS = re.compile(
    r"\b(whoever|nobody|somebody|mourn|hasten|farewells?|vigil|ears|stretch|patience|letter|told|anew|doors?)\b", re.I
)
ALLOWED = ROOT / "tests" / "word_allowlist.txt"


def test_no_replaced_word_is_left() -> None:
    allowed = set(ALLOWED.read_text("utf-8").splitlines())
    wrong = []
    for path in files():
        name = path.relative_to(ROOT)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if WORDS.search(line) and f"{name}: {line.strip()}" not in allowed:
                wrong.append(f"{name}:{number}: {line.strip()}")
    assert wrong == []


def files() -> Iterator[Path]:
    for place in PLACES:
        path = ROOT / place
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in found if file.is_file() and file.suffix not in (".pyc", ".svg", ".png"))
