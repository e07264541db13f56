from __future__ import annotations

import copy
import dataclasses
from dataclasses import field
from typing import Any

import pytest

from agent.records import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    """Where something is."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list, compare=False)
    secret: str = field(default="hidden", repr=False)


@dataclass
class Counter:
    """What may change."""

    n: int = 0
    seen: list[int] = field(default_factory=list)
    doubled: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.doubled = self.n * 2


def test_it_is_made_as_the_library_makes_it() -> None:
    point = Point(1, tags=["a"])
    assert (point.x, point.y, point.tags, point.secret) == (1, 2, ["a"], "hidden")
    assert repr(point) == "Point(x=1, y=2, tags=['a'])"
    assert dataclasses.replace(point, y=5) == Point(1, 5)
    assert dataclasses.asdict(Counter(2)) == {"n": 2, "seen": [], "doubled": 4}
    assert Counter().seen is not Counter().seen
    assert copy.deepcopy(point) == point
    match point:
        case Point(x, y):
            assert (x, y) == (1, 2)


def test_equality_and_hash_are_those_of_the_fields_that_are_compared() -> None:
    assert Point(1, tags=["a"]) == Point(1, tags=["b"]) != Point(2)
    assert hash(Point(1)) == hash(Point(1)) and len({Point(1), Point(1), Point(2)}) == 2
    assert Point(1) != (1, 2, "hidden")
    with pytest.raises(TypeError):
        hash(Counter())


def test_what_is_frozen_stays_and_the_rest_may_change() -> None:
    point: Any = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del point.x
    counter = Counter()
    counter.n = 3
    assert counter.n == 3


@pytest.mark.parametrize("make", [
    lambda: Point(), lambda: Point(1, 2, [], "s", 5), lambda: Point(1, z=2), lambda: Point(1, x=1),
    lambda: Counter(doubled=3),
])  # fmt: skip
def test_a_call_that_does_not_fit_is_refused(make: Any) -> None:
    with pytest.raises(TypeError):
        make()
