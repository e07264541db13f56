"""The transcription server half: what every known client sends it, and the two halves facing each other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.services.protocols.codec import Audio, Encoding, End, Failure, Flush, Log, Text, Transcript, Word
from agent.services.protocols.transcription import Client, Server

KEY = "t-key-0123456789"
EXPORT_ID = "399e7f744c3e47c3a32f28a19f07739d"


def heard(codec, *messages):
    return [event for message in messages for event in codec.receive(message)]


def test_any_path_will_do():
    assert Server().handshake("/", {}) is None and Server(KEY).handshake("/any?thing", {}) is None
    assert Server().encoding == Encoding("raw", 16000)


# --- what a client says


def test_sound_and_eof_as_on_the_page():
    assert heard(Server(), b"ab", b"", b"cd", "eof", "eof", b"late") == [Audio(b"ab"), Audio(b"cd"), End()]


@pytest.mark.parametrize("mark", ["eof", '{"eof" : 1}', '{"eof":1}', "please eof now", '{"eof": true}'])
def test_every_message_including_eof_is_the_end(mark):
    assert heard(Server(), mark) == [End()]


def test_an_odd_length_ends_the_session_as_it_does_today():
    codec = Server()
    (failure,) = codec.receive(b"abc")
    assert failure.fatal and codec.send(failure) == [] and codec.receive_close(1000) == []


@pytest.mark.parametrize("rate", [8000, "8000", 8000.0])
def test_a_vosk_client_says_its_rate_and_gets_no_answer(rate):
    codec = Server()
    assert heard(codec, json.dumps({"config": {"sample_rate": rate}}), b"ab") == [Audio(b"ab")]
    assert codec.sample_rate == 8000 and codec.encoding == Encoding("raw", 8000)


def test_a_config_without_a_rate_changes_nothing():
    codec = Server()
    assert heard(codec, '{"config": {"words": true}}') == [] and codec.sample_rate == 16000


@pytest.mark.parametrize("rate", [0, -1, "fast", "²", True, None, 1e300, 10**30, "9" * 50])
def test_a_rate_that_is_not_sane_is_a_message_of_no_meaning(rate):
    codec = Server()
    (event,) = heard(codec, json.dumps({"config": {"sample_rate": rate}}))
    assert isinstance(event, Log) and codec.sample_rate == 16000


def test_a_reset_wants_a_final_now():
    assert heard(Server(), '{"reset" : 1}') == [Flush()]


@pytest.mark.parametrize("message", ["hello", "", "{}", "[]", '{"config": 5}', "{", "null"])
def test_a_message_of_no_meaning_gets_todays_answer(message):
    codec = Server()
    (event,) = codec.receive(message)
    assert event == Log(message) and codec.send(event) == ["control message unknown"]


# --- the first message


def test_without_a_key_an_authorisation_is_passed_over():
    assert heard(Server(), '{"Authorization": "some key with eof"}', b"ab") == [Audio(b"ab")]


def test_an_authorisation_later_is_a_message_of_no_meaning():
    assert heard(Server(), b"ab", '{"Authorization": "x"}')[1:] == [Log('{"Authorization": "x"}')]


def test_with_a_key_the_first_message_must_say_it():
    assert heard(Server(KEY), json.dumps({"Authorization": KEY}), b"ab", "eof") == [Audio(b"ab"), End()]


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ('{"Authorization": "guess-1"}', "Provided api key is invalid"),
        ('{"Authorization": 5}', "Initial websocket message contained invalid json"),
        ('{"key": "x"}', "Initial websocket message contained invalid json"),
        ("eof", "Initial websocket message contained invalid json"),
        (b"ab", "Initial message was not text and therefore did not match the expected auth format"),
    ],
)
def test_a_refused_client_gets_todays_answer(message, answer):
    codec = Server(KEY)
    (failure,) = codec.receive(message)
    assert failure.fatal and failure.permanent and failure.status == 401 and "guess" not in failure.received
    assert codec.send(failure) == [answer]
    assert codec.receive(b"ab") == [] and codec.receive_close(1000) == [] and KEY not in repr(failure)
    (told,) = Client("ws://h/", KEY).receive(answer)
    assert told.fatal and told.permanent


# --- what the server says


def test_a_partial_is_the_pages_indented_and_with_a_space_before_it():
    codec = Server()
    assert codec.send(Transcript("für dich", False)) == ['{\n  "partial": " f\\u00fcr dich"\n}']
    assert codec.send(Transcript("", False)) == ['{\n  "partial": ""\n}']


def test_a_final_has_the_fields_of_the_page_in_its_order():
    (message,) = Server().send(Transcript("Das", True, (Word("Das", 6.792375, 7.452375, 0.8052),)))
    assert json.loads(message) == {
        "result": [{"conf": 0.8052, "start": 6.792375, "end": 7.452375, "word": "Das"}],
        "text": " Das",
    }
    assert list(json.loads(message)) == ["result", "text"]
    assert list(json.loads(message)["result"][0]) == ["conf", "start", "end", "word"]
    assert json.loads(Server().send(Transcript("", True))[0]) == {"result": [], "text": ""}


def test_the_export_id_is_bare_text():
    assert Server().send(End(EXPORT_ID)) == [EXPORT_ID]
    assert Server().send(End()) == []


def test_the_plain_answers():
    codec = Server()
    assert codec.send(Failure("transcription", "x", "y", fatal=False)) == ["control message unknown"]
    busy = Failure("transcription", "x", "y", fatal=False, retry_after_seconds=10)
    assert codec.send(busy) == ["No transcription workers available. Retrying in 10 seconds"]
    assert codec.send(Failure("transcription", "x", "y")) == []
    assert codec.send(Text("x")) == codec.send(Audio(b"ab")) == codec.send(Flush()) == []


def test_a_client_that_leaves_without_eof_wants_nothing_more():
    codec = Server()
    (failure,) = codec.receive_close(1006)
    assert failure.fatal and codec.receive_close(1006) == []
    codec = Server()
    codec.receive("eof")
    assert codec.receive_close(1000) == []


# --- facing each other


@given(
    st.lists(st.binary(max_size=5000), max_size=8), st.sampled_from(["melvin", "vosk"]), st.sampled_from([None, KEY])
)
def test_every_sample_arrives_in_order_and_then_the_end_once(chunks, dialect, key):
    client, server = Client("ws://h/", key, dialect), Server(key)
    events = [
        event
        for wish in [*map(Audio, chunks), End(), End()]
        for message in client.send(wish)
        for event in server.receive(message)
    ]
    whole = b"".join(chunks)
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == whole[: len(whole) // 2 * 2]
    assert events[-1] == End() and sum(isinstance(event, End) for event in events) == 1
    assert all(isinstance(event, Audio | End) for event in events)


SPOKEN = st.text().map(str.strip)
TIME = st.floats(0, 1e6)
WORDS = st.lists(st.builds(Word, SPOKEN, TIME, TIME, st.floats(0, 1)), max_size=4).map(tuple)
TRANSCRIPT = st.one_of(
    st.builds(Transcript, SPOKEN, st.just(False)), st.builds(Transcript, SPOKEN.filter(bool), st.just(True), WORDS)
)


@given(st.lists(TRANSCRIPT, max_size=6))
def test_every_transcript_arrives_as_it_was(transcripts):
    client, server = Client("ws://h/"), Server()
    events = [
        event for transcript in transcripts for message in server.send(transcript) for event in client.receive(message)
    ]
    assert events == transcripts
    client.send(End())
    (last,) = server.send(End(EXPORT_ID))
    assert client.receive(last)[-1] == End(EXPORT_ID)


@given(st.lists(st.text() | st.binary() | st.dictionaries(st.text(), st.text()).map(json.dumps), max_size=6))
def test_whatever_comes_the_server_never_raises(messages):
    for codec in (Server(), Server(KEY)):
        events = heard(codec, *messages)
        assert all(isinstance(event, Audio | End | Flush | Log | Failure) for event in events)
        for event in events:
            codec.send(event)
