"""The configuration as it is in force: every key, where its value comes from, and no secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

from agent.config.fields import all_keys, shapes
from agent.config.json_schema import plain
from agent.system.text import escape

_COLUMN = 60


def describe(config: Any, origins: Mapping[str, str]) -> str:
    """YAML with every key; a comment behind each says ``default``, ``FILE:LINE`` or the name of the variable. Where no
    key stands in the file itself, it can be loaded again and gives the same configuration. Harmless on a terminal."""
    return "\n".join(_section(type(config), config, "", "", origins)) + "\n"


def entries(config: Any, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """The same for programs: ``key``, ``value`` and ``origin`` of each."""
    return [
        {"key": dotted, "value": plain(attrgetter(dotted)(config)), "origin": origins.get(dotted, "default")}
        for dotted, shape in all_keys(type(config))
        if shape.kind != "section"
    ]


def _section(cls: Any, section: Any, path: str, indent: str, origins: Mapping[str, str]) -> Iterator[str]:
    for name, shape in shapes(cls).items():
        dotted = f"{path}.{name}" if path else name
        value = getattr(section, name)
        if shape.kind == "section":
            yield f"{indent}{name}:"
            yield from _section(shape.cls, value, dotted, f"{indent}  ", origins)
            continue
        origin = escape(origins.get(dotted, "default"))
        if shape.kind == "sections" and value:
            yield _commented(f"{indent}{name}:", origin)
            yield from _items(value, indent)
        else:
            yield _commented(f"{indent}{name}: {flow(plain(value))}", origin)


def _items(value: tuple[Any, ...], indent: str) -> Iterator[str]:
    for item in value:
        mark = "- "
        for key, inner in plain(item).items():
            yield f"{indent}  {mark}{key}: {flow(inner)}"
            mark = "  "


def _commented(line: str, origin: str) -> str:
    return f"{line:<{_COLUMN}}  # {origin}"


def flow(value: Any) -> str:
    """A value on one line of YAML, without a character that a terminal would obey."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(flow(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {flow(item)}' for key, item in value.items())}}}"
    return _text(str(value))


def _text(text: str) -> str:
    # YAML's escapes in double quotes are those of safe(), so that what is harmless is also what can be read again.
    import yaml

    if text and text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if tag == "tag:yaml.org,2002:str" and text[0].isalpha():
            return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape(escaped)}"'
