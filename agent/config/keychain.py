"""All the places where a configuration looks for keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from agent.config.model import Config
from agent.config.secrets import Secret


def keychain(config: Config) -> Iterator[tuple[str, Secret]]:
    """The dotted name and the place of every key, whether it is used or not. Nothing is looked up."""
    sections: list[tuple[str, object]] = [("", config)]
    while sections:
        path, section = sections.pop(0)
        if not is_dataclass(section):
            continue
        for entry in fields(section):
            value = getattr(section, entry.name)
            dotted = f"{path}.{entry.name}" if path else entry.name
            if isinstance(value, Secret):
                yield dotted, value
            elif is_dataclass(value):
                sections.append((dotted, value))
