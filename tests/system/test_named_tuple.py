"""Tests of the named tuples that are defined fast, against those of the standard library."""

from __future__ import annotations

import copy
import pickle
import typing
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import pytest

from agent.system.named_tuple import NamedTuple

T = TypeVar("T")


class Fast(NamedTuple):
    """A point."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()

    def moved(self) -> Fast:
        return self._replace(x=self.x + 1)


class Usual(typing.NamedTuple):
    """A point."""

    x: int
    y: int = 2
    names: tuple[str, ...] = ()


class Box(NamedTuple, Generic[T]):
    content: T


class Checked(Fast):
    __slots__ = ()

    def __new__(cls, x: int) -> Checked:
        return super().__new__(cls, x, 0)


class Empty(NamedTuple):
    pass


@pytest.mark.parametrize(
    "use",
    [
        lambda cls: tuple(cls(1)),
        lambda cls: tuple(cls(x=1, y=3)),
        lambda cls: tuple(cls(1, names=("a",))),
        lambda cls: tuple(cls._make((4, 5, ()))),
        lambda cls: tuple(cls(1)._replace(y=7)),
        lambda cls: cls(1)._asdict(),
        lambda cls: (cls._fields, cls._field_defaults, cls.__match_args__, cls.__doc__),
        lambda cls: repr(cls(1)).removeprefix(cls.__name__),
        lambda cls: (cls(1).x, cls(1).y, cls(1).names),
        lambda cls: cls(1) == (1, 2, ()),
        lambda cls: tuple(copy.copy(cls(1))),
        lambda cls: type(pickle.loads(pickle.dumps(cls(1)))) is cls,
        lambda cls: typing.get_type_hints(cls),
        lambda cls: hasattr(cls(1), "__dict__"),
    ],
)
def test_works_as_the_standard_one(use: Callable[[Any], Any]) -> None:
    assert use(Fast) == use(Usual)


@pytest.mark.parametrize("arguments", [{}, {"x": 1, "z": 2}])
def test_rejects_missing_and_unknown_fields(arguments: dict[str, int]) -> None:
    for _ in range(2):  # the constructor is compiled at the first call
        with pytest.raises(TypeError):
            Fast(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown"):
        Fast(1)._replace(unknown=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError):
        Fast(1).x = 2  # type: ignore[misc]


def test_methods_generic_classes_and_subclasses_work() -> None:
    assert Fast(1).moved() == Fast(2)
    assert Box[int](3).content == 3 and Box("a") == Box("a")
    assert Checked(4) == Checked(4) and repr(Checked(4)) == "Checked(x=4, y=0, names=())"
    assert Empty() == () and repr(Empty()) == "Empty()"
    match Fast(1):
        case Fast(1, second):
            assert second == 2
