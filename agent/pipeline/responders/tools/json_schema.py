"""Checks the arguments of a tool against its JSON Schema (draft 2020-12, the keywords that tools use)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

MAX_DEPTH = 32
MAX_STEPS = 10_000
"""Limit for the steps of one check. Without it, a schema that refers to itself could take unlimited time."""

_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}
_DEFINITIONS = ("$defs", "definitions")
_NOTES = frozenset(
    (
        *("$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated", "format"),
        *("readOnly", "writeOnly", *_DEFINITIONS),
    )
)
"""Keywords that are allowed and do not restrict the value."""
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf")
_LIMITS: Mapping[str, tuple[str, Callable[[Any, Any], bool], str]] = {
    "minimum": ("number", lambda value, limit: value >= limit, "at least"),
    "maximum": ("number", lambda value, limit: value <= limit, "at most"),
    "exclusiveMinimum": ("number", lambda value, limit: value > limit, "more than"),
    "exclusiveMaximum": ("number", lambda value, limit: value < limit, "less than"),
    "minLength": ("string", lambda value, limit: len(value) >= limit, "a length of at least"),
    "maxLength": ("string", lambda value, limit: len(value) <= limit, "a length of at most"),
    "minItems": ("array", lambda value, limit: len(value) >= limit, "a length of at least"),
    "maxItems": ("array", lambda value, limit: len(value) <= limit, "a length of at most"),
}
_KEYWORDS = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "pattern", "$ref"),
        *_LISTS_OF_SCHEMAS,
        *_LIMITS,
    )
)


class ArgumentError(Exception):
    """The arguments do not fit the schema. The message is for the model."""


def schema_problem(schema: Any, *, is_from_server: bool = False) -> str | None:
    """Return why a schema of the arguments of a tool cannot be used; ``None`` if it can be used.

    An unsupported keyword is a problem.

    Args:
        schema: The schema.
        is_from_server: Whether the schema comes from an MCP server. Then unsupported keywords and every ``pattern`` are
            ignored, because the server checks the arguments itself.
    """
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "this is no schema of an object, expected type: object with properties"
    return next(_problems(schema, schema, "", 0, is_from_server), None)


def check_arguments(schema: Mapping[str, Any], arguments: Any, *, with_patterns: bool = True) -> None:
    """Check arguments against a schema without a ``schema_problem``.

    Args:
        schema: The schema.
        arguments: The parsed JSON.
        with_patterns: Whether to check ``pattern`` too. A regular expression of an MCP server could take unlimited
            time.

    Raises:
        ArgumentError: The arguments do not fit the schema.
    """
    _Check(schema, with_patterns).value(schema, arguments, "", 0)


def _problems(schema: Any, root: Mapping[str, Any], path: str, depth: int, is_from_server: bool) -> Iterator[str]:
    where = path or "the schema"
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{where} is no schema, expected keys such as type"
        return
    if depth > MAX_DEPTH:
        yield f"the schema is nested deeper than {MAX_DEPTH} levels, expected fewer"
        return
    for name, value in schema.items():
        if is_from_server and name == "pattern":
            continue  # it is not used, and it may be valid only in JavaScript
        if name not in _KEYWORDS and name not in _NOTES:
            if is_from_server:
                continue
            yield f"{where} has the keyword {str(name)[:40]}, which is not supported, expected a schema without it"
        elif not _is_well_formed(name, value, root):
            yield f"the keyword {name} of {where} has a value that is not allowed, expected one of JSON Schema"
    properties = schema.get("properties")
    for name, value in properties.items() if isinstance(properties, dict) else ():
        yield from _problems(value, root, f"{path}.{name}".lstrip("."), depth + 1, is_from_server)
    for name in _DEFINITIONS:
        definitions = schema.get(name)
        for inner, value in definitions.items() if isinstance(definitions, dict) else ():
            yield from _problems(value, root, f"{name}/{inner}", depth + 1, is_from_server)
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from _problems(schema[name], root, f"{path}.{name}".lstrip("."), depth + 1, is_from_server)
    for name in _LISTS_OF_SCHEMAS:
        for index, value in enumerate(schema[name] if isinstance(schema.get(name), list) else ()):
            yield from _problems(value, root, f"{path}.{name}[{index}]".lstrip("."), depth + 1, is_from_server)


def _is_well_formed(name: str, value: Any, root: Mapping[str, Any]) -> bool:
    if name == "type":
        names = value if isinstance(value, list) and value else [value]
        return all(isinstance(each, str) and each in _TYPES for each in names)
    if name in ("properties", *_DEFINITIONS):
        return isinstance(value, dict)
    if name == "required":
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if name == "enum":
        return isinstance(value, list)
    if name in _LISTS_OF_SCHEMAS:
        return isinstance(value, list) and bool(value)
    if name in _LIMITS:
        return _TYPES["number"](value)
    if name == "$ref":
        return isinstance(value, str) and _resolve(root, value) is not None
    if name == "pattern":
        try:
            return isinstance(value, str) and re.compile(value) is not None
        except (re.error, RecursionError, OverflowError):
            return False
    return True


def _resolve(root: Mapping[str, Any], reference: str) -> Any:
    """Return the definition that a reference such as ``#/$defs/NAME`` names; ``None`` if there is none."""
    start, _, name = reference.rpartition("/")
    if start not in ("#/$defs", "#/definitions"):
        return None
    definitions = root.get(start[2:])
    return definitions.get(name) if isinstance(definitions, dict) else None


