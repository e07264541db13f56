"""The transcription client: compared with the page, melvin-asr and vosk-server, then fuzzed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import send_all
from support.untrusted import JSON

from agent.services.protocols.codec import Audio, EarlyFinal, Encoding, End, Failure, Flush, Log, Text, Transcript, Word
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


def partial(text):
    return json.dumps({"partial": text})


# --- sending


def test_handshake_sends_no_headers():
    handshake = client(api_key=KEY).handshake()
    assert handshake.url == "ws://127.0.0.1:8394/" and handshake.headers == {}
    assert client().encoding == Encoding("raw", 16000)


def test_send_passes_a_frame_of_100_ms():
    frame = bytes(range(200)) * 16
    assert send_all(client(), Audio(frame)) == [frame]


def test_send_collects_audio_up_to_100_ms():
    codec = client()
    assert send_all(codec, Audio(bytes(1600)), Audio(bytes(1598))) == []
    assert send_all(codec, Audio(b"ab")) == [bytes(3198) + b"ab"]


def test_send_splits_audio_at_one_second():
    assert [len(message) for message in send_all(client(), Audio(bytes(70000)))] == [32000, 32000, 6000]


def test_end_sends_the_remainder_and_one_eof():
    codec = client()
    assert send_all(codec, Audio(b"abcd"), End(), End(), Audio(bytes(3200))) == [b"abcd", "eof"]


def test_half_a_sample_is_carried_over_and_discarded_at_end():
    codec = client()
    assert send_all(codec, Audio(bytes(3201))) == [bytes(3200)]
    assert send_all(codec, Audio(b"x" * 3200)) == [b"\x00" + b"x" * 3199]
    assert send_all(codec, End()) == ["eof"]


def test_end_on_an_unused_session_sends_eof():
    assert send_all(client(), End(), End()) == ["eof"]


def test_send_ignores_foreign_events():
    assert send_all(client(), Text("hello"), Flush(), Audio(b""), Log("x")) == []


def test_key_is_the_first_message_and_sent_once():
    codec = client(api_key=KEY)
    assert send_all(codec, Audio(b"ab")) == []
    first, sound = send_all(codec, Audio(bytes(3198)))
    assert json.loads(first) == {"Authorization": KEY} and len(sound) == 3200
    assert send_all(codec, End()) == ["eof"]


def test_key_precedes_eof_without_audio():
    first, last = send_all(client(api_key=KEY), End())
    assert json.loads(first) == {"Authorization": KEY} and last == "eof"


def test_vosk_dialect_sends_the_config_first_and_its_own_eof():
    codec = client(dialect="vosk")
    config, sound = send_all(codec, Audio(bytes(3200)))
    assert config == '{"config": {"sample_rate": 16000}}' and sound == bytes(3200)
    assert send_all(codec, Audio(b"ab"), Flush(), Flush()) == [b"ab"]
    assert send_all(codec, End(), End()) == ['{"eof" : 1}']


def test_client_raises_value_error_for_an_unknown_dialect():
    with pytest.raises(ValueError, match="melvin and vosk"):
        client(dialect="klingon")


@given(st.lists(st.binary(max_size=5000), max_size=8), st.sampled_from(["melvin", "vosk"]))
def test_audio_is_sent_whole_in_even_messages_of_one_second_at_most(chunks, dialect):
    codec = client(dialect=dialect)
    before = [message for message in send_all(codec, *map(Audio, chunks)) if isinstance(message, bytes)]
    assert all(len(message) % 2 == 0 and 3200 <= len(message) <= 32000 for message in before)
    after = [message for message in send_all(codec, End()) if isinstance(message, bytes)]
    whole = b"".join(chunks)
    assert b"".join(before + after) == whole[: len(whole) // 2 * 2]
    assert len(after) <= 1 and all(len(message) % 2 == 0 for message in after)


# --- receiving


def test_receive_decodes_the_partials_of_the_page():
    assert client().receive(PAGE_PARTIAL) == [Transcript("Das ist ein Beispiel für...", is_final=False)]
    assert client().receive('{\n    "partial": ""\n    }') == [Transcript("", is_final=False)]


def test_receive_decodes_the_final_of_the_page_with_its_words():
    (transcript,) = client().receive(PAGE_FINAL)
    assert transcript.is_final and transcript.text == "Das ist ein Beispiel für Final."
    assert len(transcript.words) == 6
    assert transcript.words[0] == Word("Das", 6.792375, 7.452375, 0.8052)
    assert transcript.words[-1] == Word("Final.", 10.112375, 10.892375000000001, 0.495881)


def test_receive_decodes_a_final_without_words():
    assert client().receive('{"text": "one two"}') == [Transcript("one two", is_final=True)]


def test_empty_final_clears_the_partial_and_is_nothing_without_one():
    codec = client()
    assert codec.receive('{"result": [], "text": ""}') == []
    codec.receive(partial(" um"))
    assert codec.receive('{"result": [], "text": ""}') == [Transcript("", True)]
    codec.send(End())
    assert codec.receive(EXPORT_ID) == [End(EXPORT_ID)]


def test_null_counts_as_missing():
    assert client().receive('{"partial": " hallo", "text": null, "result": null}') == [Transcript("hallo", False)]
    assert client().receive('{"partial": null, "text": " hallo", "result": null}') == [Transcript("hallo", True)]
    word = {"word": "hallo", "start": 0, "end": 1, "conf": None}
    assert client().receive(json.dumps({"result": [word], "text": "hallo"})) == [
        Transcript("hallo", True, (Word("hallo", 0.0, 1.0, 1.0),))
    ]


def test_receive_takes_the_first_alternative_of_vosk():
    message = {"alternatives": [{"confidence": 200.1, "text": "one"}, {"confidence": 1.0, "text": "won"}]}
    assert client().receive(json.dumps(message)) == [Transcript("one", is_final=True)]


def test_equal_finals_are_both_returned():
    codec = client()
    events = [event for message in ('{"text": "a"}', partial("b"), '{"text": "a"}') for event in codec.receive(message)]
    assert events == [Transcript("a", True), Transcript("b", False), Transcript("a", True)]


def test_invalid_word_is_refused_and_the_text_kept():
    good = {"word": "a", "start": 0, "end": 1}
    for odd in (5, {}, {**good, "start": "0"}, {**good, "end": None}, {**good, "conf": True}, {**good, "end": 10**400}):
        transcript, failure = client().receive(json.dumps({"result": [good, odd], "text": " a b"}))
        assert transcript == Transcript("a b", True, (Word("a", 0.0, 1.0, 1.0),))
        assert isinstance(failure, Failure) and not failure.fatal
    transcript, failure = client().receive('{"result": 5, "text": "a"}')
    assert transcript == Transcript("a", True) and isinstance(failure, Failure)


# --- the end


def test_export_id_returns_end():
    codec = client()
    codec.send(End())
    assert codec.receive_timeout_seconds == 30.0
    assert codec.receive(EXPORT_ID) == [End(EXPORT_ID)]
    assert codec.receive_close(1000) == [] and codec.receive_timeout() == [] and codec.receive_timeout_seconds is None
    assert codec.receive(partial("late")) == []


@pytest.mark.parametrize("name", [f'"{EXPORT_ID}"', f" {EXPORT_ID}\n", "399e7f74-4c3e-47c3-a32f-28a19f07739d"])
def test_export_id_is_accepted_in_other_spellings(name):
    codec = client()
    codec.send(End())
    assert codec.receive(name) == [End(name.strip().strip('"'))]


def test_export_id_before_eof_is_refused():
    (failure,) = client().receive(EXPORT_ID)
    assert isinstance(failure, Failure) and not failure.fatal


def test_export_id_with_a_path_is_refused():
    codec = client()
    codec.send(End())
    for odd in ("../../../../etc/passwd", "/" * 32, EXPORT_ID + "\x00", EXPORT_ID[:-1], "a" * 64):
        assert [type(event) for event in codec.receive(odd)] == [Failure]


def test_last_partial_becomes_final_without_a_final():
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


def test_last_partial_is_not_repeated_after_a_final():
    codec = client()
    codec.receive(partial("one"))
    codec.send(End())
    assert not codec.has_final_after_eof
    assert codec.receive('{"text": "one two"}') == [Transcript("one two", True)]
    assert codec.has_final_after_eof
    assert codec.receive_close(1000) == [End()]


def test_final_of_vosk_after_eof_is_the_end():
    codec = client(dialect="vosk")
    send_all(codec, Audio(bytes(3200)), Audio(bytes(3200)), End())
    assert codec.receive(partial("one")) == [Transcript("one", False)]
    assert codec.receive('{"text": "one"}') == [Transcript("one", True)], "the answer to the second audio message"
    assert codec.receive('{"text": "two"}') == [Transcript("two", True), End()]
    assert codec.receive_close(1006) == [] and codec.receive_timeout_seconds is None


def test_empty_final_of_vosk_after_eof_is_the_end():
    codec = client(dialect="vosk")
    send_all(codec, Audio(bytes(3200)), End())
    codec.receive(partial("um"))
    assert codec.receive('{"text": ""}') == [Transcript("", True), End()]


def test_final_after_eof_does_not_end_a_server_that_answers_late():
    codec = client(dialect="vosk")
    codec.receive_handshake({"x-voice-agent-transcripts": "until-close"})
    send_all(codec, Audio(bytes(3200)), End())
    assert codec.receive('{"text": "one"}') == [Transcript("one", True)]
    assert codec.receive('{"text": "two"}') == [Transcript("two", True)]
    assert codec.receive_close(1000) == [End()]


def test_partial_after_eof_becomes_final():
    codec = client()
    codec.send(End())
    codec.receive(partial("tail"))
    assert codec.receive_close(1005) == [Transcript("tail", True), End()]


def test_close_before_eof_is_a_fatal_failure():
    (failure,) = client().receive_close(1000, "bye\x1b")
    assert failure.fatal and failure.status == 1000 and "\x1b" not in str(failure)


def test_abnormal_close_after_eof_is_a_failure_without_a_final():
    """The audio of the partial is sent again, so that the words would be reported twice."""
    codec = client()
    codec.receive(partial("tail"))
    codec.send(End())
    (failure,) = codec.receive_close(1006)
    assert failure.fatal and failure.status == 1006
    assert codec.receive_close(1006) == []


def test_receive_timeout_is_unset_before_eof():
    codec = client()
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


# --- plain text


def test_unknown_control_message_returns_a_log():
    assert client().receive("control message unknown") == [Log("control message unknown")]


def test_busy_server_returns_retry_after():
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
def test_refused_key_is_fatal_and_permanent(message):
    codec = client(api_key=KEY)
    (failure,) = codec.receive(message)
    assert failure.fatal and failure.permanent and failure.status == 401 and message[:30] in failure.received
    assert codec.receive_close(1000) == []
    assert send_all(codec, End())[-1] == "eof" and codec.receive_timeout_seconds is None


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
        '{"partial": null}',
        '{"partial": null, "text": null}',
        '{"text": null}',
        '{"text": ["a"]}',
        '{"result": []}',
        '{"text": "a", "x": NaN}',
        '{"a":' * 100_000,
        "{" + " " * (9 << 20),
    ],
)
def test_receive_refuses_an_invalid_message(message):
    codec = client()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert failure.service == "transcription" and failure.received and failure.expected and len(failure.received) <= 200
    assert codec.receive(PAGE_PARTIAL)


def test_echoed_key_is_hidden():
    (failure,) = client(api_key=KEY).receive(f"who is {KEY}?")
    assert KEY not in str(failure)


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
def test_client_never_raises_and_returns_end_once(messages, eof_after):
    codec = client()
    events = []
    for index, message in enumerate(messages):
        if index == eof_after:
            send_all(codec, End())
        events += codec.receive(message)
    send_all(codec, End())
    events += [*codec.receive_close(1000), *codec.receive_close(1000)]
    assert isinstance(events[-1], End) and sum(isinstance(event, End) for event in events) == 1
    for event in events:
        if isinstance(event, Transcript):
            event.text.encode("utf-8")


# --- the silence before eof


@pytest.mark.parametrize("seconds", [0.02, 0.7, 1.0, 5.99, 6.0, 7.3])
def test_flush_pads_to_the_next_final_in_one_message(seconds):
    codec = client()
    sent = b"".join(send_all(codec, Audio(bytes([1, 0]) * int(16000 * seconds))))
    (padding,) = send_all(codec, Flush())
    assert len(sent + padding) % 192000 == 0 and not any((sent + padding)[int(16000 * seconds) * 2 :])
    assert send_all(codec, End()) == ["eof"]


def test_flush_without_audio_sends_nothing():
    assert send_all(client(), Flush(), End(), Flush()) == ["eof"]


def test_flush_sends_nothing_to_a_server_that_answers_late():
    codec = client()
    codec.receive_handshake({"x-voice-agent-transcripts": "until-close"})
    assert codec.transcribes_until_close
    assert send_all(codec, Audio(bytes(3300)), Flush(), Flush(), End()) == [bytes(3300), "eof"]


def test_other_headers_of_the_handshake_are_ignored():
    codec = client()
    codec.receive_handshake({"server": "uvicorn", "x-voice-agent-transcripts": "never"})
    assert not codec.transcribes_until_close


def test_early_final_is_requested_only_from_a_server_that_offers_it():
    codec = client()
    assert send_all(codec, Audio(bytes(3200)), EarlyFinal()) == [bytes(3200)]
    codec.receive_handshake({"x-voice-agent-early-finals": "yes"})
    assert send_all(codec, Audio(bytes(3200)), EarlyFinal(), End(), EarlyFinal()) == [
        bytes(3200), '{"final": 1}', "eof"
    ]  # fmt: skip


def test_early_final_leaves_the_partial_open():
    codec = client()
    codec.receive_handshake({"x-voice-agent-early-finals": "yes"})
    codec.receive('{"partial": "what time"}')
    assert codec.receive('{"text": "what time is it", "early": true}') == [
        Transcript("what time is it", is_final=True, is_early=True)
    ]
    assert codec.receive('{"text": "what time is it now"}') == [Transcript("what time is it now", is_final=True)]


# --- finals of the current melvin-asr


def test_words_of_a_partial_that_its_final_lacks_stay():
    codec = client()
    codec.receive(partial("one  two  three"))
    events = codec.receive('{"result": [], "text": "one two"}')
    assert events == [Transcript("one two", True), Transcript("three", False)]
    codec.send(End())
    assert codec.receive(EXPORT_ID) == [Transcript("three", True), End(EXPORT_ID)]


def test_words_that_a_final_of_the_first_version_removes_do_not_return():
    codec = client()
    send_all(codec, *[Audio(bytes(32000))] * 6)
    codec.receive(partial(" Turn on the light please"))
    assert codec.receive('{"result": [], "text": " Turn on the light"}') == [Transcript("Turn on the light", True)]
    assert codec.answers.is_complete and codec.answers.final_bytes == 192000  # so that eof is not delayed
    codec.send(End())
    assert codec.receive(EXPORT_ID) == [End(EXPORT_ID)]


def test_another_text_of_the_final_replaces_the_partial():
    codec = client()
    codec.receive(partial("one too three"))
    assert codec.receive('{"text": "one two"}') == [Transcript("one two", True)]
    assert client(dialect="vosk").receive('{"text": "one"}') == [Transcript("one", True)]


def words_final(*words, space=""):
    result = [{"word": word, "start": start, "end": end, "conf": 0.9} for word, start, end in words]
    return json.dumps({"result": result, "text": space + " ".join(word for word, _, _ in words)})


def test_a_word_that_two_finals_share_is_reported_once():
    codec = client()
    codec.receive(partial(" one two"))
    codec.receive(words_final(("one", 0.0, 0.5), ("two", 0.5, 0.9)))
    assert codec.receive(words_final(("two", 0.5, 1.0))) == []
    codec.receive(partial(" two  three"))
    events = codec.receive(words_final(("two", 0.5, 1.1), ("three", 1.1, 1.5)))
    assert events == [Transcript("three", True, (Word("three", 1.1, 1.5, 0.9),))]


@pytest.mark.parametrize(
    ("final", "text"),
    [
        (words_final(("two", 0.85, 1.3)), "two"),  # said twice; the times of words may overlap slightly
        (words_final(("too", 0.5, 1.0)), "too"),
        (words_final(("two", 0.5, 1.0), space=" "), "two"),  # the first version, whose times are wrong
    ],
)
def test_other_words_with_overlapping_times_are_kept(final, text):
    codec = client()
    codec.receive(partial(" one two"))
    codec.receive(words_final(("one", 0.0, 0.5), ("two", 0.5, 0.9)))
    (event,) = codec.receive(final)
    assert event.text == text


def test_words_are_separated_by_one_space():
    assert client().receive(partial(" one  two   three")) == [Transcript("one two three", False)]


def test_empty_partial_does_not_clear_the_last_one():
    codec = client()
    codec.receive(partial("one"))
    assert codec.receive(partial("")) == []
    codec.send(End())
    assert codec.receive(EXPORT_ID) == [Transcript("one", True), End(EXPORT_ID)]


def test_a_final_without_the_space_of_its_partials_has_no_position():
    for text, position in ((" one", 192000), ("one", None)):
        codec = client()
        send_all(codec, *[Audio(bytes(32000))] * 6)
        codec.receive(partial(" on"))
        codec.receive(json.dumps({"result": [], "text": text}))
        assert codec.answers.final_bytes == position
