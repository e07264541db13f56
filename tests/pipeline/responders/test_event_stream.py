"""Server-sent events by the rules of the WHATWG."""

from __future__ import annotations

import pytest

from agent.pipeline.responders.event_stream import (
    MAX_LINE_CHARACTERS,
    EventStreamParser,
    LineTooLongError,
    ServerSentEvent,
)


def parse(data: bytes, size: int) -> list[ServerSentEvent]:
    stream = EventStreamParser()
    events = [event for at in range(0, len(data), size) for event in stream.feed(data[at : at + size])]
    return [*events, *stream.feed(b"", final=True)]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10")]),
        (b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
         [("message", "first event"), ("message", "second event"), ("message", " third event")]),
        (b"data\n\ndata\ndata\n\ndata:", [("message", ""), ("message", "\n"), ("message", "")]),
        (b"data:test\n\ndata: test\n\n", [("message", "test")] * 2),
        (b"event: add\ndata: 1\n\nevent: gone\n\ndata: 2\n\n", [("add", "1"), ("message", "2")]),
        (b"\xef\xbb\xbfdata: \xc3\xa4\xe4\xbd\xa0\r\n\r\ndata: b\r\rdata: c\n\n",
         [("message", "ä你"), ("message", "b"), ("message", "c")]),
        (b"DATA: no\nunknown: x\nretry: 5\n\n", []),
        (b"data: no empty line at the end", [("message", "no empty line at the end")]),
    ],
)  # fmt: skip
def test_stream_is_parsed_independently_of_the_chunks(data: bytes, expected: list[tuple[str, str]], size: int) -> None:
    assert parse(data, size) == expected


def test_line_without_an_end_is_limited() -> None:
    stream = EventStreamParser()
    with pytest.raises(LineTooLongError):
        for _ in range(MAX_LINE_CHARACTERS // 1000 + 2):
            list(stream.feed(b"x" * 1000))
