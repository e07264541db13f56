from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.frontends.control.line_buffer import MAX_LINE_BYTES, LineBuffer


def taken(lines: LineBuffer) -> list[bytes]:
    return list(iter(lines.next, None))


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), st.integers(1, 7))
def test_line_buffer_returns_the_same_lines_for_every_chunk_size(wanted: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in wanted)
    lines = LineBuffer()
    received = []
    for start in range(0, len(stream), size):
        lines.feed(stream[start : start + size])
        received += taken(lines)
    assert received == wanted and lines.size == 0


def test_line_buffer_accepts_a_line_at_the_limit() -> None:
    lines = LineBuffer()
    lines.feed(b"x" * MAX_LINE_BYTES + b"\n")
    assert taken(lines) == [b"x" * MAX_LINE_BYTES] and not lines.is_overlong
    lines.feed(b"x" * (MAX_LINE_BYTES + 1) + b"\n{}\n")
    assert taken(lines) == [] and lines.is_overlong


def test_line_buffer_drops_an_endless_line_at_the_limit() -> None:
    lines = LineBuffer(limit=10)
    for _ in range(1000):
        lines.feed(b"12345")
        assert lines.next() is None
        assert lines.size <= 15
    assert lines.is_overlong
    lines.feed(b"\nshort\n")
    assert taken(lines) == []  # it may be the rest of the long line
