"""Neuphonic's client: compared with the messages of the page and of the SDKs, then fuzzed."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import count_endings, send_all
from support.untrusted import JSON

from agent.services.protocols.codec import Audio, Encoding, End, Failure, Flush, Text
from agent.services.protocols.neuphonic import Client

URL = "wss://eu-west-1.api.neuphonic.com/speak/en"
KEY = "n-key-0123456789"
PAGE_RESPONSE = """{
    "version": "1.X.X",
    "timestamp": "2024-07-15T11:59:27.619054",
    "data": {
        "audio": "SGVsbG8h",
        "text": "Hello "
    }
}"""
STOP = '{"text": "<STOP>"}'


def client(**more):
    return Client(URL, KEY, **more)


def today(sound=b"", stop=False, **more):
    data = {"audio": base64.b64encode(sound).decode(), "text": "x", "sampling_rate": 22050, "stop": stop, **more}
    return json.dumps({"data": data})


def of_2024(sound):
    return json.dumps({"version": "1.0.0", "timestamp": "t", "data": {"audio": base64.b64encode(sound).decode()}})


def texts(messages):
    return [json.loads(message)["text"] for message in messages]


# --- the handshake


def test_handshake_sends_the_key_as_header_and_not_in_the_url():
    handshake = client().handshake()
    assert handshake.headers == {"x-api-key": KEY}
    assert KEY not in handshake.url and KEY not in repr(handshake)


def test_handshake_sends_no_header_without_a_key():
    assert Client(URL, None).handshake().headers == {}
    assert Client(URL, "").handshake().headers == {}


def test_handshake_sends_every_option_once():
    url = urlsplit(client(speed=1.5, temperature=0.0, sampling_rate=8000, voice="v/1").handshake().url)
    assert f"{url.scheme}://{url.netloc}{url.path}" == URL
    assert parse_qs(url.query) == {
        "speed": ["1.5"],
        "temperature": ["0.0"],
        "sampling_rate": ["8000"],
        "encoding": ["pcm_linear"],
        "lang_code": ["en"],
        "voice_id": ["v/1"],
    }


def test_query_of_the_url_takes_precedence():
    codec = Client(URL + "?speed=1.5&sampling_rate=16000", KEY, speed=1.0)
    query = parse_qs(urlsplit(codec.handshake().url).query)
    assert query["speed"] == ["1.5"] and query["sampling_rate"] == ["16000"]
    assert codec.encoding == Encoding("raw", 16000)


def test_handshake_omits_null_and_empty_options():
    query = parse_qs(urlsplit(client(temperature=None).handshake().url).query)
    assert "temperature" not in query and "voice_id" not in query


def test_client_encoding_follows_the_query():
    assert client().encoding == Encoding("raw", 22050, 1, "s16le")


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0.69},
        {"speed": 2.51},
        {"speed": float("nan")},
        {"temperature": -0.1},
        {"temperature": 1.1},
        {"sampling_rate": 22051},
    ],
)
def test_client_raises_value_error_that_names_the_option(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        client(**wrong)


def test_client_accepts_the_bounds_of_the_page():
    for value in (0.7, 2.5):
        client(speed=value)
    for value in (0.0, 1.0):
        client(temperature=value)


# --- sending


def test_send_encodes_the_first_example_of_the_page():
    assert send_all(client(), Text("Hello, "), Text("World!"), Flush()) == [
        '{"text": "Hello, "}',
        '{"text": "World!"}',
        '{"text": "<STOP>"}',
    ]


def test_flush_sends_one_stop_and_end_adds_none():
    codec = client()
    assert texts(send_all(codec, Text("One."), Flush(), Text("Two."), Flush(), End(), End())) == [
        "One.",
        "<STOP>",
        "Two.",
        "<STOP>",
    ]


def test_end_sends_a_stop_for_open_text():
    assert texts(send_all(client(), Text("One"), End(), End())) == ["One", "<STOP>"]


def test_end_on_an_unused_connection_sends_one_stop():
    assert send_all(client(), End(), End()) == [STOP]


def test_flush_without_text_sends_nothing():
    assert send_all(client(), Flush(), Text(""), Flush(), Text(" \n"), Flush()) == []


def test_send_keeps_white_space_between_words():
    assert "".join(texts(send_all(client(), Text("a"), Text(" "), Text("b")))) == "a b"


def test_send_encodes_nothing_after_end():
    codec = client()
    codec.send(End())
    assert send_all(codec, Text("late"), Flush()) == []


def test_send_keeps_non_ascii_characters_and_quotes():
    text = 'Grüß "Gott" \\ 你好 \U0001f600\n'
    assert texts(send_all(client(), Text(text))) == [text]


def test_send_replaces_lone_surrogates():
    (message,) = send_all(client(), Text("a\ud800b"))
    message.encode("utf-8")


def test_send_splits_a_long_text():
    messages = send_all(client(), Text("wörd " * 200_000), Flush())
    assert "".join(texts(messages[:-1])) == "wörd " * 200_000
    assert max(map(len, messages)) < 65536


@pytest.mark.parametrize(
    "pieces",
    [
        ["say <STOP> twice"],
        ["say <stop> twice"],
        ["say <ST", "OP> twice"],
        ["say ", "<", "S", "T", "o", "P", ">", " twice"],
        ["say <ST<STOP>OP> twice"],
        ["say <ST<ST", "OP>OP> twice"],
        ["say <STOP><STOP><STO", "P> twice"],
    ],
)
def test_stop_filter_removes_a_literal_stop(pieces):
    messages = send_all(client(), *map(Text, pieces))
    assert "<stop>" not in "".join(texts(messages)).lower()
    assert "".join(texts(messages)).startswith("say ") and "".join(texts(messages)).endswith(" twice")


def test_stop_filter_keeps_an_incomplete_stop():
    assert "".join(texts(send_all(client(), Text("a <"), Text("b <STO"), Flush()))) == "a <b <STO<STOP>"


@given(st.lists(st.text("<STOPstop> a", max_size=8) | st.text(max_size=4), max_size=12))
def test_stop_filter_loses_no_character_and_passes_no_stop(pieces):
    codec = client()
    text = "".join(texts(send_all(codec, *map(Text, pieces), Flush())))
    if text:
        assert text.endswith("<STOP>")
        text = text.removesuffix("<STOP>")
    assert "<stop>" not in text.lower()
    whole = "".join(pieces)
    if "<stop>" not in whole.lower():
        assert text == (whole if whole.strip() else "")


@given(st.text(), st.data())
def test_stop_filter_result_is_independent_of_the_pieces(text, data):
    cut = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cut], [*cut, len(text)], strict=True)]
    one, many = client(), client()
    assert "".join(texts(send_all(one, Text(text), End()))) == "".join(texts(send_all(many, *map(Text, pieces), End())))


# --- receiving


def test_receive_decodes_the_response_of_the_page():
    assert client().receive(PAGE_RESPONSE) == [Audio(b"Hello!")]


def test_audio_carries_the_rate_of_the_message():
    codec = client()
    assert codec.receive(today(b"ab", sampling_rate=24000)) == [Audio(b"ab", 24000)]
    for odd in ("24000", True, 0, -1, 10**12, 2.5, None):
        assert codec.receive(today(b"ab", sampling_rate=odd)) == [Audio(b"ab")]


def test_receive_keeps_an_odd_byte():
    assert client().receive(today(b"abc")) == [Audio(b"abc", 22050)]


def test_stop_may_carry_the_last_audio():
    codec = client()
    send_all(codec, Text("a"), Flush(), End())
    assert codec.receive(today(b"ab", stop=True)) == [Audio(b"ab", 22050), Flush(), End()]
    assert codec.receive_close(1006) == []


def test_every_stop_returns_flush_and_the_last_one_end():
    codec = client()
    send_all(codec, Text("a"), Flush(), Text("b"), Flush())
    assert codec.receive(today(b"aa")) == [Audio(b"aa", 22050)]
    assert codec.receive(today(stop=True)) == [Flush()]
    assert codec.receive(today(b"bb")) == [Audio(b"bb", 22050)]
    codec.send(End())
    assert codec.receive_timeout_seconds is None
    assert codec.receive(today(stop=True)) == [Flush(), End()]
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


def test_extra_stop_before_the_next_passage_is_ignored():
    codec = client()
    send_all(codec, Text("a"), Flush())
    assert codec.receive(today(b"aa", stop=True)) == [Audio(b"aa", 22050), Flush()]
    assert codec.receive(today(stop=True)) == []
    send_all(codec, Text("b"), Flush(), End())
    assert codec.receive(today(b"bb")) == [Audio(b"bb", 22050)]
    assert codec.receive(today(stop=True)) == [Flush(), End()]


def test_extra_stop_does_not_end_a_later_passage():
    codec = client()
    send_all(codec, Text("a"), Flush(), Text("b"), Flush(), End())
    assert codec.receive(today(b"aa", stop=True)) == [Audio(b"aa", 22050), Flush()]
    assert codec.receive(today(stop=True)) == []
    assert codec.receive(today(b"bb")) == [Audio(b"bb", 22050)]
    assert codec.receive(today(stop=True)) == [Flush(), End()]


def test_passage_without_audio_ends_by_timeout():
    codec = client()
    send_all(codec, Text("a"), Flush(), Text("..."), Flush(), End())
    codec.receive(today(b"aa", stop=True))
    assert codec.receive(today(stop=True)) == []
    assert codec.receive_timeout_seconds is not None and codec.receive_timeout_seconds > 2.5
    assert codec.receive_timeout() == [End()] and codec.receive_timeout() == []


def test_single_passage_without_audio_ends_at_its_stop():
    codec = client()
    send_all(codec, Text("..."), End())
    assert codec.receive(today(stop=True)) == [Flush(), End()]


def test_stop_on_an_unused_connection_returns_end():
    codec = client()
    codec.send(End())
    assert codec.receive(today(stop=True)) == [End()]


def test_end_after_all_stops_is_returned_at_once():
    codec = client()
    send_all(codec, Text("a"), Flush())
    codec.receive(today(b"aa", stop=True))
    assert codec.receive_timeout_seconds is None
    codec.send(End())
    assert codec.receive_timeout_seconds is not None and 0 < codec.receive_timeout_seconds < 0.2
    assert codec.receive_timeout() == [End()]


def test_server_without_stop_flags_ends_by_timeout():
    codec = client()
    send_all(codec, Text("a"), Flush())
    assert codec.receive_timeout_seconds is None
    codec.receive(of_2024(b"aa"))
    assert codec.receive_timeout_seconds is None  # more text may come
    codec.send(End())
    assert codec.receive_timeout_seconds == 2.5
    codec.receive(of_2024(b"bb"))
    assert codec.receive_timeout_seconds == 2.5
    assert codec.receive_timeout() == [End()]
    assert codec.receive_timeout() == [] and codec.receive_close(1006) == [] and codec.receive_timeout_seconds is None


def test_receive_timeout_is_unset_before_the_first_audio():
    codec = client()
    send_all(codec, Text("a"), End())
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


def test_audio_of_an_earlier_passage_does_not_shorten_the_timeout():
    codec = client()
    send_all(codec, Text("a"), Flush())
    codec.receive(of_2024(b"aa"))
    send_all(codec, Text("b"), End())
    assert codec.receive_timeout_seconds is not None and codec.receive_timeout_seconds > 5
    codec.receive(of_2024(b"bb"))
    assert codec.receive_timeout_seconds == 2.5


def test_receive_timeout_is_unset_for_a_server_with_stop_flags():
    codec = client()
    send_all(codec, Text("a"), End())
    codec.receive(today(b"aa", stop=False))
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


# --- close


def test_close_of_an_unused_connection_returns_nothing():
    assert client().receive_close(1006) == []


def test_close_before_the_last_stop_is_a_fatal_failure_with_its_code():
    codec = client()
    send_all(codec, Text("a"), End())
    codec.receive(today(b"aa"))
    (failure,) = codec.receive_close(1000, "bye\x1b")
    assert failure.fatal and failure.status == 1000 and "1000" in str(failure) and "\x1b" not in str(failure)
    assert codec.receive_close(1000) == []


def test_clean_close_of_a_server_without_stop_flags_returns_end():
    codec = client()
    send_all(codec, Text("a"), End())
    codec.receive(of_2024(b"aa"))
    assert codec.receive_close(1000) == [End()]


def test_abnormal_close_of_a_server_without_stop_flags_is_a_fatal_failure():
    for code, sound in ((1006, True), (1000, False)):
        codec = client()
        send_all(codec, Text("a"), End())
        if sound:
            codec.receive(of_2024(b"aa"))
        (failure,) = codec.receive_close(code)
        assert isinstance(failure, Failure) and failure.fatal


def test_idle_limit_is_below_the_limit_of_the_service():
    assert client().max_idle_seconds is not None and client().max_idle_seconds < 60


# --- invalid messages


def test_error_is_fatal_and_hides_the_key():
    codec = client()
    send_all(codec, Text("a"), End())
    (failure,) = codec.receive(json.dumps({"type": "error", "message": f"key {KEY} is bad", "status": 401}))
    assert failure.fatal and failure.permanent and failure.status == 401 and failure.service == "neuphonic"
    assert KEY not in str(failure) and "is bad" in str(failure)
    assert codec.receive_close(1000) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "no credit"},
        {"data": None, "errors": ["no credit"]},
        {"status_code": 402, "detail": "no credit"},
        {"detail": "no credit"},
    ],
)
def test_error_without_a_type_is_fatal(fields):
    codec = client()
    send_all(codec, Text("a"), End())
    (failure,) = codec.receive(json.dumps(fields))
    assert failure.fatal and "no credit" in failure.received
    assert codec.receive_close(1000) == []


def test_receive_ignores_a_message_without_audio():
    for message in ('{"data": {"text": "x"}}', '{"data": {"audio": null}}', "{}", '{"version": "1"}', today()):
        assert client().receive(message) == []


@pytest.mark.parametrize(
    "message",
    [
        "junk",
        "",
        "[]",
        b"\x00\xff",
        '{"data": 5}',
        '{"data": {"audio": 5}}',
        '{"data": {"audio": "-_-_"}}',
        '{"data": {"audio": "QQ"}}',
        '{"data": {"audio": ["AAAA"]}}',
        '{"data": {"audio": "AAAA", "x": NaN}}',
        "[" * 100_000,
        " " * (9 * 1024 * 1024),
    ],
)
def test_receive_refuses_an_invalid_message(message):
    codec = client()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert failure.service == "neuphonic" and failure.received and failure.expected and len(failure.received) <= 200
    assert codec.receive(PAGE_RESPONSE) == [Audio(b"Hello!")]


def test_receive_refuses_audio_after_end():
    codec = client()
    send_all(codec, Text("a"), End())
    codec.receive(today(b"aa", stop=True))
    (failure,) = codec.receive(today(b"more"))
    assert isinstance(failure, Failure) and not failure.fatal


DATA = st.fixed_dictionaries({}, optional={"audio": JSON, "stop": JSON, "sampling_rate": JSON})
ANY = (
    st.text()
    | st.binary()
    | st.fixed_dictionaries({}, optional={"type": JSON | st.just("error"), "data": DATA | JSON, "status": JSON}).map(
        json.dumps
    )
)


@given(st.lists(ANY, max_size=6), st.booleans())
def test_client_never_raises_and_returns_end_at_most_once(messages, ended):
    codec = client()
    send_all(codec, Text("a"), *([End()] if ended else [Flush()]))
    events = [event for message in messages for event in codec.receive(message)]
    events += [*codec.receive_timeout(), *codec.receive_close(1006), *codec.receive_close(1006)]
    assert all(isinstance(event, Audio | Flush | End | Failure) for event in events)
    assert count_endings(events) == 1
