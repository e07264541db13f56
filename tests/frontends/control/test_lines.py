"""Lines out of a stream: wherever it was cut, and never more memory than one line needs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.frontends.control.lines import LONGEST_LINE, Lines


def taken(lines: Lines) -> list[bytes]:
    return list(iter(lines.next, None))


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 7))
def test_lines_come_out_as_they_went_in_wherever_the_stream_is_cut(wanted: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in wanted)
    lines = Lines()
    found = []
    for start in range(0, len(stream), size):
        lines.feed(stream[start : start + size])
        found += taken(lines)
    assert found == wanted and lines.held == 0


def test_a_line_as_long_as_the_limit_is_a_line_and_one_byte_more_is_none() -> None:
    lines = Lines()
    lines.feed(b"x" * LONGEST_LINE + b"\n")
    assert taken(lines) == [b"x" * LONGEST_LINE] and not lines.too_long
    lines.feed(b"x" * (LONGEST_LINE + 1) + b"\n{}\n")
    assert taken(lines) == [] and lines.too_long


def test_a_line_without_end_is_let_go_at_the_limit() -> None:
    lines = Lines(limit=10)
    for _ in range(1000):
        lines.feed(b"12345")
        assert lines.next() is None
        assert lines.held <= 15
    assert lines.too_long
    lines.feed(b"\nshort\n")
    assert taken(lines) == []  # nobody knows whether this is a line or the rest of one