class _Check:
    """One check of arguments; counts its steps. Not thread-safe."""

    def __init__(self, root: Mapping[str, Any], with_patterns: bool) -> None:
        self._root, self._with_patterns, self._steps = root, with_patterns, 0

    def value(self, schema: Any, value: Any, path: str, depth: int) -> None:
        self._steps += 1
        if depth > MAX_DEPTH or self._steps > MAX_STEPS:
            raise ArgumentError("the arguments are nested too deeply or too many")
        if schema is False:
            raise ArgumentError(f"{path or 'the object'} is not allowed")
        if schema is True:
            return
        where = path or "the object"
        if "$ref" in schema:
            self.value(_resolve(self._root, schema["$ref"]), value, path, depth + 1)
        if "type" in schema:
            names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            if not any(_TYPES[name](value) for name in names):
                raise ArgumentError(f"{where} is not of the type {' or '.join(names)}")
        if "enum" in schema and not any(_equal(value, each) for each in schema["enum"]):
            raise ArgumentError(f"{where} is not one of {', '.join(map(str, schema['enum']))[:500]}")
        if "const" in schema and not _equal(value, schema["const"]):
            raise ArgumentError(f"{where} is not {schema['const']}")
        for name, (kind, holds, words) in _LIMITS.items():
            if name in schema and _TYPES[kind](value) and not holds(value, schema[name]):
                raise ArgumentError(f"{where} is out of range, expected {words} {schema[name]}")
        is_text = isinstance(value, str) and self._with_patterns
        if is_text and "pattern" in schema and not re.search(schema["pattern"], value):
            raise ArgumentError(f"{where} does not match the pattern {schema['pattern']}")
        self._combinations(schema, value, path, depth)
        if isinstance(value, dict):
            self._object(schema, value, path, depth)
        if isinstance(value, list) and "items" in schema:
            for index, item in enumerate(value):
                self.value(schema["items"], item, f"{path}[{index}]", depth + 1)

    def _combinations(self, schema: Mapping[str, Any], value: Any, path: str, depth: int) -> None:
        for each in schema.get("allOf", ()):
            self.value(each, value, path, depth + 1)
        for name in ("anyOf", "oneOf"):
            if name not in schema:
                continue
            errors: list[str] = []
            for each in schema[name]:
                try:
                    self.value(each, value, path, depth + 1)
                except ArgumentError as error:
                    errors.append(str(error))
            matches = len(schema[name]) - len(errors)
            if matches == 0:
                raise ArgumentError("; or ".join(dict.fromkeys(errors))[:500])
            if name == "oneOf" and matches > 1:
                raise ArgumentError(f"{path or 'the object'} fits more than one of the possible forms")

    def _object(self, schema: Mapping[str, Any], value: Mapping[str, Any], path: str, depth: int) -> None:
        properties = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                raise ArgumentError(f"{name} is missing")
        for name, item in value.items():
            dotted = f"{path}.{name}".lstrip(".")[:100]
            if name in properties:
                self.value(properties[name], item, dotted, depth + 1)
            elif "additionalProperties" in schema:
                self.value(schema["additionalProperties"], item, dotted, depth + 1)


def _equal(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal: unlike in Python, 1 is not ``true``."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
