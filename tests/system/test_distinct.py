"""Tests of the class decorator for events."""

from __future__ import annotations

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple


@distinct
class Opened(NamedTuple):
    name: str


@distinct
class Closed(NamedTuple):
    name: str


@distinct
class Ended(NamedTuple):
    pass


def test_equal_fields_of_one_class_are_equal() -> None:
    assert Opened("card") == Opened("card")
    assert len({Opened("card"), Opened("card")}) == 1


def test_equal_fields_of_two_classes_are_not_equal() -> None:
    assert Opened("card") != Closed("card")
    assert Opened("card") != ("card",)
    assert [Closed("card"), Opened("card")].index(Opened("card")) == 1


def test_instance_without_fields_is_true() -> None:
    assert Ended()
