from __future__ import annotations

from typing import Any

import pytest

from agent.pipeline.responders.tool_calls import MAX_ARGUMENT_CHARACTERS, MAX_CALLS, ToolCalls


def fragment(index: Any = None, id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    every = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in every.items() if value is not None}


def joined(*fragments: Any) -> list[tuple[str, str, str]]:
    calls = ToolCalls()
    for each in fragments:
        calls.feed([each])
    return [(call.id, call.name, call.arguments) for call in calls.calls()]


@pytest.mark.parametrize(
    "fragments",
    [
        # OpenAI: index and pieces.
        [fragment(0, "a", "one", ""), fragment(0, arguments='{"x"'), fragment(0, arguments=": 1}"),
         fragment(1, "b", "two", "{"), fragment(1, arguments="}")],
        # Interleaved.
        [fragment(0, "a", "one", ""), fragment(1, "b", "two", ""), fragment(0, arguments='{"x": 1}'),
         fragment(1, arguments="{}")],
        # Without index: an id begins a call.
        [fragment(None, "a", "one", '{"x"'), fragment(None, None, None, ": 1}"), fragment(None, "b", "two", "{}")],
        # Each fragment repeats id and name.
        [fragment(None, "a", "one", '{"x"'), fragment(None, "a", "one", ": 1}"), fragment(None, "b", "two", "{}")],
        # Whole calls with the same index.
        [fragment(0, "a", "one", '{"x": 1}'), fragment(0, "b", "two", "{}")],
        # Arguments as an object.
        [fragment(0, "a", "one", {"x": 1}), fragment(1, "b", "two", {})],
    ],
)  # fmt: skip
def test_fragments_of_the_known_servers_are_joined(fragments: list[dict[str, Any]]) -> None:
    assert joined(*fragments) == [("a", "one", '{"x": 1}'), ("b", "two", "{}")]


def test_calls_without_ids_get_one_each() -> None:
    calls = joined(fragment(None, None, "one", "{}"), fragment(None, None, "one", "{}"), fragment(None, "", "two", "{"))
    assert [each[:2] for each in calls] == [("call_1", "one"), ("call_2", "one"), ("call_3", "two")]


@pytest.mark.parametrize("id", [None, ""])
def test_whole_calls_with_the_same_index_and_without_ids_are_several(id: str | None) -> None:
    calls = joined(fragment(0, id, "lamp", '{"a": 1}'), fragment(0, id, "gate", ""), fragment(0, id, "gate", "{}"))
    assert [each[1:] for each in calls] == [("lamp", '{"a": 1}'), ("gate", "{}")]


def test_fragment_that_repeats_the_name_of_its_call_begins_no_other_one() -> None:
    calls = joined(fragment(0, None, "lamp", '{"a"'), fragment(0, None, "lamp", ": 1}"), fragment(0, None, "lamp", ""))
    assert [each[1:] for each in calls] == [("lamp", '{"a": 1}')]


def test_the_same_id_twice_becomes_two() -> None:
    assert [each[0] for each in joined(fragment(0, "a", "one"), fragment(1, "a", "two"))] == ["a", "a_2"]


@pytest.mark.parametrize(
    "broken",
    [None, "x", 5, {}, {"function": "x"}, {"function": None, "index": "0"}, {"id": 5, "function": {"name": 5}}],
)
def test_fragments_of_another_shape_are_no_crash(broken: Any) -> None:
    calls = ToolCalls()
    calls.feed(broken)
    calls.feed([broken])
    assert all(call.name == "" for call in calls.calls())


def test_number_and_length_are_bounded() -> None:
    many = joined(*[fragment(number, f"id{number}", "one", "x" * 5000) for number in range(MAX_CALLS + 9)])
    assert len(many) == MAX_CALLS
    assert sum(len(each[2]) for each in many) == MAX_ARGUMENT_CHARACTERS
