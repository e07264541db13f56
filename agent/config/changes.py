"""What is different between two configurations, for a reload."""

from __future__ import annotations

from operator import attrgetter

from agent.config.model import Config
from agent.config.shape import all_keys


def changes(old: Config, new: Config) -> tuple[str, ...]:
    """The dotted keys whose values differ, in the order of the documentation. Where a key is looked up is compared, not
    the key that is found there: that is read anew whenever it is needed."""
    return tuple(
        dotted
        for dotted, shape in all_keys(Config)
        if shape.kind != "section" and attrgetter(dotted)(old) != attrgetter(dotted)(new)
    )
