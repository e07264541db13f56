"""YAML text to a tree that knows its lines: bounded in size and depth, without aliases, merge keys and tags.

PyYAML's own construction is not used: it lets the last of two equal keys win, expands merge keys without bound,
recurses as deep as the text says, and turns ``no`` and ``1:30`` into a truth value and a number before anybody can
object.
"""

from __future__ import annotations

from dataclasses import field

from agent.config.mistakes import Mistake
from agent.records import dataclass

SIZE_LIMIT = 64 * 1024
DEPTH_LIMIT = 24


@dataclass(slots=True)
class Scalar:
    """A single value as it was written. ``tag``: what YAML takes it for (``str``, ``int``, ``bool``, ``null``, ...);
    ``plain``: written without quotes; ``commented``: a comment follows on its line."""

    where: str
    text: str
    tag: str
    plain: bool
    commented: bool = False

    @property
    def null(self) -> bool:
        return self.tag == "null"


@dataclass(slots=True)
class Sequence:
    """A list."""

    where: str
    items: list[Tree] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """A section. ``entries``: name to (where the name stands, value)."""

    where: str
    entries: dict[str, tuple[str, Tree]] = field(default_factory=dict)


Tree = Scalar | Sequence | Mapping


def read_tree(data: bytes | str, name: str, *, lines: bool = True) -> tuple[Tree | None, list[Mistake]]:
    """The tree of one YAML document, ``None`` where it is empty or cannot be read, and what is wrong with it.

    ``name`` is the file or the environment variable; ``lines`` tells whether line numbers mean anything in it.
    Never raises.
    """
    if len(data) > SIZE_LIMIT:
        return None, [Mistake(name, "", f"it is longer than {SIZE_LIMIT // 1024} KiB, which no configuration needs")]
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            return None, [Mistake(f"{name}:{line}", "", f"byte 0x{data[error.start]:02x} is not UTF-8 text")]
    else:
        text = data
    if not text:
        return None, []
    from agent.config.parser import parse  # YAML costs 8 ms, and a machine that uses the defaults has none to read

    return parse(text, name, lines)
