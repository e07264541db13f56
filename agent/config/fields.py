"""The keys of a configuration, described by the fields of frozen dataclasses."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from agent.config.secrets import Secret


def key(default: Any, about: str, **more: Any) -> Any:
    """Declare one key of a configuration section.

    Args:
        default: The default value, or a function without parameters that makes it.
        about: One line of help for users.
        more: ``low`` and ``high`` (inclusive bounds), ``choices``, ``least`` (minimum length of a list).
    """
    metadata = {"about": about, **more}
    if isinstance(default, list | dict) or callable(default):
        made = default if callable(default) else lambda: type(default)(default)
        return dataclasses.field(default_factory=made, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Field:
    """One key. ``kind``: ``section``, ``sections`` (a list of them), ``texts`` (a list of texts), ``secret``, ``text``,
    ``whole`` (number), ``number``, ``truth``, or ``text or truth``. ``cls``: the dataclass of a section.
    ``optional``: null is allowed and means something."""

    kind: str
    optional: bool
    cls: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def about(self) -> str:
        return str(self.metadata.get("about", ""))

    @property
    def choices(self) -> tuple[Any, ...]:
        return tuple(choice for choice in self.metadata.get("choices", ()) if choice is not None)


Keys = Mapping[str, Field]
"""The keys of a section, by their names."""

_KINDS = {str: "text", int: "whole", float: "number", bool: "truth", Secret: "secret"}


@functools.cache  # an annotation is a text that has to be compiled
def shapes(cls: Any) -> Keys:
    """The keys of a section, in the order in which they are documented."""
    hints = typing.get_type_hints(cls)
    found = {}
    for entry in dataclasses.fields(cls):
        kind, optional, inner = _kind(hints[entry.name])
        made = entry.default_factory
        default = entry.default if made is dataclasses.MISSING else made()
        found[entry.name] = Field(kind, optional, inner, default, entry.metadata)
    return found


def all_keys(root: Any) -> Iterator[tuple[str, Field]]:
    """Every key below ``root`` with its dotted name, sections too; what is inside these comes after all around them."""
    sections = [("", root)]
    while sections:
        path, cls = sections.pop(0)
        for name, shape in shapes(cls).items():
            dotted = f"{path}.{name}" if path else name
            yield dotted, shape
            if shape.kind == "section":
                sections.append((dotted, shape.cls))


def _kind(hint: Any) -> tuple[str, bool, Any]:
    if hint in _KINDS:
        return _KINDS[hint], False, None
    if dataclasses.is_dataclass(hint):
        return "section", False, hint
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and len(inner) == 2 and inner[1] is ...:
        return ("texts", False, None) if inner[0] is str else ("sections", False, inner[0])
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [part for part in inner if part is not types.NoneType]
        if set(rest) == {str, bool}:
            return "text or truth", len(rest) < len(inner), None
        if len(rest) == 1:
            kind, _, cls = _kind(rest[0])
            return kind, True, cls
    raise TypeError(f"the model has a key of a type nobody knows how to check: {hint}")


def changes(old: Any, new: Any) -> tuple[str, ...]:
    """The dotted keys whose values differ, in the order of the documentation. Where a key is looked up is compared, not
    the key that is found there: that is read anew whenever it is needed."""
    return tuple(
        dotted
        for dotted, shape in all_keys(type(new))
        if shape.kind != "section" and attrgetter(dotted)(old) != attrgetter(dotted)(new)
    )
