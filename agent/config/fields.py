"""Declares the keys of a configuration as the fields of named tuples."""

from __future__ import annotations

import collections.abc
import functools
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from agent.config.secrets import Secret
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

T = TypeVar("T", bound=tuple[Any, ...])


class _Key(NamedTuple):
    """The declaration of a key until ``section`` processes it. Immutable."""

    default: Any
    metadata: Mapping[str, Any]


def key(default: Any, about: str, **more: Any) -> Any:
    """Declare one key of a configuration section, see ``section``.

    Args:
        default: An immutable default value, or a function without parameters that returns it.
        about: One line of help for users; it describes the effect of the value.
        more: ``low`` and ``high`` (inclusive bounds), ``choices``, ``min_items`` (of a list), ``pairs`` (of a list of
            strings: an item may be written as ``name: value``, and the list as a mapping of names to values; each pair
            becomes one string), ``note`` (a second comment in the sample configuration), ``shorthand`` (of a section:
            the key that a single value in place of the section sets), ``group`` (see ``group_key``).
    """
    return _Key(default() if callable(default) else default, {"about": about, **more})


def section(cls: type[T]) -> type[T]:
    """Make a section of the configuration from a ``NamedTuple`` whose defaults are made by ``key``.

    Twenty sections are defined before the daemon is ready. Dataclasses would take 0.4 ms for each section, and 7 ms for
    the module ``inspect``, which ``dataclasses`` imports: together a tenth of the start time.
    """
    keys: dict[str, _Key] = cls._field_defaults  # type: ignore[attr-defined]
    defaults = {name: each.default for name, each in keys.items()}
    cls.section_keys = {name: each.metadata for name, each in keys.items()}  # type: ignore[attr-defined]
    cls._field_defaults = defaults  # type: ignore[attr-defined] # the constructor is compiled with them later
    return distinct(cls)


class SectionGroup(NamedTuple):
    """Sections whose classes are imported when they are first needed. Immutable.

    The field that holds the group maps the names of sections to their values. A section that is not in this mapping has
    its default values.

    Attributes:
        names: The names of the sections, in the order of the documentation.
        load: Imports and returns the class of a section.
        used: Takes the section that holds the group; yields the names of the sections of the group that it needs.
    """

    names: tuple[str, ...]
    load: Callable[[str], Any]
    used: Callable[[Any], Iterable[str]]


def group_key(group: SectionGroup) -> Any:
    """Declare the field of a section that holds the sections of ``group``."""
    return key(dict, "", group=group)


class Field(NamedTuple):
    """The description of one key. Immutable.

    Attributes:
        kind: ``section``, ``sections`` (a list of them), ``strings`` or ``ints`` (a list of them), ``secret``,
            ``object`` (free keys and values, as in JSON), ``str``, ``int``, ``float``, ``bool``, ``str or bool``,
            ``int or word`` or ``float or word`` (a number, or one of the choices).
        is_optional: The key accepts null.
        default: The default value; ``None`` for a section.
        metadata: The arguments of ``key``.
        load: Returns the class of a section or of the items of a list of sections; ``None`` for other kinds.
        group: For a section of a group, the name of the field that holds the group.
    """

    kind: str
    is_optional: bool
    default: Any
    metadata: Mapping[str, Any]
    load: Callable[[], Any] | None = None
    group: str | None = None

    @property
    def cls(self) -> Any:
        """The class of a section, or of the items of a list of sections."""
        return self.load() if self.load is not None else None

    @property
    def about(self) -> str:
        """One line of help; for a section of a group, the first line of the docstring of its class."""
        about = str(self.metadata.get("about", ""))
        if about or self.group is None:
            return about
        line = str(self.cls.__doc__).partition("\n")[0].rstrip(".")
        return line[:1].lower() + line[1:]

    @property
    def choices(self) -> tuple[Any, ...]:
        return tuple(choice for choice in self.metadata.get("choices", ()) if choice is not None)

    def value(self, section: Any, name: str) -> Any:
        """Return the value of this key in ``section``; ``name`` is the name of the key."""
        if self.group is None:
            return getattr(section, name)
        held = getattr(section, self.group)
        return held[name] if name in held else self.cls()


Fields = Mapping[str, Field]
"""The keys of a section by name."""

_KINDS = {str: "str", int: "int", float: "float", bool: "bool", Secret: "secret"}


