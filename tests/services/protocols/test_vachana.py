"""Vachana's client and server: pinned to the page's request and to today's JSON, then facing each other."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.services.protocols.codec import Audio, Encoding, End, Failure, Flush, Text
from agent.services.protocols.vachana import AUDIO_CONFIG, AudioSettings, Client, Server, encoding_of, read_audio_config

URL = "wss://api.vachana.ai/api/v1/tts"
KEY = "v-key-0123456789"
PAGE_REQUEST = """{
  "text": "Websocket Endpoint production test..",
  "voice": "Sia",
  "language": "IND-IN",
  "model": "vachana-voice-v1",
  "audio_config": {
    "sample_rate": 44100,
    "num_channels": 1,
    "sample_width": 2,
    "encoding": "linear_pcm",
    "container": "wav"
  }
}"""
SDK_REQUEST = json.dumps(
    {
        "text": "Hello",
        "model": "timbre-v2.5",
        "audio_config": {
            "sample_rate": 48000,
            "encoding": "linear_pcm",
            "num_channels": 1,
            "sample_width": 2,
            "container": "raw",
        },
        "voice": "Pranav",
        "speed": 1.0,
        "request_id": "req_0123456789ab",
    }
)
RAW = {"container": "raw"}


def client(**more):
    return Client(URL, KEY, **more)


def asking(**more):
    codec = client(**more)
    codec.send(Text("hello"))
    codec.send(Flush())
    codec.send(End())
    return codec


def server(*requests, **more):
    codec = Server(**more)
    for request in requests:
        codec.receive(request)
    return codec


def sound(data):
    return json.dumps({"type": "audio", "data": {"audio": base64.b64encode(data).decode(), "chunk_index": 0}})


def complete(data=None):
    nested = None if data is None else {"audio": base64.b64encode(data).decode()}
    return json.dumps({"type": "complete", "request_id": "req_1", "data": nested})


# --- the request


def test_the_headers_are_those_of_the_page():
    handshake = client().handshake()
    assert handshake.url == URL
    assert handshake.headers == {"Content-Type": "application/json", "X-API-Key-ID": KEY}
    assert KEY not in repr(handshake)
    assert "X-API-Key-ID" not in Client(URL, None).handshake().headers


def test_the_request_is_the_pages_in_its_order():
    codec = client()
    assert codec.send(Text("Websocket Endpoint ")) == [] and codec.send(Text("production test..")) == []
    (request,) = codec.send(Flush())
    assert json.loads(request) == json.loads(PAGE_REQUEST)
    assert list(json.loads(request)) == list(json.loads(PAGE_REQUEST))
    assert list(json.loads(request)["audio_config"]) == list(json.loads(PAGE_REQUEST)["audio_config"])
    assert codec.send(End()) == []


def test_an_end_asks_for_the_text_that_nobody_flushed():
    codec = client()
    codec.send(Text("one"))
    (request,) = codec.send(End())
    assert json.loads(request)["text"] == "one"
    assert codec.send(End()) == [] and codec.send(Text("late")) == [] and codec.send(Flush()) == []


def test_no_text_is_no_request():
    codec = client()
    assert [codec.send(event) for event in (Flush(), Text(" \n"), Flush(), Text(""), End())] == [[]] * 5


def test_speed_and_request_id_are_sent_only_where_they_are_set():
    codec = client(speed=1.1, voice="Pranav", language="en-IN", model="timbre-v2.5")
    codec.send(Text("a"))
    (request,) = codec.send(Flush(request_id="req_1"))
    told = json.loads(request)
    assert told["speed"] == 1.1 and told["request_id"] == "req_1"
    assert (told["voice"], told["language"], told["model"]) == ("Pranav", "en-IN", "timbre-v2.5")


def test_the_audio_config_may_be_a_mapping_an_object_or_the_configurations_own():
    for given_config in ({"sample_rate": 24000}, SimpleNamespace(sample_rate=24000), AudioSettings(sample_rate=24000)):
        assert client(audio_config=given_config).encoding == Encoding("wav", 24000)
    assert client().encoding == client(audio_config=AudioSettings()).encoding == Encoding("wav", 44100)


@pytest.mark.parametrize(
    ("config", "encoding"),
    [
        ({"container": "raw"}, Encoding("raw", 44100)),
        ({"container": "mp3", "num_channels": 2}, Encoding("mp3", 44100, 2)),
        ({"container": "ogg", "encoding": "oggopus", "sample_rate": 48000}, Encoding("opus", 48000)),
        ({"container": "raw", "encoding": "oggopus", "sample_rate": 48000}, Encoding("opus", 48000)),
        ({"container": "raw", "encoding": "pcm_mulaw", "sample_rate": 8000}, Encoding("raw", 8000, 1, "mulaw")),
        ({"container": "mulaw", "encoding": "pcm_mulaw", "sample_rate": 8000}, Encoding("raw", 8000, 1, "mulaw")),
        (
            {"container": "wav", "encoding": "pcm_alaw", "sample_rate": 8000, "sample_width": 1},
            Encoding("wav", 8000, 1, "alaw"),
        ),
        ({"container": "alaw", "encoding": "pcm_alaw", "sample_rate": 8000}, Encoding("raw", 8000, 1, "alaw")),
    ],
)
def test_every_format_of_the_service_is_told_to_the_decoder(config, encoding):
    assert client(audio_config=config).encoding == encoding


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"sample_rate": 11025}, "sample_rate"),
        ({"sample_rate": True}, "sample_rate"),
        ({"sample_rate": "44100"}, "sample_rate"),
        ({"num_channels": 3}, "num_channels"),
        ({"sample_width": 1}, "sample_width"),
        ({"encoding": "mp3"}, "encoding"),
        ({"encoding": ["linear_pcm"]}, "encoding"),
        ({"container": "flac"}, "container"),
        ({"container": "mp3", "encoding": "pcm_mulaw", "sample_rate": 8000}, "container"),
        ({"container": "mulaw", "encoding": "pcm_mulaw"}, "sample_rate"),
        ("wav", "audio_config"),
        ([], "audio_config"),
    ],
)
def test_an_audio_config_that_cannot_be_is_one_sentence(wrong, name):
    with pytest.raises(ValueError, match=name):
        client(audio_config=wrong)
    request = {**json.loads(PAGE_REQUEST), "audio_config": wrong}
    (failure,) = Server().receive(json.dumps(request))
    assert isinstance(failure, Failure) and not failure.fatal and name in failure.expected


@pytest.mark.parametrize("speed", [0.49, 2.01, float("nan")])
def test_a_speed_out_of_range_is_one_sentence(speed):
    with pytest.raises(ValueError, match="speed"):
        client(speed=speed)


# --- binary sound, as on the page


def test_binary_chunks_are_sound_and_a_clean_close_is_the_end():
    for code in (1000, 1005):
        codec = asking()
        assert codec.receive(b"RIFF") == [Audio(b"RIFF")]
        assert codec.receive(b"\x01") == [Audio(b"\x01")]
        assert codec.receive_close(code) == [End()]
        assert codec.receive_close(code) == []


def test_binary_chunks_may_end_with_a_quiet_period():
    codec = asking()
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    codec.receive(b"ab")
    assert codec.receive_timeout_seconds == 2.5
    assert (
        codec.receive_timeout() == [End()] and codec.receive_timeout() == [] and codec.receive_timeout_seconds is None
    )


def test_an_empty_chunk_is_nothing():
    assert asking().receive(b"") == []


@pytest.mark.parametrize(("code", "chunks"), [(1006, 1), (1011, 1), (1000, 0), (1005, 0)])
def test_any_other_close_has_lost_sound(code, chunks):
    codec = asking()
    for _ in range(chunks):
        codec.receive(b"ab")
    (failure,) = codec.receive_close(code, "why\x07")
    assert failure.fatal and failure.status == code and str(code) in failure.received and "\x07" not in str(failure)
    assert codec.receive_close(1000) == []


def test_a_close_with_text_that_was_not_asked_for_yet_is_a_failure():
    codec = client()
    codec.send(Text("half a sentence"))
    assert isinstance(codec.receive_close(1000)[0], Failure)


def test_a_standby_that_is_closed_lost_nothing():
    assert client().receive_close(1006) == []


# --- JSON, as today


def test_start_audio_complete():
    codec = asking()
    assert codec.receive('{"type": "start", "request_id": "req_1", "message": "x"}') == []
    assert codec.receive(sound(b"abc")) == [Audio(b"abc")]
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    assert codec.receive(complete()) == [Flush(), End()]
    assert codec.receive_close(1006) == []


def test_complete_may_carry_the_last_sound():
    assert asking().receive(complete(b"xy")) == [Audio(b"xy"), Flush(), End()]
    assert asking().receive('{"type": "complete", "audio": "eHk="}') == [Audio(b"xy"), Flush(), End()]


def test_sound_at_the_top_level_is_heard():
    assert asking().receive('{"type": "audio", "audio": "eHk="}') == [Audio(b"xy")]


def test_a_start_says_that_silence_is_no_end():
    codec = asking()
    codec.receive('{"type": "start"}')
    codec.receive(b"binary after all")
    assert codec.receive_timeout_seconds is None
    assert codec.receive_close(1000) == [End()]


def test_every_request_on_a_connection_has_its_own_end():
    codec = client()
    for text in ("a", "b"):
        codec.send(Text(text))
        assert len(codec.send(Flush())) == 1
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush()]
    codec.send(End())
    assert codec.receive(complete(b"b")) == [Audio(b"b"), Flush(), End()]


def test_a_close_after_one_of_two_requests_has_lost_the_other():
    codec = client()
    for text in ("a", "b"):
        codec.send(Text(text))
        codec.send(Flush())
    codec.send(End())
    codec.receive(complete(b"a"))
    assert isinstance(codec.receive_close(1000)[0], Failure)


def test_an_extra_complete_is_nothing():
    codec = client()
    assert codec.receive(complete()) == []
    codec.send(Text("a"))
    codec.send(End())
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush(), End()]
    assert codec.receive(complete()) == []


def test_an_end_that_is_sent_after_everything_came_is_told_at_once():
    codec = client()
    codec.send(Text("a"))
    codec.send(Flush())
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush()]
    codec.send(End())
    assert codec.receive_timeout_seconds is not None and 0 < codec.receive_timeout_seconds < 0.2
    assert codec.receive_timeout() == [End()]


def test_an_error_is_fatal_and_shows_no_key():
    codec = asking()
    (failure,) = codec.receive(json.dumps({"type": "error", "message": f"bad key {KEY}", "status_code": 401}))
    assert failure.fatal and failure.permanent and failure.status == 401
    assert KEY not in str(failure) and "bad key" in str(failure)
    assert codec.receive_close(1000) == [] and codec.receive_timeout_seconds is None


@pytest.mark.parametrize(
    "message",
    [
        "junk",
        "[]",
        "{}",
        '{"type": 5}',
        '{"type": "odd"}',
        '{"type": "audio"}',
        '{"type": "audio", "data": {"audio": null}}',
        '{"type": "audio", "data": {"audio": 1}}',
        '{"type": "audio", "data": {"audio": "-_-_"}}',
        '{"type": "audio", "audio": "QQ==QQ=="}',
        "{" * 100_000,
        '{"a": ' * 100_000,
    ],
)
def test_a_message_that_is_refused_names_the_service_what_came_and_what_was_expected(message):
    codec = asking()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert failure.service == "vachana" and failure.received and failure.expected
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush(), End()]


def test_sound_after_the_end_is_refused():
    codec = asking()
    codec.receive(complete(b"a"))
    assert [type(event) for event in codec.receive(b"more")] == [Failure]
    assert [type(event) for event in codec.receive(sound(b"more"))] == [Failure]


# --- the server


def test_the_request_of_the_page_is_understood():
    codec = Server()
    text, flush = codec.receive(PAGE_REQUEST)
    assert text == Text("Websocket Endpoint production test..", flush.request_id)
    assert (codec.voice, codec.language, codec.model) == ("Sia", "IND-IN", "vachana-voice-v1")
    assert codec.audio_config == dict(AUDIO_CONFIG) and codec.encoding == Encoding("wav", 44100)
    assert codec.speed == 1.0


def test_the_request_of_todays_sdk_is_understood():
    codec = Server()
    assert codec.receive(SDK_REQUEST) == [Text("Hello", "req_0123456789ab"), Flush("req_0123456789ab")]
    assert codec.encoding == Encoding("raw", 48000) and codec.voice == "Pranav" and codec.language == ""


def test_the_answer_is_start_audio_and_complete():
    codec = server(SDK_REQUEST)
    messages = [message for event in (Audio(b"ab"), Audio(b"c"), Flush(), End()) for message in codec.send(event)]
    start, first, second, last = map(json.loads, messages)
    assert start["type"] == "start" and start["request_id"] == "req_0123456789ab"
    assert first == {"type": "audio", "data": {"audio": "YWI=", "chunk_index": 0, "is_final": False}}
    assert second["data"]["chunk_index"] == 1
    assert last == {"type": "complete", "request_id": "req_0123456789ab", "data": None}


def test_an_answer_without_sound_still_starts():
    assert [json.loads(message)["type"] for message in server(SDK_REQUEST).send(Flush())] == ["start", "complete"]


def test_requests_are_answered_in_their_order():
    codec = server(SDK_REQUEST, PAGE_REQUEST)
    answers = [
        json.loads(message) for event in (Audio(b"a"), Flush(), Audio(b"b"), Flush()) for message in codec.send(event)
    ]
    ids = [answer["request_id"] for answer in answers if "request_id" in answer]
    assert ids[:2] == ["req_0123456789ab"] * 2 and ids[2] == ids[3] != ids[0] and ids[2].startswith("req_")


def test_a_binary_server_says_what_the_page_says():
    codec = server(PAGE_REQUEST, binary=True)
    assert codec.send(Audio(b"RIFF")) == [b"RIFF"]
    assert codec.send(Flush()) == [] and codec.send(End()) == [] and codec.send(Audio(b"")) == []


@pytest.mark.parametrize(
    "message",
    [
        b"{}",
        "junk",
        "[]",
        "{}",
        '{"text": ""}',
        '{"text": 5}',
        '{"text": "a", "voice": 5}',
        '{"text": "a", "request_id": {}}',
        '{"text": "a", "speed": "fast"}',
        '{"text": "a", "speed": 99}',
        '{"text": "a", "speed": true}',
        '{"text": "a", "speed": 1' + "0" * 400 + "}",
        '{"text": "a", "audio_config": "wav"}',
    ],
)
def test_a_request_that_cannot_be_met_is_answered_with_an_error(message):
    codec = Server()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    (answer,) = codec.send(failure)
    assert json.loads(answer)["type"] == "error" and failure.expected in json.loads(answer)["message"]
    assert len(codec.receive(SDK_REQUEST)) == 2


def test_requests_without_end_are_not_kept():
    codec = Server()
    for _ in range(1001):
        events = codec.receive(SDK_REQUEST)
    assert [type(event) for event in events] == [Failure] and events[0].fatal


def test_the_handshake_wants_the_path_and_the_key():
    assert Server().handshake("/api/v1/tts", {}) is None
    assert Server(KEY).handshake("/api/v1/tts?x=1", {"x-api-key-id": KEY}) is None
    assert Server().handshake("/api/v1", {}).status == 404
    refused = Server(KEY).handshake("/api/v1/tts", {"X-API-Key-ID": "wrong"})
    assert refused.status == 401 and refused.permanent and KEY not in repr(refused)


def test_a_client_that_leaves_says_no_more():
    codec = Server()
    assert codec.receive_close(1000) == [End()] and codec.receive_close(1000) == []


# --- facing each other


@given(st.lists(st.text(), max_size=6), st.lists(st.binary(max_size=9), max_size=6), st.booleans())
def test_any_text_and_any_sound_arrive_whole(pieces, chunks, binary):
    one, other = client(audio_config=RAW), Server(KEY, binary=binary)
    assert other.handshake("/api/v1/tts", one.handshake().headers) is None
    heard = [
        event
        for wish in [*map(Text, pieces), Flush(), End()]
        for message in one.send(wish)
        for event in other.receive(message)
    ]
    text = "".join(pieces)
    assert "".join(event.text for event in heard if isinstance(event, Text)) == (text if text.strip() else "")
    if not heard:
        return
    assert other.encoding == one.encoding
    answer = [*map(Audio, chunks), Flush(), End()]
    events = [event for wish in answer for message in other.send(wish) for event in one.receive(message)]
    events += one.receive_close(1000)
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == b"".join(chunks)
    if any(chunks) or not binary:
        assert events[-1] == End()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
DATA = st.fixed_dictionaries({}, optional={"audio": JSON})
TYPES = st.sampled_from(["start", "audio", "complete", "error"])
ANSWER = st.fixed_dictionaries({}, optional={"type": TYPES | JSON, "data": DATA | JSON, "audio": JSON, "code": JSON})
REQUEST = st.fixed_dictionaries(
    {"text": st.text()}, optional={"voice": JSON, "speed": JSON, "audio_config": JSON, "request_id": JSON}
)


@given(st.lists(st.text() | st.binary() | ANSWER.map(json.dumps), max_size=6))
def test_whatever_comes_the_client_never_raises_and_the_end_comes_once(messages):
    codec = asking()
    events = [event for message in messages for event in codec.receive(message)]
    events += [*codec.receive_timeout(), *codec.receive_close(1006), *codec.receive_close(1006)]
    assert all(isinstance(event, Audio | Flush | End | Failure) for event in events)
    assert sum(isinstance(event, End) or (isinstance(event, Failure) and event.fatal) for event in events) == 1


@given(st.text() | st.binary() | REQUEST.map(json.dumps))
def test_whatever_comes_the_server_never_raises(message):
    events = Server().receive(message)
    assert events and all(isinstance(event, Text | Flush | Failure) for event in events)


@given(JSON)
def test_an_audio_config_is_read_or_refused_and_never_raises(config):
    found = read_audio_config(config)
    assert isinstance(found, str) or encoding_of(found).sample_rate > 0
