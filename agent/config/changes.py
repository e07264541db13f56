"""What is different between two configurations, for a reload."""

from __future__ import annotations

from agent.config.model import Config
from agent.config.shape import shapes


def changes(old: Config, new: Config) -> tuple[str, ...]:
    """The dotted keys whose values differ, in the order of the documentation. Where a key is looked up is compared, not
    the key that is found there: that is read anew whenever it is needed."""
    found: list[str] = []
    sections: list[tuple[str, object, object]] = [("", old, new)]
    while sections:
        path, before, after = sections.pop(0)
        for name, shape in shapes(type(before)).items():
            dotted = f"{path}.{name}" if path else name
            was, is_now = getattr(before, name), getattr(after, name)
            if shape.kind == "section":
                sections.append((dotted, was, is_now))
            elif was != is_now:
                found.append(dotted)
    return tuple(found)
