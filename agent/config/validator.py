"""Checks a YAML tree against the sections of a configuration and collects all errors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from agent.config.errors import ConfigIssue, shorten_key, suggestion
from agent.config.fields import Field, Fields, all_keys, fields_of, join
from agent.config.scalars import Invalid, as_bool, as_float, as_int, as_number_or_word, as_str, quoted
from agent.config.secrets import Secret
from agent.config.tree import Mapping, Scalar, Sequence, Tree

PartialConfig = dict[str, Any]
"""The values that are set in a section. An inner section is a PartialConfig too."""

IGNORED_PREFIX = "x-"
"""Top-level keys with this prefix hold values for anchors and have no other meaning."""


class Validator:
    """Checks trees. Not thread-safe; owned by the caller.

    Attributes:
        issues: The errors so far.
        warnings: Observations that do not make the configuration unusable.
        origins: ``FILE:LINE`` or the name of a variable for each dotted key that is set.
        invalid_keys: The keys with an error. The caller does not report findings about them, which are consequences.
    """

    def __init__(self, root: Any, inline_refusal: str | None) -> None:
        """``root``: class of the configuration; ``inline_refusal``: why an inline secret is refused, or ``None``."""
        self.issues: list[ConfigIssue] = []
        self.warnings: list[ConfigIssue] = []
        self.origins: dict[str, str] = {}
        self.invalid_keys: set[str] = set()
        self._root = root
        self._inline_refusal = inline_refusal

    def section(self, cls: Any, tree: Tree | None, path: str) -> PartialConfig:
        """Return the values that the tree sets in a section. A section without keys counts as left out."""
        if tree is None or (isinstance(tree, Scalar) and tree.is_null):
            return {}
        fields = fields_of(cls)
        if not isinstance(tree, Mapping):
            what = f"{_kind_of(tree)} is here, expected a section with keys ({', '.join(fields)})"
            self.invalid_keys.add(path)
            self.issues.append(ConfigIssue(tree.where, path, what))
            return {}
        values: PartialConfig = {}
        for name, (where, value) in tree.entries.items():
            if name in fields:
                dotted = join(path, name)
                self.value(values, name, fields[name], value, dotted)
                if fields[name].kind == "section":
                    self.origins[dotted] = where  # the line of its name, not of its first key
            elif path or not name.startswith(IGNORED_PREFIX):
                self._report_unknown(name, where, path, fields, value)
        return values

    def value(self, values: PartialConfig, name: str, field: Field, tree: Tree, path: str) -> None:
        """Put the checked value into ``values``, or report the error."""
        if isinstance(tree, Scalar) and tree.tag == "refused":
            self.invalid_keys.add(path)
            return
        try:
            values[name] = self._checked(field, tree, path)
        except Invalid as refused:
            self.invalid_keys.add(path)
            self.issues.append(ConfigIssue(tree.where, path, str(refused), refused.suggestion))
        else:
            self.origins[path] = tree.where

    def _checked(self, field: Field, tree: Tree, path: str) -> Any:
        if field.kind == "section":
            shorthand = field.metadata.get("shorthand")
            if shorthand is not None and isinstance(tree, Scalar) and not tree.is_null:
                self.origins[join(path, shorthand)] = tree.where
                return {shorthand: self._checked(fields_of(field.cls)[shorthand], tree, path)}
            return self.section(field.cls, tree, path)
        if field.kind == "secret":
            return read_secret(tree, self._inline_refusal)
        if field.is_optional and isinstance(tree, Scalar) and tree.is_null:
            return None
        if field.kind == "sections":
            return self._sections(field, tree, path)
        if field.kind in ("strings", "ints"):
            return self._list(field, tree, path)
        if field.kind == "object":
            if not isinstance(tree, Mapping):
                raise Invalid(f"{_kind_of(tree)} is here, expected a section")
            return _json_value(tree)
        if not isinstance(tree, Scalar):
            raise Invalid(f"{_kind_of(tree)} is here, expected {_EXPECTED_KINDS.get(field.kind, 'a single value')}")
        if field.kind == "str" or (field.kind == "str or bool" and tree.tag != "bool"):
            return as_str(tree, field)
        if field.kind == "int":
            return as_int(tree, field)
        if field.kind in ("int or word", "float or word"):
            return as_number_or_word(tree, field)
        return as_float(tree, field) if field.kind == "float" else as_bool(tree)

    def _list(self, field: Field, tree: Tree, path: str) -> tuple[Any, ...]:
        item_field = Field(field.kind.removesuffix("s").replace("string", "str"), False, None, field.metadata)
        checked: list[Any] = []
        has_pairs = field.metadata.get("pairs")
        if has_pairs and isinstance(tree, Mapping):
            tree = Sequence(tree.where, [Mapping(entry[0], {name: entry}) for name, entry in tree.entries.items()])
        for index, item in enumerate(self._items(field, tree)):
            if has_pairs and isinstance(item, Mapping):
                item = _pair(item)
            values: PartialConfig = {}
            self.value(values, "item", item_field, item, f"{path}[{index}]")
            if "item" not in values:
                continue
            if field.choices and values["item"] in checked:
                what = f"{quoted(values['item'])} is in the list already, expected it once"
                self.issues.append(ConfigIssue(item.where, f"{path}[{index}]", what))
            checked.append(values["item"])
        return tuple(checked)

    def _sections(self, field: Field, tree: Tree, path: str) -> tuple[Any, ...]:
        sections = []
        for index, item in enumerate(self._items(field, tree)):
            self.origins[f"{path}[{index}]"] = item.where
            sections.append(build(field.cls, self.section(field.cls, item, f"{path}[{index}]")))
        return tuple(sections)

    def _items(self, field: Field, tree: Tree) -> list[Tree]:
        min_items = field.metadata.get("min_items", 0)
        if isinstance(tree, Scalar) and tree.is_null and not min_items:
            return []
        if isinstance(tree, Mapping):
            raise Invalid("a section is here, expected a list: begin each item with a dash")
        if not isinstance(tree, Sequence):
            items = ", ".join(part.strip() for part in tree.text.split(",")) if tree.text else "..."
            raise Invalid(f"a single value is here, expected a list: write [{items[:60]}]")
        if len(tree.items) < min_items:
            raise Invalid(f"the list is empty, expected at least {min_items} of {', '.join(map(str, field.choices))}")
        return tree.items

    def _report_unknown(self, name: str, where: str, path: str, fields: Fields, value: Tree) -> None:
        hint = suggestion(name, fields)
        if hint is not None:
            self.invalid_keys.add(join(path, hint))
        else:
            hint = self._place_of(name)
        section = f"the section {path}" if path else "the configuration"
        what = f"unknown key, {section} has {', '.join(fields)}"
        if "." in name and name.partition(".")[0] in fields:
            what = "unknown key, a dot does not lead into a section, expected the section with the key indented below"
        key = shorten_key(join(path, _shown(name, value, fields, hint)))
        self.issues.append(ConfigIssue(where, key, what, hint))

    def _place_of(self, name: str) -> str | None:
        """Return the dotted key with this name, or the outermost one of several; ``None`` if this is not unique."""
        matches = [dotted for dotted, _ in all_keys(self._root) if dotted.rpartition(".")[2] == name]
        depths = [dotted.count(".") for dotted in matches[:2]]
        return matches[0] if matches and (len(matches) == 1 or depths[0] < depths[1]) else None


def _shown(name: str, value: Tree, fields: Fields, hint: str | None) -> str:
    """Return an unknown name without a secret: if a space is missing, as in ``{api_key:KEY}``, the name has one."""
    if not any(field.kind == "secret" for field in fields.values()):
        return name
    word = re.match(r"[\w.-]*", name)[0]  # type: ignore[index]
    if hint is None and word not in fields and isinstance(value, Scalar) and value.is_null and not value.text:
        return "***"  # perhaps the secret itself, instead of {credential: NAME}
    return name if word == name else f"{word}..."


def _pair(tree: Mapping) -> Tree:
    """Return the string ``name: value`` for a mapping with one name; the caller refuses other mappings later."""
    if len(tree.entries) != 1:
        return tree
    [(name, (where, value))] = tree.entries.items()
    if not isinstance(value, Scalar) or value.tag == "refused":
        return value
    return Scalar(where, name if value.is_null else f"{name}: {value.text}", "str", is_plain=True)


def _json_value(tree: Tree) -> Any:
    """Return a tree as the types of JSON. Raises ``Invalid`` for a value that YAML reads as another type."""
    if isinstance(tree, Mapping):
        return {name: _json_value(value) for name, (_, value) in tree.entries.items()}
    if isinstance(tree, Sequence):
        return [_json_value(item) for item in tree.items]
    if tree.is_null:
        return None
    field = Field(tree.tag, False, None, {})
    converters = {
        "bool": lambda: as_bool(tree),
        "int": lambda: as_int(tree, field),
        "float": lambda: as_float(tree, field),
    }
    return converters.get(tree.tag, lambda: as_str(tree, field))()


def read_secret(tree: Tree, inline_refusal: str | None) -> Secret:
    """Return the secret that a tree describes.

    Args:
        tree: The value of the key.
        inline_refusal: The reason why an inline secret is refused; ``None`` allows it.

    Raises:
        Invalid: The tree does not describe a secret. The text quotes no value except the path of a missing file,
            because the value may be the secret itself.
    """
    if isinstance(tree, Scalar):
        return _inline_secret(tree, inline_refusal)
    if not isinstance(tree, Mapping):
        raise Invalid(f"a list is here, expected {_EXPECTED_SECRET}")
    names = [name for name in tree.entries if name in _SECRET_NAMES]
    unknown = [name for name in tree.entries if name not in _SECRET_NAMES]
    if unknown or len(names) != 1:
        hint = suggestion(unknown[0], _SECRET_NAMES) if unknown and len(unknown[0]) <= 20 else None
        raise Invalid(f"the place of the key is not clear, expected {_EXPECTED_SECRET}", hint)
    name = names[0]
    value = tree.entries[name][1]
    if not isinstance(value, Scalar) or value.is_null or value.tag == "refused" or not value.text.strip():
        raise Invalid(f"{name} has no value, expected {_EXPECTED_SECRET}")
    return Secret(**{name: _secret_place(name, value.text)})


_SECRET_NAMES = ("credential", "file", "env")
_EXPECTED_SECRET = "{credential: NAME}, {file: PATH} or {env: NAME}"


def _secret_place(name: str, text: str) -> str:
    if name == "credential" and (not re.fullmatch(r"[A-Za-z0-9._-]{1,200}", text) or text in (".", "..")):
        raise Invalid("this cannot be the name of a credential, expected letters, digits, dots and dashes, no path")
    if name == "env" and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,199}", text):
        raise Invalid("this cannot be the name of an environment variable, expected letters, digits and underlines")
    if name == "file":
        try:
            Path(text).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Invalid(f"the file {text} does not exist, expected a file that holds the key") from error
        except (OSError, ValueError):
            return text  # this user has no access; the user of the service may have it
    return text


def _inline_secret(scalar: Scalar, inline_refusal: str | None) -> Secret:
    if scalar.is_null and scalar.is_plain:
        raise Invalid(f"the value is missing, expected {_EXPECTED_SECRET}")
    text = scalar.text.strip()
    if not text:
        return Secret(value="")
    if inline_refusal is not None:
        raise Invalid(f"a key is here in clear text, and {inline_refusal}; expected {_EXPECTED_SECRET}")
    if scalar.has_comment:
        raise Invalid("a # follows the key, and YAML ends the value there: put the key in quotes")
    if not (text.isascii() and text.isprintable()):
        raise Invalid("the key has a line break, a control character or a non-ASCII character, expected one line")
    return Secret(value=text)


def build(cls: Any, values: PartialConfig) -> Any:
    """Return the section with these values; every other key has its default."""
    fields = fields_of(cls) if values else {}
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        field = fields[name]
        built = build(field.cls, value) if field.kind == "section" else value
        if field.group is None:
            arguments[name] = built
        else:
            held = arguments.setdefault(field.group, {})
            if built != field.cls():  # without defaults, equal configurations compare equal
                held[name] = built
    return cls(**arguments)


def merge(lower: PartialConfig, upper: PartialConfig) -> PartialConfig:
    """Return the values of both. ``upper`` takes precedence; sections are merged key by key."""
    merged = dict(lower)
    for name, value in upper.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = merge(merged[name], value)
        else:
            merged[name] = value
    return merged


_EXPECTED_KINDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}


def _kind_of(tree: Tree) -> str:
    if isinstance(tree, Mapping):
        return "a section"
    return "a list" if isinstance(tree, Sequence) else "a single value"
