"""Tests of the bytes of Wyoming's events."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.services.protocols.wyoming_event import (
    MAX_DATA_BYTES,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    EventBuffer,
    EventError,
    WyomingEvent,
    decode_event,
    encode_event,
)

EVENTS = [
    WyomingEvent("describe", {}, b""),
    WyomingEvent("synthesize", {"text": "Grüße, 世界\n", "voice": {"name": "a"}}, b""),
    WyomingEvent("audio-chunk", {"rate": 16000, "width": 2, "channels": 1}, b"\n\0{}\n" * 100),
    WyomingEvent("audio-stop", {}, b"x"),
]


@pytest.mark.parametrize("event", EVENTS)
def test_an_encoded_event_decodes_to_itself(event: WyomingEvent) -> None:
    assert decode_event(encode_event(*event)) == event


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_events_are_cut_wherever_their_bytes_arrive(size: int) -> None:
    stream = b"".join(encode_event(*event) for event in EVENTS)
    buffer, received = EventBuffer(), []
    for start in range(0, len(stream), size):
        buffer.feed(stream[start : start + size])
        while (message := buffer.next()) is not None:
            received.append(decode_event(message))
    assert received == EVENTS
    assert not buffer.has_partial_event


def test_data_in_the_line_and_behind_it_is_merged() -> None:
    line = {"type": "info", "data": {"a": 1, "b": 1}, "data_length": 7}
    assert decode_event(json.dumps(line).encode() + b'\n{"b":2}').data == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "no JSON"),
        (b"[1]\n", "no object"),
        (b'{"type": "a", "data_length": -1}\n', "negative"),
        (b'{"type": "a", "payload_length": "1"}\n', "text"),
        (b'{"type": "a", "payload_length": true}\n', "boolean"),
        (b'{"type": "a", "data_length": %d}\n' % (MAX_DATA_BYTES + 1), "more than"),
        (b'{"type": "a", "payload_length": %d}\n' % (MAX_PAYLOAD_BYTES + 1), "more than"),
        (b" " * (MAX_HEADER_BYTES + 1), "longer than"),
    ],
)
def test_a_line_that_is_no_event_or_exceeds_a_limit_is_refused(header: bytes, why: str) -> None:
    buffer = EventBuffer()
    buffer.feed(header)
    with pytest.raises(EventError, match=why):
        buffer.next()


def test_a_line_of_exactly_the_limit_is_accepted() -> None:
    line = b'{"type": "a", "x": "%s"}' % (b"x" * (MAX_HEADER_BYTES - 22))
    assert len(line) == MAX_HEADER_BYTES
    buffer = EventBuffer()
    buffer.feed(line)
    assert buffer.next() is None
    buffer.feed(b"\n")
    assert buffer.next() == line + b"\n"


@pytest.mark.parametrize(
    "message", [b"", b"{}\n", b'{"type": 1}\n', b'{"type": "a", "data_length": 2}\n[]', b'{"type": "a"}\nx']
)
def test_decoding_anything_else_is_an_error(message: bytes) -> None:
    with pytest.raises(EventError):
        decode_event(message)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([encode_event(*event) for event in EVENTS]), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_events_or_one_error(pieces: list[bytes]) -> None:
    buffer = EventBuffer()
    for piece in pieces:
        buffer.feed(piece)
        try:
            while (message := buffer.next()) is not None:
                decode_event(message)
        except EventError:
            return
