"""Reads a YAML document into a tree whose values have line numbers; the only module that uses PyYAML's parser.

This module is imported only when there is a document: PyYAML takes a third of the start time of a daemon with defaults.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, NoReturn

import yaml

from agent.config.errors import ConfigIssue, shorten_key
from agent.config.fields import join
from agent.config.tree import MAX_BYTES, NOT_YAML, Mapping, Scalar, Sequence, Tree

MAX_DEPTH = 24
MAX_NODES = 10_000
"""Maximum number of values of a document, after each alias is replaced by the value of its anchor."""

_TAG = "tag:yaml.org,2002:"
_REFUSED = f"{_TAG}refused"
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_COMMENT = re.compile("[ \t]*#")
_SURROGATE = "[\ud800-\udfff]"
"""An escape in YAML can produce a surrogate. A path or message that contains a surrogate cannot be encoded."""


def read_tree(data: bytes | str, name: str, *, has_lines: bool = True) -> tuple[Tree | None, list[ConfigIssue]]:
    """Read one YAML document. Never raises.

    Args:
        data: The document; bytes are UTF-8.
        name: The file or the environment variable that holds it.
        has_lines: Whether places contain line numbers.

    Returns:
        The tree, or ``None`` if the document is empty or cannot be read; and the errors in the document.
    """
    if len(data) > MAX_BYTES:
        return None, [ConfigIssue(name, "", f"it is longer than {MAX_BYTES // 1024} KiB, expected a shorter text")]
    if isinstance(data, bytes):
        if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in data[:4]:
            what = "the text is UTF-16, expected UTF-8: convert it with iconv -f UTF-16 -t UTF-8"
            return None, [ConfigIssue(f"{name}:1", "", what)]
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = _count_lines(data[: error.start].decode("utf-8-sig"))
            what = (
                f"byte 0x{data[error.start]:02x} is not UTF-8 text: if the text is Latin-1, convert it with"
                f" iconv -f {'CP1252' if data[error.start] < 0xA0 else 'LATIN1'} -t UTF-8"
            )
            return None, [ConfigIssue(f"{name}:{line}", "", what)]
    else:
        text = data
    if not text:
        return None, []
    place = _Place(name, has_lines)
    issues: list[ConfigIssue] = []
    try:
        loader = _Loader(text, place, issues)
        node = loader.get_node() if loader.check_node() else None
        tree = _Builder(place, text, issues).build(node, "") if node is not None else None
        if loader.check_node():
            event: Any = loader.peek_event()  # type: ignore[no-untyped-call]
            where = place.of(event.start_mark)
            issues.append(ConfigIssue(where, "", "a second document begins here, expected one: remove the line ---"))
    except yaml.YAMLError as error:
        issues.append(_syntax_issue(error, place, text))
        return None, issues
    except _Refused:
        return None, issues
    return tree, issues


def read_sections(data: bytes, name: str) -> Tree | None:
    """Return the valid top-level sections of a document that is invalid as a whole; ``None`` if there are none."""
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = data[:MAX_BYTES].decode(encoding, "replace")
    entries: dict[str, tuple[str, Tree]] = {}
    for section in re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE):
        tree, issues = read_tree(section, name, has_lines=False)
        if isinstance(tree, Mapping) and not issues:
            entries = {**tree.entries, **entries}
    return Mapping(name, entries) if entries else None


class _Place:
    """Makes the places of a document for messages: its name, with the line number if this is useful. Immutable."""

    def __init__(self, name: str, has_lines: bool) -> None:
        self.name, self._has_lines = name, has_lines

    def of(self, mark: Any) -> str:
        return self.line(mark.line + 1) if mark is not None else self.name

    def line(self, number: int) -> str:
        return f"{self.name}:{number}" if self._has_lines else self.name


class _Refused(Exception):
    """The rest of the document cannot be read; the reason is already in the issues."""


class _Loader(yaml.SafeLoader):
    """Composes nodes, resolves aliases, and refuses tags and deep nesting. Not thread-safe; owned by ``read_tree``.

    Deep nesting is refused before PyYAML composes the inner nodes, because PyYAML recurses. The aliases of an anchor
    are one node here; ``_Builder`` limits the number of values to which they expand.
    """

    def __init__(self, text: str, place: _Place, issues: list[ConfigIssue]) -> None:
        super().__init__(text)
        self._place, self._issues = place, issues
        self._parents: list[tuple[Any, Any]] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self._parents.append((parent, index))
        try:
            if event.__class__ is yaml.AliasEvent:
                return self._alias(event)
            # An anchor may be defined again (YAML 1.1, 3.2.2.2), but PyYAML refuses this, so the old one is removed.
            self.anchors.pop(event.anchor, None)
            if event.tag is not None:
                self._report(event, "a tag (!) is not allowed: put a value that begins with ! in quotes")
            is_refused, event.tag = event.tag is not None, None
            if isinstance(event, yaml.CollectionStartEvent):
                if isinstance(parent, yaml.MappingNode) and index is None:
                    self._report(event, "a list or section cannot be the name of a key, expected a word")
                    raise _Refused
                if len(self._parents) > MAX_DEPTH:
                    self._report(event, f"nested deeper than {MAX_DEPTH} levels, expected fewer")
                    raise _Refused
            node = super().compose_node(parent, index)
        finally:
            self._parents.pop()
        if is_refused and isinstance(node, yaml.ScalarNode):
            node.tag = _REFUSED
        return node

    def _alias(self, event: Any) -> Any:
        self.get_event()  # type: ignore[no-untyped-call]
        node = self.anchors.get(event.anchor)
        if node is not None:
            return node
        # The message omits the name of the alias, which may be a secret without quotes.
        self._report(event, "the alias (*) has no anchor (&) above it: put a value that begins with * in quotes")
        return yaml.ScalarNode(_REFUSED, "", event.start_mark, event.end_mark)

    def _report(self, event: Any, what: str) -> None:
        path = ""
        for parent, index in self._parents:
            if isinstance(parent, yaml.SequenceNode):
                path = f"{path}[{index}]"
            elif index is not None:
                path = join(path, index.value)
        if "nested" in what:
            path = path.partition("[")[0]
        self._issues.append(_issue(self._place.of(event.start_mark), path, what))


class _Builder:
    """Turns nodes into a tree; merges sections; reports duplicate keys, surrogates and excessive expansion.

    Not thread-safe; owned by ``read_tree``.
    """

    def __init__(self, place: _Place, text: str, issues: list[ConfigIssue]) -> None:
        self._place, self._issues = place, issues
        self._text = text
        self._nodes = 0
        self._open: list[Any] = []  # the collections around the node

    def build(self, node: Any, path: str) -> Tree:
        """Return the tree of a node at the dotted key ``path``. Raises ``_Refused``."""
        where = self._place.of(node.start_mark)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._refuse(where, path, f"with its aliases the document has more than {MAX_NODES} values, expected fewer")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, where, path)
        if any(node is each for each in self._open):
            self._refuse(where, path, "the value contains an alias of itself, expected a value that ends")
        if len(self._open) >= MAX_DEPTH:
            self._refuse(where, path, f"nested deeper than {MAX_DEPTH} levels, expected fewer")
        self._open.append(node)
        tree = self._sequence(node, where, path) if isinstance(node, yaml.SequenceNode) else Mapping(where, {})
        if isinstance(tree, Mapping):
            self._fill(tree, node, path)
        self._open.pop()
        return tree

    def _sequence(self, node: Any, where: str, path: str) -> Sequence:
        return Sequence(where, [self.build(item, f"{path}[{index}]") for index, item in enumerate(node.value)])

    def _fill(self, mapping: Mapping, node: Any, path: str) -> None:
        merged: list[Mapping] = []
        for key_node, value_node in node.value:
            key_where = self._place.of(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):  # an alias of a list or section
                what = "a list or section cannot be the name of a key, expected a word"
                self._issues.append(_issue(self._place.of(value_node.start_mark), path, what))
                continue
            key = self._scalar(key_node, key_where, path)
            if key.text == "<<" and key.is_plain:
                merged += self._merged(value_node, key.where, path)
                continue
            dotted = join(path, key.text)
            is_new = key.text not in mapping.entries
            if not is_new:
                first = mapping.entries[key.text][0]
                what = f"the same key is here a second time (first: {first}), expected it once"
                self._issues.append(_issue(key.where, dotted, what))
            value = self.build(value_node, dotted)
            if is_new:
                mapping.entries[key.text] = (key.where, value)
        for other in merged:
            # A key of the section itself takes precedence, then the first merged section (YAML 1.1, merge).
            entries = {**other.entries, **mapping.entries}
            mapping.entries.clear()
            mapping.entries.update(entries)

    def _merged(self, node: Any, where: str, path: str) -> list[Mapping]:
        """Return the sections that a merge key names."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        trees = [self.build(each, path) for each in nodes]
        sections = [tree for tree in trees if isinstance(tree, Mapping)]
        if len(sections) < len(trees):
            what = "a merge key (<<) takes a section or a list of sections, expected for example *NAME with &NAME above"
            self._issues.append(_issue(where, path, what))
        return sections

    def _refuse(self, where: str, path: str, what: str) -> NoReturn:
        self._issues.append(_issue(where, path.partition("[")[0], what))
        raise _Refused

    def _scalar(self, node: Any, where: str, path: str) -> Scalar:
        tag = node.tag
        if not node.value.isprintable() and re.search(_SURROGATE, node.value):
            what = "it has half of a character (an escape from \\ud800 to \\udfff), expected whole ones"
            self._issues.append(_issue(where, path, what))
            tag = _REFUSED
        is_plain = node.style is None
        has_comment = is_plain and _COMMENT.match(self._text, node.end_mark.index) is not None
        return Scalar(where, node.value, tag.removeprefix(_TAG), is_plain, has_comment)


