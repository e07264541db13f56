"""Formats the configuration in use: every key with its value and its origin, without secrets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.config.fields import all_values, join, keys_of
from agent.config.json_schema import to_json
from agent.config.scalars import without_exponent
from agent.system.text import escape

_COMMENT_COLUMN = 60


def describe(config: Any, origins: Mapping[str, str]) -> str:
    """Return YAML with every key and a comment with its origin: ``default``, ``FILE:LINE`` or a variable.

    If the file has no inline secret, the result can be loaded again and gives a configuration that equals ``config``.
    The result has no terminal control characters.
    """
    return "\n".join(_section(config, "", "", origins)) + "\n"


def entries(config: Any, origins: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return ``key``, ``value`` (as JSON types) and ``origin`` of each key, for programs."""
    return [
        {"key": dotted, "value": to_json(value), "origin": origins.get(dotted, "default")}
        for dotted, value in all_values(config)
    ]


def _section(section: Any, path: str, indent: str, origins: Mapping[str, str]) -> Iterator[str]:
    for name, field in keys_of(section).items():
        dotted = join(path, name)
        value = field.value(section, name)
        if field.kind == "section":
            yield f"{indent}{name}:"
            yield from _section(value, dotted, f"{indent}  ", origins)
            continue
        origin = escape(origins.get(dotted, "default"))
        if field.kind == "sections" and value:
            yield _with_comment(f"{indent}{name}:", origin)
            yield from items(value, indent)
        else:
            yield _with_comment(f"{indent}{name}: {flow(to_json(value))}", origin)


def items(value: tuple[Any, ...], indent: str) -> Iterator[str]:
    """Yield the YAML lines of a list of sections."""
    for item in value:
        mark = "- "
        for key, inner in to_json(item).items():
            yield f"{indent}  {mark}{key}: {flow(inner)}"
            mark = "  "


def flow(value: Any) -> str:
    """Return a value as one line of YAML without terminal control characters."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        text = repr(value)
        return without_exponent(text) if "e" in text else text
    if isinstance(value, list):
        return f"[{', '.join(flow(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)}: {flow(item)}' for key, item in value.items())}}}"
    return _text(str(value))


def _with_comment(line: str, comment: str) -> str:
    return f"{line:<{_COMMENT_COLUMN}}  # {comment}"


def _text(text: str) -> str:
    # The escapes of escape() are valid in double quotes in YAML, so the text can be loaded again.
    import yaml

    if text and text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum():
        tag = yaml.resolver.Resolver().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        if tag == "tag:yaml.org,2002:str" and text[0].isalpha():
            return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escape(escaped)}"'
