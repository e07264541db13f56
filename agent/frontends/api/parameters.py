"""The parameters of the methods: their types, bounds and JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping

from agent.frontends.api.json_rpc import INVALID_PARAMS, RpcError
from agent.system.json_text import json_type
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
}
_WORDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "a boolean",
    "array": "a list",
}


class Parameter(NamedTuple):
    """One parameter of a method. Immutable.

    Args:
        types: The JSON types that are allowed.
        help: One line about the parameter, for the documentation.
        required: Whether a request without it is an error.
        low: The lowest value of a number, or the minimum length of a text in characters.
        high: The highest value of a number, or the maximum length of a text in characters.
        choices: The allowed texts, or the allowed items of a list; empty if every text is allowed.
        pattern: A regular expression that the whole text must match, and its description.
    """

    types: tuple[str, ...]
    help: str
    required: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: tuple[str, str] | None = None

    def schema(self) -> dict[str, object]:
        """Return the JSON Schema of the allowed values."""
        variants = [self._variant(type) for type in self.types]
        return {**(variants[0] if len(variants) == 1 else {"anyOf": variants}), "description": self.help}

    def _variant(self, type: str) -> dict[str, object]:
        schema: dict[str, object] = {"type": type}
        if type == "string" and self.choices:
            schema["enum"] = list(self.choices)
        elif type == "array":
            schema["items"] = {"type": "string", **({"enum": list(self.choices)} if self.choices else {})}
        elif type == "string":
            schema |= {name: int(value) for name, value in self._bounds("minLength", "maxLength")}
            schema |= {"pattern": f"^{self.pattern[0]}$"} if self.pattern else {}
        elif type in ("integer", "number"):
            schema |= dict(self._bounds("minimum", "maximum"))
        return schema

    def _bounds(self, low: str, high: str) -> list[tuple[str, float]]:
        return [(name, value) for name, value in ((low, self.low), (high, self.high)) if value is not None]

    def check(self, name: str, value: object) -> None:
        """Check a value. ``name`` is the name of the parameter, for the error.

        Raises:
            RpcError: The value is not allowed.
        """
        is_boolean = isinstance(value, bool)
        if not any(isinstance(value, _TYPES[type]) and is_boolean == (type == "boolean") for type in self.types):
            raise invalid(f"{name} is {self.description()}, not {json_type(value)}")
        if isinstance(value, str):
            self._check_text(name, value)
        elif isinstance(value, list):
            for item in value:
                if not isinstance(item, str) or (self.choices and item not in self.choices):
                    raise invalid(f"{name} is a list of {', '.join(self.choices) or 'texts'}")
        elif not is_boolean and isinstance(value, int | float):
            too_low = self.low is not None and value < self.low
            if too_low or (self.high is not None and value > self.high):
                raise invalid(f"{name} is {self.description()}")

    def _check_text(self, name: str, value: str) -> None:
        if self.choices and value not in self.choices:
            raise invalid(f"{name} is {self.description()}, not {escape(value, 40)!r}")
        if not self.choices and "integer" not in self.types:
            if self.low is not None and len(value) < self.low:
                raise invalid(f"{name} has at least {self.low:g} characters")
            if self.high is not None and len(value) > self.high:
                raise invalid(f"{name} has at most {self.high:g} characters")
            if self.pattern is not None and not re.fullmatch(self.pattern[0], value):
                raise invalid(f"{name} has only {self.pattern[1]}")

    def description(self) -> str:
        """Return the allowed values in words, for error messages and the documentation."""
        words = []
        for type in self.types:
            if type == "string" and self.choices:
                words.append(f"one of {', '.join(self.choices)}")
            elif type == "string" and self.high is not None:
                made_of = f" ({self.pattern[1]})" if self.pattern else ""
                words.append(f"text of at most {self.high:g} characters{made_of}")
            elif type in ("integer", "number") and self.low is not None and self.high is not None:
                words.append(f"{_WORDS[type]} from {self.low:g} to {self.high:g}")
            else:
                words.append(_WORDS[type])
        return " or ".join(words)


def object_schema(parameters: Mapping[str, Parameter]) -> dict[str, object]:
    """Return the JSON Schema of the member ``params`` of a request."""
    required = [name for name, parameter in parameters.items() if parameter.required]
    schema: dict[str, object] = {
        "type": "object",
        "properties": {name: parameter.schema() for name, parameter in parameters.items()},
        "additionalProperties": False,
    }
    return {**schema, "required": required} if required else schema


def check_all(method: str, parameters: Mapping[str, Parameter], params: Mapping[str, object]) -> None:
    """Check the parameters of a request.

    Raises:
        RpcError: A parameter is missing, unknown or not allowed.
    """
    if unknown := sorted(params.keys() - parameters.keys()):
        names = ", ".join(parameters) or "none"
        raise invalid(f"{method} has no parameter {escape(unknown[0], 40)!r}; its parameters: {names}")
    for name, parameter in parameters.items():
        if name in params:
            parameter.check(name, params[name])
        elif parameter.required:
            raise invalid(f"{method} needs the parameter {name}")


def invalid(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)
