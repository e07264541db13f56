"""The one place that knows PyYAML: its events become a tree, its complaints become mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.config.errors import ConfigIssue

_TAG = "tag:yaml.org,2002:"
_HALF = re.compile("[\ud800-\udfff]")
"""What an escape can put into a text and nobody can write, neither into a path nor onto a wire."""


def parse(text: str, name: str, lines: bool) -> tuple[Tree | None, list[ConfigIssue]]:
    """As ``tree.read_tree``, of a text that is not too long."""
    source = text.split("\n")

    def where(mark: Any) -> str:
        return f"{name}:{mark.line + 1}" if lines and mark is not None else name

    builder = _Builder(where, source)
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if not builder.take(event):
                break
    except yaml.YAMLError as error:
        builder.mistakes.append(_syntax_mistake(error, name, lines, text, where))
        return None, builder.mistakes
    return builder.root, builder.mistakes


class _Builder:
    """Takes the parser's events one by one, so that depth costs no recursion and a bad document is left early."""

    def __init__(self, where: Callable[[Any], str], source: list[str]) -> None:
        self.mistakes: list[ConfigIssue] = []
        self.root: Tree | None = None
        self._where = where
        self._source = source
        self._resolver = yaml.resolver.Resolver()
        self._documents = 0
        # What is being filled, outermost first, and for a mapping the name whose value comes next.
        self._open: list[tuple[Sequence | Mapping, str]] = []
        self._name: tuple[str, str] | None = None

    def take(self, event: yaml.Event) -> bool:
        """Tells whether going on makes sense."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._wrong(event, "a second document begins here, expected only one: remove the line ---")
                return False
        elif isinstance(event, yaml.AliasEvent):
            self._wrong(event, "an alias (*) is not allowed: write the value itself, in quotes if it begins with *")
            self._place(Scalar(self._where(event.start_mark), "", "refused", True))
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            return self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._name = None
        return True

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        plain = event.style is None
        tag: str = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)  # type: ignore[no-untyped-call]
        if event.tag is not None or event.anchor is not None:
            self._refuse_marks(event)
            tag = "refused"
        if _HALF.search(event.value):
            self._wrong(event, "it holds half of a character (an escape from \\ud800 to \\udfff), expected whole ones")
            tag = "refused"
        end: Any = event.end_mark
        rest = self._source[end.line][end.column :] if end.line < len(self._source) else ""
        self._place(
            Scalar(
                self._where(event.start_mark),
                event.value,
                tag.removeprefix(_TAG),
                plain,
                commented=plain and rest.lstrip().startswith("#"),
            )
        )

    def _begin(self, event: yaml.CollectionStartEvent) -> bool:
        where = self._where(event.start_mark)
        if event.tag is not None or event.anchor is not None:
            self._refuse_marks(event)
        if len(self._open) >= DEPTH_LIMIT:
            what = f"nested deeper than {DEPTH_LIMIT} levels, which no configuration needs"
            self.mistakes.append(ConfigIssue(where, self._path().partition("[")[0], what))
            self.root = None
            return False
        tree: Sequence | Mapping = Sequence(where) if isinstance(event, yaml.SequenceStartEvent) else Mapping(where)
        if self._awaits_name():
            self._wrong(event, "a list or section cannot be the name of a key, expected a word")
            self.root = None
            return False
        path = self._path()
        self._place(tree)
        self._open.append((tree, path))
        self._name = None
        return True

    def _refuse_marks(self, event: Any) -> None:
        if event.anchor is not None:
            self._wrong(event, "an anchor (&) is not allowed: put a value that begins with & in quotes")
        if event.tag is not None:
            self._wrong(event, "a tag (!) is not allowed: put a value that begins with ! in quotes")

    def _awaits_name(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0], Mapping) and self._name is None

    def _path(self) -> str:
        """The dotted name of what comes next."""
        if not self._open:
            return ""
        tree, path = self._open[-1]
        if isinstance(tree, Sequence):
            return f"{path}[{len(tree.items)}]"
        name = self._name[0] if self._name else ""
        return f"{path}.{name}" if path and name else path or name

    def _place(self, tree: Tree) -> None:
        if not self._open:
            self.root = tree
            return
        parent, path = self._open[-1]
        if isinstance(parent, Sequence):
            parent.items.append(tree)
        elif self._name is None:
            assert isinstance(tree, Scalar)  # a collection in a name's place was refused before
            self._take_name(tree, parent, path)
        else:
            name, where = self._name
            self._name = None
            if name not in parent.entries:
                parent.entries[name] = (where, tree)

    def _take_name(self, name: Scalar, parent: Mapping, path: str) -> None:
        self._name = (name.text, name.where)
        dotted = f"{path}.{name.text}" if path else name.text
        if name.text == "<<" and name.plain:
            what = "a merge key (<<) is not allowed here: write the keys themselves"
            self.mistakes.append(ConfigIssue(name.where, path, what))
        elif name.text in parent.entries:
            first = parent.entries[name.text][0]
            what = f"the same key stands here a second time (first: {first}), expected it once"
            self.mistakes.append(ConfigIssue(name.where, dotted, what))

    def _wrong(self, event: Any, what: str) -> None:
        self.mistakes.append(ConfigIssue(self._where(event.start_mark), self._path(), what))


def _syntax_mistake(
    error: yaml.YAMLError, name: str, lines: bool, text: str, where: Callable[[Any], str]
) -> ConfigIssue:
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        place = f"{name}:{line}" if lines else name
        code = ord(text[error.position])
        return ConfigIssue(place, "", f"the character U+{code:04X} is not allowed, expected plain text")
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        problem = error.problem or "it cannot be understood"
        if "'\\t'" in problem:
            return ConfigIssue(where(mark), "", "a tab stands where YAML allows only spaces: indent with spaces")
        meant = _IN_WORDS.get(problem)
        if problem.endswith("that cannot start any token"):
            meant = f"a value that begins with {problem.split()[2]} needs quotes"
        if problem.startswith("expected ',' or ") and error.context_mark is not None:
            # Where it began, for what is not closed is missed only at the end of the text.
            mark, pair = error.context_mark, "{}" if "'}'" in problem else "[]"
            meant = f"the {pair[0]} here is not closed by its {pair[1]}, or a comma is missing between its values"
        if meant is None:
            context = f"{error.context}: " if error.context else ""
            meant = f"{context}{problem}"
        return ConfigIssue(where(mark), "", f"this is not YAML: {meant}")
    return ConfigIssue(name, "", "this is not YAML")


_IN_WORDS = {
    "mapping values are not allowed here": "a colon stands where none is expected: is the line indented rightly,"
    " or does a value with a colon need quotes?",
    "could not find expected ':'": "a key without its colon, expected `key: value` (was it on the line above?)",
    "expected <block end>, but found '<block mapping start>'": "this line is indented differently from"
    " those it belongs to",
    "expected <block end>, but found '-'": "this list is indented differently from what it belongs to",
    "found unexpected end of stream": "the text ends inside quotes or brackets: is one not closed?",
    "expected alphabetic or numeric character, but found ' '": "a value that begins with * or & needs quotes",
}


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


def read_tree(data: bytes | str, name: str, *, lines: bool = True) -> tuple[Tree | None, list[ConfigIssue]]:
    """The tree of one YAML document, ``None`` where it is empty or cannot be read, and what is wrong with it.

    ``name`` is the file or the environment variable; ``lines`` tells whether line numbers mean anything in it.
    Never raises.
    """
    if len(data) > SIZE_LIMIT:
        return None, [
            ConfigIssue(name, "", f"it is longer than {SIZE_LIMIT // 1024} KiB, which no configuration needs")
        ]
    if isinstance(data, bytes):
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            return None, [ConfigIssue(f"{name}:{line}", "", f"byte 0x{data[error.start]:02x} is not UTF-8 text")]
    else:
        text = data
    if not text:
        return None, []

    return parse(text, name, lines)
