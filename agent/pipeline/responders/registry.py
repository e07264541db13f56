"""Finds the kinds of responder by name and imports each one on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from agent.pipeline.responders.responder import DeviceContext, Responder, ResponderKind


class ResponderEntry(NamedTuple):
    """The location of a kind of responder. Immutable.

    Attributes:
        module: The dotted name of the module.
        has_section: Whether the configuration has a section ``responder.NAME``.
        constant: The name of the ``ResponderKind`` in the module.
    """

    module: str
    has_section: bool = False
    constant: str = "RESPONDER"


RESPONDERS = {
    "rules": ResponderEntry("agent.pipeline.responders.rules"),
    "echo": ResponderEntry("agent.pipeline.responders.echo"),
    "openai": ResponderEntry("agent.pipeline.responders.openai", has_section=True),
    "webhook": ResponderEntry("agent.pipeline.responders.webhook", has_section=True),
    "command": ResponderEntry("agent.pipeline.responders.command", has_section=True),
    "wyoming": ResponderEntry("agent.pipeline.responders.wyoming", has_section=True),
    "none": ResponderEntry("agent.pipeline.responders.echo", constant="NO_RESPONDER"),
}
"""The kinds of responder, by the values of ``responder.kind``. Add a new kind here."""

SECTIONS = tuple(name for name, entry in RESPONDERS.items() if entry.has_section)
"""The kinds that have a section ``responder.NAME``."""


def find(name: str) -> ResponderKind:
    """Return the kind of responder called ``name``."""
    entry = RESPONDERS[name]
    kind: ResponderKind = getattr(importlib.import_module(entry.module), entry.constant)
    return kind


def settings_class(name: str) -> Any:
    """Return the class of the section ``responder.NAME``."""
    return find(name).settings


def make_responder(settings: Any, device: DeviceContext | None = None) -> Responder:
    """Return a new responder of the kind that ``settings.kind`` names.

    Args:
        settings: A ``ResponderSettings``.
        device: The device; ``None`` for the defaults of ``DeviceContext``.

    Raises:
        ConfigError: A setting that the responder needs is missing.
    """
    from agent.pipeline.responders.responder import DeviceContext

    return find(settings.kind).make(settings, device or DeviceContext())


def starts_early(settings: Any) -> bool:
    """Return whether a reply may start before the end of the question. It is discarded if the question goes on."""
    choice, kind = settings.start_early, find(settings.kind)
    if choice == "never" or (settings.kind in SECTIONS and kind.runs_tools(settings.settings(settings.kind))):
        return False  # a tool must not run for a question that may go on
    return choice == "always" or not kind.has_effects


def needs_control(settings: Any) -> bool:
    """Return whether the responder of ``settings`` needs ``DeviceContext.control``."""
    return settings.kind in SECTIONS and find(settings.kind).needs_control(settings.settings(settings.kind))


def request_matcher(settings: Any) -> Callable[[str], bool]:
    """Return a thread-safe function, which tells whether the responder knows a text as a complete request."""
    return find(settings.kind).request_matcher(settings)
