"""The transcription client: pinned to the page, to what melvin-asr and vosk-server do, then fed with anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.services.protocols.codec import Audio, Encoding, End, Failure, Flush, Log, Text, Transcript, Word
from agent.services.protocols.transcription import Client

KEY = "t-key-0123456789"
EXPORT_ID = "399e7f744c3e47c3a32f28a19f07739d"
PAGE_PARTIAL = """{
    "partial": " Das ist ein Beispiel für..."
    }"""
PAGE_FINAL = """{
    "result": [
        {
        "conf": 0.8052,
        "start": 6.792375,
        "end": 7.452375,
        "word": "Das"
        },
        {
        "conf": 0.995533,
        "start": 7.452375,
        "end": 7.832375000000001,
        "word": "ist"
        },
        {
        "conf": 0.943805,
        "start": 7.832375000000001,
        "end": 8.292375,
        "word": "ein"
        },
        {
        "conf": 0.860385,
        "start": 8.292375,
        "end": 8.832375,
        "word": "Beispiel"
        },
        {
        "conf": 0.974582,
        "start": 8.832375,
        "end": 10.112375,
        "word": "für"
        },
        {
        "conf": 0.495881,
        "start": 10.112375,
        "end": 10.892375000000001,
        "word": "Final."
        }
    ],
    "text": " Das ist ein Beispiel für Final."
    }"""


def client(**more):
    return Client("ws://127.0.0.1:8394/", **more)


def say(codec, *events):
    return [message for event in events for message in codec.send(event)]


def partial(text):
    return json.dumps({"partial": text})


# --- the way out


def test_the_handshake_has_no_headers():
    handshake = client(api_key=KEY).handshake()
    assert handshake.url == "ws://127.0.0.1:8394/" and handshake.headers == {}
    assert client().encoding == Encoding("raw", 16000)


def test_a_frame_of_a_tenth_of_a_second_goes_out_as_it_is():
    frame = bytes(range(200)) * 16
    assert say(client(), Audio(frame)) == [frame]


def test_shorter_sound_waits_until_a_tenth_of_a_second_is_there():
    codec = client()
    assert say(codec, Audio(bytes(1600)), Audio(bytes(1598))) == []
    assert say(codec, Audio(b"ab")) == [bytes(3198) + b"ab"]


def test_longer_sound_is_split_at_a_second():
    assert [len(message) for message in say(client(), Audio(bytes(70000)))] == [32000, 32000, 6000]


def test_the_rest_goes_before_the_end_mark_and_the_mark_goes_once():
    codec = client()
    assert say(codec, Audio(b"abcd"), End(), End(), Audio(bytes(3200))) == [b"abcd", "eof"]


def test_half_a_sample_is_carried_over_and_at_the_end_dropped():
    codec = client()
    assert say(codec, Audio(bytes(3201))) == [bytes(3200)]
    assert say(codec, Audio(b"x" * 3200)) == [b"\x00" + b"x" * 3199]
    assert say(codec, End()) == ["eof"]


def test_an_unused_session_is_ended_too():
    assert say(client(), End(), End()) == ["eof"]


def test_what_is_no_sound_is_not_sent():
    assert say(client(), Text("hello"), Flush(), Audio(b""), Log("x")) == []


def test_the_key_goes_first_and_once():
    codec = client(api_key=KEY)
    assert say(codec, Audio(b"ab")) == []
    first, sound = say(codec, Audio(bytes(3198)))
    assert json.loads(first) == {"Authorization": KEY} and len(sound) == 3200
    assert say(codec, End()) == ["eof"]


def test_the_key_goes_before_eof_where_nothing_was_said():
    first, last = say(client(api_key=KEY), End())
    assert json.loads(first) == {"Authorization": KEY} and last == "eof"


def test_vosk_is_told_the_rate_first_and_ended_with_the_one_string_it_takes():
    codec = client(dialect="vosk")
    config, sound = say(codec, Audio(bytes(3200)))
    assert config == '{"config": {"sample_rate": 16000}}' and sound == bytes(3200)
    assert say(codec, Audio(b"ab"), Flush()) == [b"ab", '{"reset" : 1}']
    assert say(codec, End(), End()) == ['{"eof" : 1}']


def test_another_dialect_is_one_sentence():
    with pytest.raises(ValueError, match="melvin and vosk"):
        client(dialect="klingon")


@given(st.lists(st.binary(max_size=5000), max_size=8), st.sampled_from(["melvin", "vosk"]))
def test_any_splitting_of_the_sound_goes_out_whole_in_even_messages_within_a_second(chunks, dialect):
    codec = client(dialect=dialect)
    before = [message for message in say(codec, *map(Audio, chunks)) if isinstance(message, bytes)]
    assert all(len(message) % 2 == 0 and 3200 <= len(message) <= 32000 for message in before)
    after = [message for message in say(codec, End()) if isinstance(message, bytes)]
    whole = b"".join(chunks)
    assert b"".join(before + after) == whole[: len(whole) // 2 * 2]
    assert len(after) <= 1 and all(len(message) % 2 == 0 for message in after)


# --- the way back


def test_the_partials_of_the_page():
    assert client().receive(PAGE_PARTIAL) == [Transcript("Das ist ein Beispiel für...", is_final=False)]
    assert client().receive('{\n    "partial": ""\n    }') == [Transcript("", is_final=False)]


def test_the_final_of_the_page_has_its_words_with_their_times():
    (transcript,) = client().receive(PAGE_FINAL)
    assert transcript.is_final and transcript.text == "Das ist ein Beispiel für Final."
    assert len(transcript.words) == 6
    assert transcript.words[0] == Word("Das", 6.792375, 7.452375, 0.8052)
    assert transcript.words[-1] == Word("Final.", 10.112375, 10.892375000000001, 0.495881)


def test_a_final_of_text_alone_is_a_final():
    assert client().receive('{"text": "one two"}') == [Transcript("one two", is_final=True)]


def test_an_empty_final_is_not_told_but_closes_its_partial():
    codec = client()
    codec.receive(partial(" um"))
    assert codec.receive('{"result": [], "text": ""}') == []
    codec.send(End())
    assert codec.receive(EXPORT_ID) == [End(EXPORT_ID)]


def test_the_best_alternative_of_vosk_is_the_final():
    message = {"alternatives": [{"confidence": 200.1, "text": "one"}, {"confidence": 1.0, "text": "won"}]}
    assert client().receive(json.dumps(message)) == [Transcript("one", is_final=True)]


def test_two_finals_of_equal_text_are_both_kept_in_order():
    codec = client()
    events = [event for message in ('{"text": "a"}', partial("b"), '{"text": "a"}') for event in codec.receive(message)]
    assert events == [Transcript("a", True), Transcript("b", False), Transcript("a", True)]


def test_a_word_that_cannot_be_read_is_refused_and_the_text_kept():
    good = {"word": "a", "start": 0, "end": 1}
    for odd in (5, {}, {**good, "start": "0"}, {**good, "end": None}, {**good, "conf": True}, {**good, "end": 10**400}):
        transcript, failure = client().receive(json.dumps({"result": [good, odd], "text": " a b"}))
        assert transcript == Transcript("a b", True, (Word("a", 0.0, 1.0, 1.0),))
        assert isinstance(failure, Failure) and not failure.fatal
    transcript, failure = client().receive('{"result": 5, "text": "a"}')
    assert transcript == Transcript("a", True) and isinstance(failure, Failure)


# --- the end


def test_the_export_id_is_the_end():
    codec = client()
    codec.send(End())
    assert codec.receive_timeout_seconds == 30.0
    assert codec.receive(EXPORT_ID) == [End(EXPORT_ID)]
    assert codec.receive_close(1000) == [] and codec.receive_timeout() == [] and codec.receive_timeout_seconds is None
    assert codec.receive(partial("late")) == []


@pytest.mark.parametrize("name", [f'"{EXPORT_ID}"', f" {EXPORT_ID}\n", "399e7f74-4c3e-47c3-a32f-28a19f07739d"])
def test_an_export_id_is_known_in_other_clothes(name):
    codec = client()
    codec.send(End())
    assert codec.receive(name) == [End(name.strip().strip('"'))]


def test_an_export_id_before_eof_is_refused():
    (failure,) = client().receive(EXPORT_ID)
    assert isinstance(failure, Failure) and not failure.fatal


def test_what_could_lead_out_of_a_directory_is_no_export_id():
    codec = client()
    codec.send(End())
    for odd in ("../../../../etc/passwd", "/" * 32, EXPORT_ID + "\x00", EXPORT_ID[:-1], "a" * 64):
        assert [type(event) for event in codec.receive(odd)] == [Failure]


def test_the_last_partial_counts_where_no_final_follows():
    for ending in ("id", "close", "quiet"):
        codec = client()
        codec.receive(PAGE_FINAL)
        codec.receive(partial(" und noch"))
        codec.receive(partial(" und noch etwas"))
        codec.send(End())
        if ending == "id":
            events = codec.receive(EXPORT_ID)
        else:
            events = codec.receive_close(1000) if ending == "close" else codec.receive_timeout()
        assert events == [Transcript("und noch etwas", True), End(EXPORT_ID if ending == "id" else None)]
        assert not codec.has_final_after_eof


def test_the_last_partial_is_not_told_twice_where_a_final_follows():
    codec = client()
    codec.receive(partial("one"))
    codec.send(End())
    assert not codec.has_final_after_eof
    assert codec.receive('{"text": "one two"}') == [Transcript("one two", True)]
    assert codec.has_final_after_eof
    assert codec.receive_close(1000) == [End()]


def test_a_partial_that_comes_after_eof_counts_too():
    codec = client()
    codec.send(End())
    codec.receive(partial("tail"))
    assert codec.receive_close(1005) == [Transcript("tail", True), End()]


def test_a_close_before_eof_is_a_failure():
    (failure,) = client().receive_close(1000, "bye\x1b")
    assert failure.fatal and failure.status == 1000 and "\x1b" not in str(failure)


def test_a_connection_that_breaks_after_eof_keeps_what_was_heard():
    codec = client()
    codec.receive(partial("tail"))
    codec.send(End())
    transcript, failure = codec.receive_close(1006)
    assert transcript == Transcript("tail", True) and failure.fatal and failure.status == 1006
    assert codec.receive_close(1006) == []


def test_before_eof_silence_means_nothing():
    codec = client()
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


# --- plain text


def test_an_unknown_control_message_is_worth_a_line_in_the_log():
    assert client().receive("control message unknown") == [Log("control message unknown")]


def test_a_busy_server_asks_for_patience():
    (failure,) = client().receive("No transcription workers available. Retrying in 10 seconds")
    assert not failure.fatal and not failure.permanent and failure.retry_after_seconds == 10.0


@pytest.mark.parametrize(
    "message",
    [
        "Provided api key is invalid",
        "Initial websocket message contained invalid json",
        "Initial message was not text and therefore did not match the expected auth format",
    ],
)
def test_a_refused_key_is_fatal_and_permanent(message):
    codec = client(api_key=KEY)
    (failure,) = codec.receive(message)
    assert failure.fatal and failure.permanent and failure.status == 401 and message[:30] in failure.received
    assert codec.receive_close(1000) == []
    assert say(codec, End())[-1] == "eof" and codec.receive_timeout_seconds is None


@pytest.mark.parametrize(
    "message",
    [
        b"\x00\x01",
        b"",
        "junk",
        "[1]",
        "{",
        "{}",
        '{"partial": 5}',
        '{"text": null}',
        '{"text": ["a"]}',
        '{"result": []}',
        '{"text": "a", "x": NaN}',
        '{"a":' * 100_000,
        "{" + " " * (9 << 20),
    ],
)
def test_a_message_that_is_refused_names_the_service_what_came_and_what_was_expected(message):
    codec = client()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert failure.service == "transcription" and failure.received and failure.expected and len(failure.received) <= 200
    assert codec.receive(PAGE_PARTIAL)


def test_an_echoed_key_is_not_shown():
    (failure,) = client(api_key=KEY).receive(f"who is {KEY}?")
    assert KEY not in str(failure)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
WORD = st.fixed_dictionaries({}, optional={"word": JSON, "start": JSON, "end": JSON, "conf": JSON})
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "partial": st.text() | JSON,
        "text": st.text() | JSON,
        "result": st.lists(WORD | JSON, max_size=3) | JSON,
        "alternatives": JSON,
    },
)


@given(st.lists(st.text() | st.binary() | st.just(EXPORT_ID) | MESSAGE.map(json.dumps), max_size=8), st.integers(0, 8))
def test_whatever_comes_nothing_is_raised_and_the_end_comes_once(messages, eof_after):
    codec = client()
    events = []
    for index, message in enumerate(messages):
        if index == eof_after:
            say(codec, End())
        events += codec.receive(message)
    say(codec, End())
    events += [*codec.receive_close(1000), *codec.receive_close(1000)]
    assert isinstance(events[-1], End) and sum(isinstance(event, End) for event in events) == 1
    for event in events:
        if isinstance(event, Transcript):
            event.text.encode("utf-8")
