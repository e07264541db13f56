"""Neuphonic's client: pinned to the page's messages and to those of today, then fed with anything at all."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def say(codec, *events):
    return [message for event in events for message in codec.send(event)]


def texts(messages):
    return [json.loads(message)["text"] for message in messages]


# --- the handshake


def test_the_key_is_in_the_header_of_the_page_and_not_in_the_url():
    handshake = client().handshake()
    assert handshake.headers == {"x-api-key": KEY}
    assert KEY not in handshake.url and KEY not in repr(handshake)


def test_without_a_key_there_is_no_header():
    assert Client(URL, None).handshake().headers == {}
    assert Client(URL, "").handshake().headers == {}


def test_the_query_says_what_is_wanted_once():
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


def test_a_url_that_says_its_speed_as_on_the_page_keeps_it():
    codec = Client(URL + "?speed=1.5&sampling_rate=16000", KEY, speed=1.0)
    query = parse_qs(urlsplit(codec.handshake().url).query)
    assert query["speed"] == ["1.5"] and query["sampling_rate"] == ["16000"]
    assert codec.encoding == Encoding("raw", 16000)


def test_what_is_null_or_empty_is_not_sent():
    query = parse_qs(urlsplit(client(temperature=None).handshake().url).query)
    assert "temperature" not in query and "voice_id" not in query


def test_the_sound_is_what_the_page_says():
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
def test_a_value_out_of_range_is_one_sentence_that_names_it(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        client(**wrong)


def test_the_bounds_of_the_page_are_allowed():
    for value in (0.7, 2.5):
        client(speed=value)
    for value in (0.0, 1.0):
        client(temperature=value)


# --- the way out


def test_the_first_example_of_the_page_word_by_word():
    assert say(client(), Text("Hello, "), Text("World!"), Flush()) == [
        '{"text": "Hello, "}',
        '{"text": "World!"}',
        '{"text": "<STOP>"}',
    ]


def test_every_sentence_ends_with_its_own_stop_and_the_end_adds_none():
    codec = client()
    assert texts(say(codec, Text("One."), Flush(), Text("Two."), Flush(), End(), End())) == [
        "One.",
        "<STOP>",
        "Two.",
        "<STOP>",
    ]


def test_an_end_stops_text_that_nobody_flushed():
    assert texts(say(client(), Text("One"), End(), End())) == ["One", "<STOP>"]


def test_an_unused_connection_says_its_end_once():
    assert say(client(), End(), End()) == [STOP]


def test_a_flush_without_text_is_nothing():
    assert say(client(), Flush(), Text(""), Flush(), Text(" \n"), Flush()) == []


def test_white_space_between_words_is_kept():
    assert "".join(texts(say(client(), Text("a"), Text(" "), Text("b")))) == "a b"


def test_text_after_the_end_is_nothing():
    codec = client()
    codec.send(End())
    assert say(codec, Text("late"), Flush()) == []


def test_other_letters_and_quotes_survive():
    said = 'Grüß "Gott" \\ 你好 \U0001f600\n'
    assert texts(say(client(), Text(said))) == [said]


def test_half_a_character_is_replaced_and_not_raised():
    (message,) = say(client(), Text("a\ud800b"))
    message.encode("utf-8")


def test_a_very_long_text_goes_in_several_messages():
    messages = say(client(), Text("wörd " * 200_000), Flush())
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
def test_a_literal_stop_in_the_text_never_ends_it_early(pieces):
    messages = say(client(), *map(Text, pieces))
    assert "<stop>" not in "".join(texts(messages)).lower()
    assert "".join(texts(messages)).startswith("say ") and "".join(texts(messages)).endswith(" twice")


def test_what_only_looks_like_the_beginning_of_a_stop_is_spoken():
    assert "".join(texts(say(client(), Text("a <"), Text("b <STO"), Flush()))) == "a <b <STO<STOP>"


@given(st.lists(st.text("<STOPstop> a", max_size=8) | st.text(max_size=4), max_size=12))
def test_no_splitting_of_a_text_lets_a_stop_through_or_loses_a_letter(pieces):
    codec = client()
    said = "".join(texts(say(codec, *map(Text, pieces), Flush())))
    if said:
        assert said.endswith("<STOP>")
        said = said.removesuffix("<STOP>")
    assert "<stop>" not in said.lower()
    whole = "".join(pieces)
    if "<stop>" not in whole.lower():
        assert said == (whole if whole.strip() else "")


@given(st.text(), st.data())
def test_any_splitting_of_a_text_says_the_same(text, data):
    cut = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cut], [*cut, len(text)], strict=True)]
    one, many = client(), client()
    assert "".join(texts(say(one, Text(text), End()))) == "".join(texts(say(many, *map(Text, pieces), End())))


# --- the way back


def test_the_response_of_the_page_is_sound():
    assert client().receive(PAGE_RESPONSE) == [Audio(b"Hello!")]


def test_the_message_names_its_own_rate():
    codec = client()
    assert codec.receive(today(b"ab", sampling_rate=24000)) == [Audio(b"ab", 24000)]
    for odd in ("24000", True, 0, -1, 10**12, 2.5, None):
        assert codec.receive(today(b"ab", sampling_rate=odd)) == [Audio(b"ab")]


def test_an_odd_byte_is_passed_on_as_it_came():
    assert client().receive(today(b"abc")) == [Audio(b"abc", 22050)]


def test_a_stop_may_carry_the_last_sound():
    codec = client()
    say(codec, Text("a"), Flush(), End())
    assert codec.receive(today(b"ab", stop=True)) == [Audio(b"ab", 22050), Flush(), End()]
    assert codec.receive_close(1006) == []


def test_one_stop_for_each_passage_and_the_end_after_the_last():
    codec = client()
    say(codec, Text("a"), Flush(), Text("b"), Flush())
    assert codec.receive(today(b"aa")) == [Audio(b"aa", 22050)]
    assert codec.receive(today(stop=True)) == [Flush()]
    assert codec.receive(today(b"bb")) == [Audio(b"bb", 22050)]
    codec.send(End())
    assert codec.receive_timeout_seconds is None
    assert codec.receive(today(stop=True)) == [Flush(), End()]
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


def test_an_extra_stop_before_the_next_passage_is_nothing():
    codec = client()
    say(codec, Text("a"), Flush())
    assert codec.receive(today(b"aa", stop=True)) == [Audio(b"aa", 22050), Flush()]
    assert codec.receive(today(stop=True)) == []
    say(codec, Text("b"), Flush(), End())
    assert codec.receive(today(b"bb")) == [Audio(b"bb", 22050)]
    assert codec.receive(today(stop=True)) == [Flush(), End()]


def test_an_extra_stop_is_never_taken_for_the_end_of_a_later_passage():
    codec = client()
    say(codec, Text("a"), Flush(), Text("b"), Flush(), End())
    assert codec.receive(today(b"aa", stop=True)) == [Audio(b"aa", 22050), Flush()]
    assert codec.receive(today(stop=True)) == []
    assert codec.receive(today(b"bb")) == [Audio(b"bb", 22050)]
    assert codec.receive(today(stop=True)) == [Flush(), End()]


def test_a_passage_without_any_sound_ends_after_a_while_at_the_latest():
    codec = client()
    say(codec, Text("a"), Flush(), Text("..."), Flush(), End())
    codec.receive(today(b"aa", stop=True))
    assert codec.receive(today(stop=True)) == []
    assert codec.receive_timeout_seconds is not None and codec.receive_timeout_seconds > 2.5
    assert codec.receive_timeout() == [End()] and codec.receive_timeout() == []


def test_an_only_passage_without_sound_ends_at_its_stop():
    codec = client()
    say(codec, Text("..."), End())
    assert codec.receive(today(stop=True)) == [Flush(), End()]


def test_a_stop_on_an_unused_connection_is_its_end():
    codec = client()
    codec.send(End())
    assert codec.receive(today(stop=True)) == [End()]


def test_an_end_that_is_sent_after_everything_came_is_told_at_once():
    codec = client()
    say(codec, Text("a"), Flush())
    codec.receive(today(b"aa", stop=True))
    assert codec.receive_timeout_seconds is None
    codec.send(End())
    assert codec.receive_timeout_seconds is not None and 0 < codec.receive_timeout_seconds < 0.2
    assert codec.receive_timeout() == [End()]


def test_a_server_of_2024_ends_with_a_quiet_period():
    codec = client()
    say(codec, Text("a"), Flush())
    assert codec.receive_timeout_seconds is None
    codec.receive(of_2024(b"aa"))
    assert codec.receive_timeout_seconds is None  # more text may come
    codec.send(End())
    assert codec.receive_timeout_seconds == 2.5
    codec.receive(of_2024(b"bb"))
    assert codec.receive_timeout_seconds == 2.5
    assert codec.receive_timeout() == [End()]
    assert codec.receive_timeout() == [] and codec.receive_close(1006) == [] and codec.receive_timeout_seconds is None


def test_before_the_first_sound_silence_means_nothing():
    codec = client()
    say(codec, Text("a"), End())
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


def test_sound_of_an_earlier_passage_does_not_shorten_the_patience_for_the_last():
    codec = client()
    say(codec, Text("a"), Flush())
    codec.receive(of_2024(b"aa"))
    say(codec, Text("b"), End())
    assert codec.receive_timeout_seconds is not None and codec.receive_timeout_seconds > 5
    codec.receive(of_2024(b"bb"))
    assert codec.receive_timeout_seconds == 2.5


def test_once_a_stop_flag_was_seen_silence_is_a_stall_and_no_end():
    codec = client()
    say(codec, Text("a"), End())
    codec.receive(today(b"aa", stop=False))
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


# --- the connection ends


def test_a_standby_that_is_closed_lost_nothing():
    assert client().receive_close(1006) == []


def test_a_close_before_the_end_is_a_failure_that_names_its_code():
    codec = client()
    say(codec, Text("a"), End())
    codec.receive(today(b"aa"))
    (failure,) = codec.receive_close(1000, "bye\x1b")
    assert failure.fatal and failure.status == 1000 and "1000" in str(failure) and "\x1b" not in str(failure)
    assert codec.receive_close(1000) == []


def test_a_server_of_2024_may_end_by_closing_cleanly():
    codec = client()
    say(codec, Text("a"), End())
    codec.receive(of_2024(b"aa"))
    assert codec.receive_close(1000) == [End()]


def test_a_server_of_2024_that_breaks_off_has_failed():
    for code, sound in ((1006, True), (1000, False)):
        codec = client()
        say(codec, Text("a"), End())
        if sound:
            codec.receive(of_2024(b"aa"))
        (failure,) = codec.receive_close(code)
        assert isinstance(failure, Failure) and failure.fatal


def test_a_standby_is_renewed_before_the_service_drops_it():
    assert client().max_idle_seconds is not None and client().max_idle_seconds < 60


# --- what is refused


def test_an_error_of_the_service_is_fatal_and_shows_no_key():
    codec = client()
    say(codec, Text("a"), End())
    (failure,) = codec.receive(json.dumps({"type": "error", "message": f"key {KEY} is bad", "status": 401}))
    assert failure.fatal and failure.permanent and failure.status == 401 and failure.service == "neuphonic"
    assert KEY not in str(failure) and "is bad" in str(failure)
    assert codec.receive_close(1000) == []


def test_a_message_without_audio_is_passed_over():
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
def test_a_message_that_is_refused_names_the_service_what_came_and_what_was_expected(message):
    codec = client()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert failure.service == "neuphonic" and failure.received and failure.expected and len(failure.received) <= 200
    assert codec.receive(PAGE_RESPONSE) == [Audio(b"Hello!")]


def test_sound_after_the_end_is_refused():
    codec = client()
    say(codec, Text("a"), End())
    codec.receive(today(b"aa", stop=True))
    (failure,) = codec.receive(today(b"more"))
    assert isinstance(failure, Failure) and not failure.fatal


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
DATA = st.fixed_dictionaries({}, optional={"audio": JSON, "stop": JSON, "sampling_rate": JSON})
ANY = (
    st.text()
    | st.binary()
    | st.fixed_dictionaries({}, optional={"type": JSON | st.just("error"), "data": DATA | JSON, "status": JSON}).map(
        json.dumps
    )
)


@given(st.lists(ANY, max_size=6), st.booleans())
def test_whatever_comes_nothing_is_raised_and_the_end_comes_at_most_once(messages, ended):
    codec = client()
    say(codec, Text("a"), *([End()] if ended else [Flush()]))
    events = [event for message in messages for event in codec.receive(message)]
    events += [*codec.receive_timeout(), *codec.receive_close(1006), *codec.receive_close(1006)]
    assert all(isinstance(event, Audio | Flush | End | Failure) for event in events)
    over = [event for event in events if isinstance(event, End) or (isinstance(event, Failure) and event.fatal)]
    assert len(over) == 1
