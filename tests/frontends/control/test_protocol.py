from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.frontends.control.protocol import (
    BeginText,
    CompleteText,
    HushRequest,
    InvalidRequest,
    PieceOfText,
    Request,
    SayText,
    SetMicrophone,
    SetMute,
    SetVolume,
    StatusRequest,
    parse_request,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"say": "hello"}', SayText("hello", 0)),
        (b'{"priority": -3, "say": "hello"}', SayText("hello", -3)),
        (b'{"begin": true}', BeginText(0)),
        (b'{"begin": true, "priority": 7}', BeginText(7)),
        (b'{"piece": " "}', PieceOfText(" ")),
        (b'{"complete": true}', CompleteText()),
        (b'{"hush": true}', HushRequest()),
        (b'{"status": true}', StatusRequest()),
        (b'{"volume": 0}', SetVolume(0)),
        (b'{"volume": 100}\r', SetVolume(100)),
        (b'{"mute": true}', SetMute(True)),
        (b'{"mute": false}', SetMute(False)),
        (b'{"microphone": "mute"}', SetMicrophone(True)),
        (b'{"microphone": "unmute"}', SetMicrophone(False)),
    ],
)
def test_parse_request_returns_each_request(line: bytes, expected: Request) -> None:
    assert parse_request(line) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 60000, "not JSON"),
        (b"9" * 60000, "not JSON"),
        (b"[1]", "no object"),
        (b"{}", "exactly one of say, begin"),
        (b'{"sing": "hello"}', "not sing"),
        (b'{"say": "a", "hush": true}', "exactly one"),
        (b'{"hush": true, "priority": 1}', "hush does not go with priority"),
        (b'{"say": "a", "\\u001b[2J": 1}', r"say does not go with \x1b[2J"),
        (b'{"say": 5}', "not a number"),
        (b'{"say": "  "}', "nothing to say"),
        (b'{"say": "\\ud800"}', "UTF-8"),
        (b'{"piece": "\\ud800"}', "UTF-8"),
        (b'{"say": "a", "priority": 101}', "priority"),
        (b'{"say": "a", "priority": true}', "priority"),
        (b'{"begin": false}', "with true"),
        (b'{"hush": 1}', "with true"),
        (b'{"volume": 101}', "0 to 100"),
        (b'{"volume": true}', "0 to 100"),
        (b'{"volume": 50.5}', "0 to 100"),
        (b'{"mute": 1}', "true or false"),
        (b'{"microphone": true}', '"mute" or "unmute"'),
        (b'{"microphone": []}', '"mute" or "unmute"'),
    ],
)
def test_parse_request_explains_an_invalid_line(line: bytes, sentence: str) -> None:
    invalid = parse_request(line)
    assert isinstance(invalid, InvalidRequest) and sentence in invalid.reason
    assert invalid.reason.isprintable()


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["say", "begin", "piece", "complete", "hush", "status", "volume", "priority"])
                | st.text(),
                inner,
            )
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode())
)
def test_parse_request_never_raises(line: bytes) -> None:
    request = parse_request(line)
    if isinstance(request, SayText):
        request.text.encode("utf-8")
