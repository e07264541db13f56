"""The transcription server: the messages of known clients, and client and server connected."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import receive_all

from agent.services.protocols.codec import Audio, EarlyFinal, Encoding, End, Failure, Flush, Log, Text, Transcript, Word
from agent.services.protocols.transcription import LATE_ANSWERS, Client, Server

KEY = "t-key-0123456789"
EXPORT_ID = "399e7f744c3e47c3a32f28a19f07739d"


def test_handshake_accepts_any_path():
    assert Server().handshake("/", {}) is None and Server(KEY).handshake("/any?thing", {}) is None
    assert Server().encoding == Encoding("raw", 16000)


# --- receiving


def test_receive_decodes_audio_and_eof_of_the_page():
    assert receive_all(Server(), b"ab", b"", b"cd", "eof", "eof", b"late") == [Audio(b"ab"), Audio(b"cd"), End()]


@pytest.mark.parametrize("mark", ["eof", '{"eof" : 1}', '{"eof":1}', "please eof now", '{"eof": true}'])
def test_message_containing_eof_returns_end(mark):
    assert receive_all(Server(), mark) == [End()]


def test_odd_length_is_a_fatal_failure():
    codec = Server()
    (failure,) = codec.receive(b"abc")
    assert failure.fatal and codec.send(failure) == [] and codec.receive_close(1000) == []


@pytest.mark.parametrize("rate", [8000, "8000", 8000.0])
def test_config_of_a_vosk_client_sets_the_rate_without_answer(rate):
    codec = Server()
    assert receive_all(codec, json.dumps({"config": {"sample_rate": rate}}), b"ab") == [Audio(b"ab")]
    assert codec.sample_rate == 8000 and codec.encoding == Encoding("raw", 8000)


def test_config_without_a_rate_changes_nothing():
    codec = Server()
    assert receive_all(codec, '{"config": {"words": true}}') == [] and codec.sample_rate == 16000


@pytest.mark.parametrize("rate", [0, -1, "fast", "²", True, None, 1e300, 10**30, "9" * 50])
def test_config_with_an_invalid_rate_returns_a_log(rate):
    codec = Server()
    (event,) = receive_all(codec, json.dumps({"config": {"sample_rate": rate}}))
    assert isinstance(event, Log) and codec.sample_rate == 16000


def test_reset_returns_a_flush():
    assert receive_all(Server(), '{"reset" : 1}') == [Flush()]


def test_audio_after_a_reset_begins_with_a_whole_sample():
    config = '{"config": {"sample_rate": 16000}}'
    events = receive_all(Server(), config, b"abc", b"defgh", '{"reset": 1}', b"ab", b"c", '{"reset": 1}', b"cd")
    assert events == [Audio(b"ab"), Audio(b"cdefgh"), Flush(), Audio(b"ab"), Audio(b""), Flush(), Audio(b"cd")]


@pytest.mark.parametrize("message", ["hello", "", "{}", "[]", '{"config": 5}', "{", "null"])
def test_unknown_message_is_answered_as_melvin_asr_does(message):
    codec = Server()
    (event,) = codec.receive(message)
    assert event == Log(message) and codec.send(event) == ["control message unknown"]


# --- the first message


def test_authorization_is_ignored_without_a_key():
    assert receive_all(Server(), '{"Authorization": "some key with eof"}', b"ab") == [Audio(b"ab")]


def test_later_authorization_returns_a_log():
    assert receive_all(Server(), b"ab", '{"Authorization": "x"}')[1:] == [Log('{"Authorization": "x"}')]


def test_first_message_must_contain_the_key():
    assert receive_all(Server(KEY), json.dumps({"Authorization": KEY}), b"ab", "eof") == [Audio(b"ab"), End()]


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
def test_refused_client_is_answered_as_melvin_asr_does(message, answer):
    codec = Server(KEY)
    (failure,) = codec.receive(message)
    assert failure.fatal and failure.permanent and failure.status == 401 and "guess" not in failure.received
    assert codec.send(failure) == [answer]
    assert codec.receive(b"ab") == [] and codec.receive_close(1000) == [] and KEY not in repr(failure)
    (failure,) = Client("ws://h/", KEY).receive(answer)
    assert failure.fatal and failure.permanent


# --- sending


def test_send_encodes_a_partial_as_on_the_page():
    codec = Server()
    assert codec.send(Transcript("für dich", False)) == ['{\n  "partial": " f\\u00fcr dich"\n}']
    assert codec.send(Transcript("", False)) == ['{\n  "partial": ""\n}']


def test_send_encodes_a_final_as_on_the_page():
    (message,) = Server().send(Transcript("Das", True, (Word("Das", 6.792375, 7.452375, 0.8052),)))
    assert json.loads(message) == {
        "result": [{"conf": 0.8052, "start": 6.792375, "end": 7.452375, "word": "Das"}],
        "text": " Das",
    }
    assert list(json.loads(message)) == ["result", "text"]
    assert list(json.loads(message)["result"][0]) == ["conf", "start", "end", "word"]
    assert json.loads(Server().send(Transcript("", True))[0]) == {"result": [], "text": ""}


def test_send_encodes_the_export_id_as_bare_text():
    assert Server().send(End(EXPORT_ID)) == [EXPORT_ID]
    assert Server().send(End()) == []


def test_send_encodes_plain_text_answers():
    codec = Server()
    assert codec.send(Failure("transcription", "x", "y", fatal=False)) == ["control message unknown"]
    busy = Failure("transcription", "x", "y", fatal=False, retry_after_seconds=10)
    assert codec.send(busy) == ["No transcription workers available. Retrying in 10 seconds"]
    assert codec.send(Failure("transcription", "x", "y")) == []
    assert codec.send(Text("x")) == codec.send(Audio(b"ab")) == codec.send(Flush()) == []


def test_close_without_eof_is_a_fatal_failure():
    codec = Server()
    (failure,) = codec.receive_close(1006)
    assert failure.fatal and codec.receive_close(1006) == []
    codec = Server()
    codec.receive("eof")
    assert codec.receive_close(1000) == []


# --- client and server connected


@given(
    st.lists(st.binary(max_size=5000), max_size=8), st.sampled_from(["melvin", "vosk"]), st.sampled_from([None, KEY])
)
def test_audio_passes_both_codecs_unchanged(chunks, dialect, key):
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


SPOKEN = st.text().map(lambda text: re.sub("  +", " ", text).strip())
TIME = st.floats(0, 1e6)
WORDS = st.lists(st.builds(Word, SPOKEN, TIME, TIME, st.floats(0, 1)), max_size=4).map(tuple)
TRANSCRIPT = st.one_of(
    st.builds(Transcript, SPOKEN, st.just(False), st.just(()), st.just(False)),
    st.builds(Transcript, SPOKEN.filter(bool), st.just(True), WORDS, st.just(False)),
)


@given(st.lists(TRANSCRIPT, max_size=6))
def test_transcripts_pass_both_codecs_unchanged(transcripts):
    client, server = Client("ws://h/"), Server()
    client.receive_handshake({LATE_ANSWERS[0].lower(): LATE_ANSWERS[1]})
    events = [
        event for transcript in transcripts for message in server.send(transcript) for event in client.receive(message)
    ]
    assert events == transcripts
    client.send(End())
    (last,) = server.send(End(EXPORT_ID))
    assert client.receive(last)[-1] == End(EXPORT_ID)


def test_request_for_an_early_final_is_answered_with_a_marked_one():
    server = Server()
    assert server.receive('{"final": 1}') == [EarlyFinal()]
    (message,) = server.send(Transcript("hello", is_final=True, is_early=True))
    assert json.loads(message) == {"result": [], "text": " hello", "early": True}


@given(st.lists(st.text() | st.binary() | st.dictionaries(st.text(), st.text()).map(json.dumps), max_size=6))
def test_server_never_raises(messages):
    for codec in (Server(), Server(KEY)):
        events = receive_all(codec, *messages)
        assert all(isinstance(event, Audio | End | Flush | Log | Failure) for event in events)
        for event in events:
            codec.send(event)
