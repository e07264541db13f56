"""The JSON Schema of the configuration, for editors and for whoever writes one by program."""

from __future__ import annotations

from typing import Any

from agent.config.fields import Field, shapes
from agent.config.secrets import Secret

LOCATION = "/usr/share/voice-agent/config.schema.json"
"""Where the package puts it; the sample names it at its top."""

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
        {"type": "string", "description": "the key itself, only in a file that nobody else may read"},
    ]
}


def schema(cls: Any) -> dict[str, Any]:
    """The whole as JSON Schema, draft 2020-12. It knows names, types, bounds and choices; what must hold between keys
    only ``voice-agent config check`` knows."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "voice-agent",
        "description": "The configuration of voice-agent; every key has a default.",
        **_section(cls),
        "$defs": {"secret": _SECRET},
    }


def _section(cls: Any) -> dict[str, Any]:
    properties = {name: _key(shape) for name, shape in shapes(cls).items()}
    # A section whose keys are all commented out is null to YAML, and as good as left out.
    return {"type": ["object", "null"], "additionalProperties": False, "properties": properties}


def _key(shape: Field) -> dict[str, Any]:
    found: dict[str, Any] = {"description": shape.about}
    if shape.kind == "section":
        return found | _section(shape.cls)
    found["default"] = plain(shape.default)
    if shape.kind == "secret":
        return found | {"$ref": "#/$defs/secret"}
    if shape.kind == "sections":
        items = _section(shape.cls) | {"type": "object"}
        return found | {"type": ["array", "null"], "items": items}
    if shape.kind == "texts":
        items = {"type": "string"} | ({"enum": list(shape.choices)} if shape.choices else {})
        found |= {"type": "array", "items": items}
        if shape.choices:
            found["uniqueItems"] = True
        if "least" in shape.metadata:
            found["minItems"] = shape.metadata["least"]
        return found
    if shape.choices:
        return found | {"enum": [*shape.choices, *([None] if shape.optional else [])]}
    kind = {"text": "string", "whole": "integer", "number": "number", "truth": "boolean"}[shape.kind]
    found["type"] = [kind, "null"] if shape.optional else kind
    for name, bound in (("minimum", "low"), ("maximum", "high")):
        if bound in shape.metadata:
            found[name] = shape.metadata[bound]
    return found


def plain(value: Any) -> Any:
    """A value of the model as JSON has it; a secret as the place where it is looked for, a key itself as ``***``."""
    if isinstance(value, Secret):
        return reference(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def reference(secret: Secret) -> Any:
    """How the configuration names a secret, with the key itself masked."""
    for name in ("credential", "file", "env"):
        if (found := getattr(secret, name)) is not None:
            return {name: found}
    return "***" if secret.value else ""
