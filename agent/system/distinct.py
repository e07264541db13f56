"""Provides a class decorator that gives named tuples the comparison and truth value that events need."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", bound=tuple[object, ...])


def distinct(cls: type[T]) -> type[T]:
    """Make the instances of a ``NamedTuple`` always true, and equal only to instances of the same class.

    A plain named tuple compares as a tuple: two events of different classes with equal fields would be equal, and an
    event without fields would be false. A frozen dataclass has neither problem, but its class statement takes 330
    instead of 9 microseconds (Python 3.11 compiles up to six methods for each dataclass).
    """
    cls.__eq__ = _equal  # type: ignore[method-assign, assignment]
    cls.__ne__ = _unequal  # type: ignore[method-assign, assignment]
    cls.__hash__ = tuple.__hash__  # type: ignore[method-assign, assignment]
    cls.__bool__ = _true  # type: ignore[attr-defined]
    return cls


def _equal(self: tuple[object, ...], other: object) -> bool:
    return type(self) is type(other) and tuple.__eq__(self, other)  # type: ignore[arg-type]


def _unequal(self: tuple[object, ...], other: object) -> bool:
    return not _equal(self, other)


def _true(self: tuple[object, ...]) -> bool:
    return True
