"""Helpers for tests of codecs."""

from __future__ import annotations

from typing import Any

from agent.services.protocols.codec import End, Event, Failure, Message


def send_all(codec: Any, *events: Event) -> list[Message]:
    """Return the messages of several events."""
    return [message for event in events for message in codec.send(event)]


def receive_all(codec: Any, *messages: Message) -> list[Event]:
    """Return the events of several messages."""
    return [event for message in messages for event in codec.receive(message)]


def is_refused(events: list[Event]) -> bool:
    """Return whether the only event is a failure that does not end the session."""
    return len(events) == 1 and isinstance(events[0], Failure) and not events[0].fatal


def is_fatal(events: list[Event]) -> bool:
    """Return whether the only event is a failure that ends the session."""
    return len(events) == 1 and isinstance(events[0], Failure) and events[0].fatal


def count_endings(events: list[Event]) -> int:
    """Return how many events end the session."""
    return sum(isinstance(event, End) or (isinstance(event, Failure) and event.fatal) for event in events)
