from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.tree import Mapping, Scalar, Sequence
from agent.config.validator import Validator, build
from agent.config.yaml_tree import read_tree
from agent.settings.model import Config


def test_each_value_has_its_line() -> None:
    tree, issues = read_tree("a: 1\nb:\n  - x\n  - {c: 'd'}\n", "f")
    assert issues == []
    assert isinstance(tree, Mapping)
    assert tree.entries["a"] == ("f:1", Scalar("f:1", "1", "int", True))
    items = tree.entries["b"][1]
    assert isinstance(items, Sequence)
    assert items.items[0] == Scalar("f:3", "x", "str", True)
    assert isinstance(items.items[1], Mapping)
    assert items.items[1].entries["c"] == ("f:4", Scalar("f:4", "d", "str", False))


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\x85", "\u2028"])
def test_lines_and_comments_are_counted_as_the_parser_does(line_break: str) -> None:
    tree, _ = read_tree(line_break.join(["a: 1", "b: x # c", "c: 'y'", "d: z"]), "f")
    assert isinstance(tree, Mapping)
    assert tree.entries["b"] == ("f:2", Scalar("f:2", "x", "str", True, has_comment=True))
    assert tree.entries["d"] == ("f:4", Scalar("f:4", "z", "str", True))
    for last in (b"\xff", b"\7"):
        _, (issue,) = read_tree(line_break.join(["a: 1", "b: 2", ""]).encode() + last, "f")
        assert issue.where == "f:3"


@pytest.mark.parametrize("text", ["[" * 60000, "{" * 60000, "- " * 30000, "a: {b: " * 9000, "'" * 64999, "? " * 30000])
def test_hostile_text_is_refused_within_5_seconds(text: str) -> None:
    start = time.thread_time()
    tree, issues = read_tree(text, "f")
    assert time.thread_time() - start < 5
    assert issues
    assert tree is None


def test_issues_do_not_repeat_a_name_of_the_length_of_the_text() -> None:
    _, issues = read_tree(f"x:\n ? {'b' * 30000}\n : {{{'a: 1,' * 3000}}}\n", "f")
    assert len(issues) > 1000 and max(len(str(issue)) for issue in issues) < 300


@pytest.mark.parametrize(
    "text",
    [
        "{[a]: b}",
        "? {a: b}\n: c\n",
        "? a\n",
        "a: *a\n",
        "&a a: b",
        "!!str a: b",
        "<<: 3",
        "<<: *x",
        "%YAML 9.9\n---\na: b",
    ],
)
def test_exotic_yaml_is_an_issue(text: str) -> None:
    tree, issues = read_tree(text, "f")
    validator = Validator(Config, None)
    validator.section(Config, tree, "")
    assert issues or validator.issues


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="abc:-[]{}&*!|>'\"%@`#, \n\t?~<0", max_size=80)))
def test_no_text_raises_an_exception(text: bytes | str) -> None:
    tree, issues = read_tree(text, "f")
    validator = Validator(Config, "it may not")
    built = build(Config, validator.section(Config, tree, ""))
    assert isinstance(built, Config)
    for issue in [*issues, *validator.issues]:
        assert "\n" not in str(issue)
        assert str(issue).startswith("f")
        assert len(str(issue)) < 700