def _count_lines(text: str) -> int:
    """Return the number of the last line, from 1, as PyYAML counts: Unicode has more line breaks than the newline."""
    return len(_LINE_BREAK.findall(text)) + 1


def _issue(where: str, path: str, what: str) -> ConfigIssue:
    return ConfigIssue(where, shorten_key(path), what)


def _syntax_issue(error: yaml.YAMLError, place: _Place, text: str) -> ConfigIssue:
    if isinstance(error, yaml.reader.ReaderError):
        where = place.line(_count_lines(text[: error.position]))
        code = ord(text[error.position])
        return ConfigIssue(where, "", f"the character U+{code:04X} is not allowed, expected plain text")
    if not isinstance(error, yaml.MarkedYAMLError):
        return ConfigIssue(place.name, "", NOT_YAML)
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "it cannot be parsed"
    if "'\\t'" in problem:
        return ConfigIssue(place.of(mark), "", "a tab is used where YAML allows only spaces: indent with spaces")
    reason = _REASONS.get(problem)
    if problem.startswith("found unknown escape character"):
        reason = "a backslash in double quotes begins an escape: put the value in single quotes"
    if problem.startswith("found undefined tag handle") or error.context in (
        "while parsing a tag",
        "while scanning a tag",
    ):
        reason = "a value that begins with ! needs quotes"  # the value is omitted: it may be a secret
    if problem.startswith("expected alphabetic or numeric character"):
        reason = "a value that begins with * or & needs quotes"
    if problem.endswith("that cannot start any token"):
        reason = f"a value that begins with {problem.split()[2]} needs quotes"
    if problem.startswith("expected ',' or ") and error.context_mark is not None:
        # Report the start of the bracket: the parser notices the missing end only at the end of the text.
        mark, pair = error.context_mark, "{}" if "'}'" in problem else "[]"
        reason = f"the {pair[0]} here is not closed by its {pair[1]}, or a comma is missing between its values"
    if reason is None:
        context = f"{error.context}: " if error.context else ""
        reason = f"{context}{problem}"
    return ConfigIssue(place.of(mark), "", f"{NOT_YAML}: {reason}")


_REASONS = {
    "mapping values are not allowed here": "there is a colon where none is expected: is the indentation right,"
    " or does a value with a colon need quotes?",
    "could not find expected ':'": "a key without its colon, expected `key: value` (is it on the line above?)",
    "expected <block end>, but found '<block mapping start>'": "this line is indented differently from"
    " those it belongs to",
    "expected <block end>, but found '-'": "this list is indented differently from what it belongs to",
    "found unexpected end of stream": "the text ends inside quotes or brackets: is one not closed?",
    "expected <block end>, but found '<scalar>'": "text follows the end of a value: put the whole value in double"
    " quotes, for example if it begins with { or has an apostrophe",
}
