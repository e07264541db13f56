"""Markup becomes words, independent of where the text was cut."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.pipeline.text.markup import MarkupFilter


def words(text: str, size: int = 1 << 20, omitted: str = "") -> str:
    markup = MarkupFilter(omitted)
    return "".join(markup.feed(text[at : at + size]) for at in range(0, len(text), size)) + markup.flush()


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**bold**, *it*, ***both***, __b__, _i_, ~~gone~~", "bold, it, both, b, i, gone"),
        ("2 * 3 and 2*3, snake_case_name, **un**do, 4**2", "2 * 3 and 2*3, snake_case_name, undo, 4**2"),
        ("## A *b* ##\ntext", "\nA b\n\ntext"),
        ("- one\n* two\n+ three\n• four\n1. five\n2) six", "\none\n\ntwo\n\nthree\n\nfour\n\n1. five\n\n2. six"),
        ("- [ ] open\n- [x] done", "\nopen\n\ndone"),
        ("-5 degrees\n3.5 percent\n#1 of all", "-5 degrees\n3.5 percent\n#1 of all"),
        ("one\n---\n***\n___\ntwo", "one\n\n\n\ntwo"),
        ("Title\n=====\n> quoted\n> > twice", "Title\n\nquoted\ntwice"),
        ("[the docs](https://a.b/c_(d) \"t\") and [x][ref] and [sic]", "the docs and x and [sic]"),
        ("![a cat](x.png) [**b**](y)", "a cat b"),
        ("<https://www.a.b/c> or http://x.org/y_z, done", "a.b or x.org, done"),
        ("at http://u:p@WWW.a.b:80/c or http://x\u2100y or http://[::1", "at a.b or x\u2100y or "),
        ("a <!-- [1] **b** [c](d) -->e\ue200[2] x\ue201", "a e"),
        ("true[1] and [2, 3] and [^4] and 【5†source】 so", "true and and and so"),
        ("`a_b` and ``c`` and \\*no\\*", "a_b and c and *no*"),
        ("a<br>b <b class='x'>c</b> &lt;d&gt; &nbsp;e <f", "a b c <d>  e <f"),
        ("x\n```py\n# *code*\n```\ny\n~~~\nz", "x\n\ny\n\n"),
        ("x\n|a|b|\n|-|-|\n|1|2|\ny", "x\n\ny"),
        ("- ```\n  code\n  ```\n- a\n1. ~~~\n  x\n  ~~~\n2. b", "\n\n\na\n\n1. \n\n2. b"),
        ("> ```\n> code\n> ```\nafter", "\nafter"),
        ("true[[1]](https://a.b/c),[citation:3][doc1] so\ue200cite\ue202turn0\ue201.<!-- no -->", "true, so."),
        ("> [!NOTE]\n> a [[b]]", "\na [[b]]"),
        ("a | b and |x| is", "a | b and |x| is"),
        ("Well! [a](b)! *", "Well! a! *"),
    ],
)  # fmt: skip
def test_marks_become_words(text: str, expected: str, size: int) -> None:
    assert words(text, size).replace("  ", " ") == expected.replace("  ", " ")


def test_sentence_takes_the_place_of_code_and_tables() -> None:
    text = "See:\n```\ncode\n```\n|a|\n|-|\n|b|\n"
    assert words(text, 4, "There is more.").split("\n") == [
        "See:",
        "",
        "There is more.",
        "",
        "",
        "There is more.",
        "",
        "",
    ]


def test_words_are_passed_on_at_once() -> None:
    markup = MarkupFilter()
    assert markup.feed("One **two** three") == "One two three"
    assert markup.feed(" [four") == ""
    assert markup.feed("](x) five.") == " four five."
    assert markup.feed("**") == ""
    assert markup.pause() == ""


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["Use", " **", "two", "**", " eggs", ", not", " *", "three", "*", "."], "Use two eggs, not three."),
        (["See ", "!", "[a cat](x)", "."], "See a cat."),
        (["It is 2 ", "*", " 3."], "It is 2 * 3."),
    ],
)
def test_pauses_do_not_change_the_words(pieces: list[str], expected: str) -> None:
    markup = MarkupFilter()
    assert "".join([markup.feed(piece) + markup.pause() for piece in pieces]) + markup.flush() == expected


@given(st.text(alphabet="ab1 *_`~#>-|[]()!<>\n\\.:/&;【†】", max_size=80), st.integers(1, 9))
@example("[\\][]", 1)
@example("[a\\]b](x) c", 1)
@example("[snake\\_case](x) c", 1)
@example("<a \\:>", 1)
@example("\\<a \\:> b", 1)
@example("【\\:†】 b", 1)
@example("【1[】1", 1)
@example("\\【1】", 1)
def test_result_does_not_depend_on_the_pieces(text: str, size: int) -> None:
    assert "".join(words(text, size).split()) == "".join(words(text).split())
