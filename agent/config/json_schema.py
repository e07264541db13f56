"""Generates the JSON Schema of a configuration, for editors and programs."""

from __future__ import annotations

from typing import Any

from agent.config.fields import Field, fields_of, is_section, keys_of
from agent.config.secrets import Secret
from agent.config.validator import IGNORED_PREFIX

LOCATION = "/usr/share/voice-agent/config.schema.json"
"""Where the package installs the schema; the configuration files name it in their first line."""

_SECRET = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"credential": {"type": "string", "pattern": "^[A-Za-z0-9._-]+$"}},
            "required": ["credential"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"file": {"type": "string", "minLength": 1}},
            "required": ["file"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"env": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
            "required": ["env"],
            "additionalProperties": False,
        },
        {"type": "string", "description": "the key itself, only in a file that no other user can read"},
    ]
}
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}


def schema(cls: Any) -> dict[str, Any]:
    """Return the schema (draft 2020-12) of the configuration ``cls``.

    It has names, types, bounds and choices. Only ``voice-agent config check`` checks the rules between keys.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "voice-agent",
        "description": "The configuration of voice-agent; every key has a default.",
        **_section(cls),
        "patternProperties": {f"^{IGNORED_PREFIX}": {}},
        "$defs": {"secret": _SECRET},
    }


def _section(cls: Any) -> dict[str, Any]:
    properties = {name: _key(field) for name, field in fields_of(cls).items()}
    # A section whose keys are all commented out is null in YAML and counts as left out.
    return {"type": ["object", "null"], "additionalProperties": False, "properties": properties}


def _key(field: Field) -> dict[str, Any]:
    entry: dict[str, Any] = {"description": field.about}
    if field.kind == "section":
        section = _section(field.cls)
        shorthand = field.metadata.get("shorthand")
        return entry | ({"anyOf": [section, section["properties"][shorthand]]} if shorthand else section)
    entry["default"] = to_json(field.default)
    if field.kind == "secret":
        return entry | {"$ref": "#/$defs/secret"}
    if field.kind == "sections":
        return entry | {"type": ["array", "null"], "items": _section(field.cls) | {"type": "object"}}
    if field.kind == "strings":
        items: dict[str, Any] = {"type": "string"} | ({"enum": list(field.choices)} if field.choices else {})
        if field.metadata.get("pairs"):
            pairs = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
            list_of_pairs = {"type": "array", "items": {"anyOf": [items, pairs | {"maxProperties": 1}]}}
            return entry | {"anyOf": [list_of_pairs, pairs, {"type": "null"}]}
        entry |= {"type": "array" if field.metadata.get("min_items") else ["array", "null"], "items": items}
        if field.choices:
            entry["uniqueItems"] = True
        if "min_items" in field.metadata:
            entry["minItems"] = field.metadata["min_items"]
        return entry
    if field.kind == "object":
        return entry | {"type": "object"}
    if field.kind == "ints":
        return entry | {"type": ["array", "null"], "items": {"type": "integer"} | _bounds(field)}
    if field.kind in ("int or word", "float or word"):
        number = "integer" if field.kind == "int or word" else "number"
        return entry | {"anyOf": [{"enum": _choices(field)}, {"type": number} | _bounds(field)]}
    if field.choices:
        return entry | {"enum": _choices(field)}
    kind = _TYPES[field.kind]
    entry["type"] = [kind, "null"] if field.is_optional else kind
    return entry | _bounds(field)


def _choices(field: Field) -> list[Any]:
    return [*field.choices, *([None] if field.is_optional else [])]


def _bounds(field: Field) -> dict[str, Any]:
    names = (("minimum", "low"), ("maximum", "high"))
    return {name: field.metadata[bound] for name, bound in names if bound in field.metadata}


def to_json(value: Any) -> Any:
    """Return a value of the configuration as JSON types. A secret becomes its place, an inline secret ``***``."""
    if isinstance(value, Secret):
        for name in ("credential", "file", "env"):
            if (place := getattr(value, name)) is not None:
                return {name: place}
        return "***" if value.value else ""
    if is_section(value):
        return {name: to_json(field.value(value, name)) for name, field in keys_of(value).items()}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value