@functools.cache  # compiling the annotations takes most of the time
def fields_of(cls: Any) -> Fields:
    """Return the keys of a section class in the order of the documentation."""
    # typing.get_type_hints would define the 200 classes of the module ast, which delays READY by 2 ms.
    names = vars(sys.modules[cls.__module__])
    hints = {name: eval(hint, names) if isinstance(hint, str) else hint for name, hint in cls.__annotations__.items()}
    fields = {}
    for field, metadata in cls.section_keys.items():
        group: SectionGroup | None = metadata.get("group")
        if group is not None:
            for name in group.names:
                fields[name] = Field("section", False, None, {}, functools.partial(group.load, name), field)
            continue
        kind, is_optional, inner = _kind(hints[field])
        load = (lambda inner=inner: inner) if inner is not None else None
        default = None if kind == "section" else cls._field_defaults[field]
        fields[field] = Field(kind, is_optional, default, metadata, load)
    return fields


def keys_of(section: Any) -> Fields:
    """Return the keys of a section instance."""
    cls: Any = type(section)
    return fields_of(cls)


def all_keys(root: Any) -> Iterator[tuple[str, Field]]:
    """Yield the dotted name and description of each key and section below the class ``root``, outer ones first.

    Imports the class of every section.
    """
    pending = [("", root)]
    while pending:
        path, cls = pending.pop(0)
        for name, field in fields_of(cls).items():
            dotted = join(path, name)
            yield dotted, field
            if field.kind == "section":
                pending.append((dotted, field.cls))


def all_values(config: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of each key that is not a section, in the order of ``all_keys``."""
    pending = [("", config)]
    while pending:
        path, section = pending.pop(0)
        for name, field in keys_of(section).items():
            dotted, value = join(path, name), field.value(section, name)
            if field.kind == "section":
                pending.append((dotted, value))
            else:
                yield dotted, value


def changes(old: Any, new: Any) -> tuple[str, ...]:
    """Return the dotted keys whose values differ between two configurations of one class.

    A secret is compared by its place; the text that is stored there is not read.
    """
    return tuple(_changes("", old, new))


def _changes(path: str, old: Any, new: Any) -> Iterator[str]:
    for name, field in keys_of(new).items():
        if field.group and name not in getattr(old, field.group) and name not in getattr(new, field.group):
            continue  # both have the defaults; do not import the section
        before, after = field.value(old, name), field.value(new, name)
        if field.kind == "section":
            yield from _changes(join(path, name), before, after)
        elif before != after:
            yield join(path, name)


def iter_secrets(config: object, *, all_sections: bool = False) -> Iterator[tuple[str, Secret]]:
    """Yield the dotted name and the ``Secret`` of each secret, without a look-up.

    Args:
        config: The configuration, or a section of it.
        all_sections: Include the sections of groups that are neither set nor used; imports all of them.
    """
    pending: list[tuple[str, object]] = [("", config)]
    while pending:
        path, section = pending.pop(0)
        if not is_section(section):
            continue
        for name, metadata in section.section_keys.items():  # type: ignore[attr-defined]
            value = getattr(section, name)
            group: SectionGroup | None = metadata.get("group")
            if group is not None:
                names = group.names if all_sections else dict.fromkeys((*value, *group.used(section)))
                pending += [(join(path, each), value[each] if each in value else group.load(each)()) for each in names]
            elif isinstance(value, Secret):
                yield join(path, name), value
            else:
                items = value if isinstance(value, tuple) and not is_section(value) else ()
                pending.append((join(path, name), value))
                pending += [(f"{join(path, name)}[{index}]", item) for index, item in enumerate(items)]


def is_section(value: object) -> bool:
    """Return whether a value is a section or the class of one."""
    return hasattr(value, "section_keys")


def join(path: str, name: str) -> str:
    """Return the dotted name of a key in the section ``path``, which is empty for the top level."""
    return f"{path}.{name}" if path else name


def _kind(hint: Any) -> tuple[str, bool, Any]:
    """Return the kind of an annotation, whether it is optional, and the class of its section or its list items."""
    if hint in _KINDS:
        return _KINDS[hint], False, None
    if is_section(hint):
        return "section", False, hint
    inner = typing.get_args(hint)
    if typing.get_origin(hint) is collections.abc.Mapping:
        return "object", False, None
    if typing.get_origin(hint) is tuple and len(inner) == 2 and inner[1] is ...:
        kind = {str: "strings", int: "ints"}.get(inner[0], "sections")
        return kind, False, inner[0] if kind == "sections" else None
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [part for part in inner if part is not types.NoneType]
        if set(rest) == {str, bool}:
            return "str or bool", len(rest) < len(inner), None
        if set(rest) == {str, float}:
            return "float or word", len(rest) < len(inner), None
        if set(rest) == {str, int}:
            return "int or word", len(rest) < len(inner), None
        if len(rest) == 1:
            kind, _, cls = _kind(rest[0])
            return kind, True, cls
    raise TypeError(f"the configuration has a key of an unsupported type: {hint}")
