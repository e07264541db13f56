"""The strict walk: a tree of YAML against the shape of the model; every mistake is kept, none stops it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from agent.config.errors import ConfigIssue, suggestion
from agent.config.fields import Field, Keys, all_keys, shapes
from agent.config.scalars import Refused, as_number, as_text, as_truth, as_whole, quoted
from agent.config.secrets import Secret
from agent.config.yaml_tree import Mapping, Scalar, Sequence, Tree


def read_secret(tree: Tree, inline_refused: str | None) -> Secret:
    """The secret that the configuration names. No mistake ever quotes what stands there: it may be the key itself.

    ``inline_refused`` says why a key may not stand in the text itself; ``None``: it may.
    """
    if isinstance(tree, Scalar):
        return _inline(tree, inline_refused)
    if not isinstance(tree, Mapping):
        raise Refused(f"a list stands here, expected {_EXPECTED}")
    names = [name for name in tree.entries if name in _NAMES]
    strange = [name for name in tree.entries if name not in _NAMES]
    if strange or len(names) != 1:
        meant = suggestion(strange[0], _NAMES) if strange and len(strange[0]) <= 20 else None
        raise Refused(f"where to find the key is not said, expected {_EXPECTED}", meant)
    name = names[0]
    found = tree.entries[name][1]
    if not isinstance(found, Scalar) or found.null or found.tag == "refused" or not found.text.strip():
        raise Refused(f"{name} names nothing, expected {_EXPECTED}")
    return Secret(**{name: _reference(name, found.text)})


_NAMES = ("credential", "file", "env")
_EXPECTED = "{credential: NAME}, {file: PATH} or {env: NAME}"


def _reference(name: str, text: str) -> str:
    if name == "credential" and (not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text) or text in (".", "..")):
        raise Refused("this cannot be the name of a credential, expected letters, digits, dots and dashes, no path")
    if name == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", text):
        raise Refused("this cannot be the name of an environment variable, expected letters, digits and underlines")
    if name == "file":
        try:
            Path(text).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Refused(f"the file {text} does not exist, expected a file that holds the key") from error
        except (OSError, ValueError):
            return text  # this user may not look there: the service perhaps may
    return text


def _inline(scalar: Scalar, inline_refused: str | None) -> Secret:
    if scalar.null and scalar.plain:
        raise Refused(f"the value is missing, expected {_EXPECTED}")
    text = scalar.text.strip()
    if not text:
        return Secret(value="")
    if inline_refused is not None:
        raise Refused(f"a key stands here in clear text, and {inline_refused}; expected {_EXPECTED}")
    if scalar.commented:
        raise Refused("a # follows the key, and YAML ends the value there: put the key in quotes")
    if not (text.isascii() and text.isprintable()):
        raise Refused("the key holds a line break, a control character or a letter outside ASCII, expected one line")
    return Secret(value=text)


PartialConfig = dict[str, Any]
"""What was given of a section: its keys, a section inside it being a ``Sparse`` again."""


class Checker:
    """Walks trees. ``mistakes`` grows; ``origins`` tells for each dotted key where its value stands; ``spoiled`` holds
    the keys that have a mistake already, so that nobody complains about their consequences.

    ``inline_secrets``: ``None`` where a key may stand in the text itself, else why it may not.
    """

    def __init__(self, root: Any, inline_secrets: str | None) -> None:
        self.mistakes: list[ConfigIssue] = []
        self.origins: dict[str, str] = {}
        self.invalid_keys: set[str] = set()
        self._root = root
        self._inline_secrets = inline_secrets

    def section(self, cls: Any, tree: Tree | None, path: str) -> PartialConfig:
        """What the tree gives of a section. A section without a single key is as good as left out."""
        if tree is None or (isinstance(tree, Scalar) and tree.null):
            return {}
        known = shapes(cls)
        if not isinstance(tree, Mapping):
            self._wrong(tree.where, path, f"{_words(tree)} stands here, expected a section with keys", known)
            return {}
        given: PartialConfig = {}
        for name, (where, value) in tree.entries.items():
            if name in known:
                dotted = f"{path}.{name}" if path else name
                self.value(given, name, known[name], value, dotted)
                if known[name].kind == "section":
                    self.origins[dotted] = where  # not that of its first key
            elif name != "<<":  # refused as a merge key already
                self._unknown(name, where, path, known)
        return given

    def value(self, given: PartialConfig, name: str, shape: Field, tree: Tree, path: str) -> None:
        """Puts the checked value into ``given``, or notes the mistake and puts nothing."""
        if isinstance(tree, Scalar) and tree.tag == "refused":
            self.invalid_keys.add(path)
            return
        try:
            given[name] = self._checked(shape, tree, path)
        except Refused as refused:
            self.invalid_keys.add(path)
            self.mistakes.append(ConfigIssue(tree.where, path, str(refused), refused.suggestion))
        else:
            self.origins[path] = tree.where

    def _checked(self, shape: Field, tree: Tree, path: str) -> Any:
        if shape.kind == "section":
            return self.section(shape.cls, tree, path)
        if shape.kind == "secret":
            return read_secret(tree, self._inline_secrets)
        if shape.optional and isinstance(tree, Scalar) and tree.null:
            return None
        if shape.kind == "sections":
            return self._sections(shape, tree, path)
        if shape.kind == "texts":
            return self._texts(shape, tree, path)
        if not isinstance(tree, Scalar):
            raise Refused(f"{_words(tree)} stands here, expected {_expected(shape)}")
        if shape.kind == "text":
            value: Any = as_text(tree, shape)
        elif shape.kind == "whole":
            value = as_whole(tree, shape)
        elif shape.kind == "number":
            value = as_number(tree, shape)
        elif shape.kind == "text or truth" and tree.tag != "bool":
            value = as_text(tree, shape)
        else:
            value = as_truth(tree)
        return value

    def _texts(self, shape: Field, tree: Tree, path: str) -> tuple[str, ...]:
        found: list[str] = []
        for index, item in enumerate(self._items(shape, tree)):
            place: PartialConfig = {}
            inner = Field("text", False, None, None, shape.metadata)
            self.value(place, "item", inner, item, f"{path}[{index}]")
            if "item" not in place:
                continue
            if shape.choices and place["item"] in found:
                what = f"{quoted(place['item'])} stands in the list already, expected it once"
                self.mistakes.append(ConfigIssue(item.where, f"{path}[{index}]", what))
            found.append(place["item"])
        return tuple(found)

    def _sections(self, shape: Field, tree: Tree, path: str) -> tuple[Any, ...]:
        built = []
        for index, item in enumerate(self._items(shape, tree)):
            self.origins[f"{path}[{index}]"] = item.where
            built.append(build(shape.cls, self.section(shape.cls, item, f"{path}[{index}]")))
        return tuple(built)

    def _items(self, shape: Field, tree: Tree) -> list[Tree]:
        least = shape.metadata.get("least", 0)
        if isinstance(tree, Scalar) and tree.null and not least:
            return []
        if isinstance(tree, Mapping):
            raise Refused("a section stands here, expected a list: begin each item with a dash")
        if not isinstance(tree, Sequence):
            items = ", ".join(part.strip() for part in tree.text.split(",")) if tree.text else "..."
            raise Refused(f"a single value stands here, expected a list: write [{items[:60]}]")
        if len(tree.items) < least:
            raise Refused(f"the list is empty, expected at least {least} of {', '.join(map(str, shape.choices))}")
        return tree.items

    def _unknown(self, name: str, where: str, path: str, known: Keys) -> None:
        meant = suggestion(name, known)
        if meant is not None:
            self.invalid_keys.add(f"{path}.{meant}" if path else meant)
        else:
            meant = self._elsewhere(name)
        place = f"the section {path}" if path else "the configuration"
        dotted = f"{path}.{name}" if path else name
        what = f"unknown key, {place} has {', '.join(known)}"
        if "." in name and name.partition(".")[0] in known:
            what = "unknown key, a dot leads into no section, expected the section with the key indented below it"
        self.mistakes.append(ConfigIssue(where, _short(dotted), what, meant))

    def _elsewhere(self, name: str) -> str | None:
        """The one place in the configuration that has a key of this name, dotted; of several the outermost."""
        found = [dotted for dotted, _ in all_keys(self._root) if dotted.rpartition(".")[2] == name]
        depths = [dotted.count(".") for dotted in found[:2]]
        return found[0] if found and (len(found) == 1 or depths[0] < depths[1]) else None

    def _wrong(self, where: str, path: str, what: str, known: Keys) -> None:
        self.invalid_keys.add(path)
        self.mistakes.append(ConfigIssue(where, path, f"{what} ({', '.join(known)})"))


def build(cls: Any, given: PartialConfig) -> Any:
    """The dataclass with what was given; all else has its default."""
    known = shapes(cls) if given else {}
    return cls(
        **{
            name: build(known[name].cls, value) if known[name].kind == "section" else value
            for name, value in given.items()
        }
    )


def merge(below: PartialConfig, above: PartialConfig) -> PartialConfig:
    """Both, and where both have a key, ``above`` wins; sections are merged key by key."""
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def _words(tree: Tree) -> str:
    if isinstance(tree, Mapping):
        return "a section"
    return "a list" if isinstance(tree, Sequence) else "a single value"


def _expected(shape: Field) -> str:
    words = {"text": "a text", "whole": "a whole number", "number": "a number", "truth": "true or false"}
    return words.get(shape.kind, "a single value")


def _short(dotted: str) -> str:
    return dotted if len(dotted) <= 100 else f"{dotted[:100]}..."
