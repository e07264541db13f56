"""The file of ``phrases warm``: texts, placeholders, and lines that cannot be used."""

from __future__ import annotations

import pytest

from agent.cli.phrase_list import MAX_TEXTS, read_phrase_list


def texts(*lines: str) -> list[str]:
    listed = list(read_phrase_list(lines))
    assert [one.problem for one in listed if one.problem] == []
    return [one.text for one in listed]


def test_each_line_is_a_text_and_comments_and_empty_lines_are_not() -> None:
    assert texts("\ufeffHello.", "", "  # no", " Good  bye. \n") == ["Hello.", "Good  bye."]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("1..3", ["1", "2", "3"]),
        ("7", ["7"]),
        ("1, 2 ,3a,the last one", ["1", "2", "3a", "the last one"]),
        ("8..9, 9, 12", ["8", "9", "12"]),
        ("2:15, 3..4", ["2:15", "3", "4"]),
    ],
)
def test_a_placeholder_gets_each_of_its_values(values: str, expected: list[str]) -> None:
    assert texts(f"{{n}} = {values}", "Train {n}.") == [f"Train {value}." for value in expected]


def test_a_text_has_each_combination_of_its_placeholders() -> None:
    lines = ("{n}=1..2", "{p} = a, b", "Train {n} on {p}, again {n}.", "{n} = 3", "Only {n}.")
    assert texts(*lines) == [
        "Train 1 on a, again 1.",
        "Train 1 on b, again 1.",
        "Train 2 on a, again 2.",
        "Train 2 on b, again 2.",
        "Only 3.",
    ]


def test_doubled_braces_are_braces() -> None:
    assert texts("{n} = {x}", "A {{n}} and {n}.") == ["A {n} and {x}."]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Train {n}.", "no values"),
        ("Train {.", "belongs to no placeholder"),
        ("Train {n m}.", "belongs to no placeholder"),
        ("{n} =", "no value"),
        ("{n} = 5..1", "empty or too long"),
        ("{n} = 1..900000", "empty or too long"),
        ("---", "nothing to say"),
        ("\udcff bad", "not UTF-8"),
    ],
)
def test_a_line_that_cannot_be_used_is_named_and_the_rest_is_read(line: str, reason: str) -> None:
    first, bad, last = read_phrase_list(["First.", line, "Last."])
    assert (first.text, last.text, bad.line) == ("First.", "Last.", 2)
    assert reason in bad.problem


def test_the_number_of_texts_is_limited() -> None:
    lines = ["{a} = 1..300", "{b} = 1..300", "{a} {b}", "One."]
    too_many, one = read_phrase_list(lines)
    assert str(MAX_TEXTS) in too_many.problem and one.text == "One."
