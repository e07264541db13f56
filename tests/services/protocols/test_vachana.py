"""Vachana's client and server: compared with the page and the SDK, then connected to each other."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import count_endings
from support.untrusted import JSON

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


def test_handshake_sends_the_headers_of_the_page():
    handshake = client().handshake()
    assert handshake.url == URL
    assert handshake.headers == {"Content-Type": "application/json", "X-API-Key-ID": KEY}
    assert KEY not in repr(handshake)
    assert "X-API-Key-ID" not in Client(URL, None).handshake().headers


def test_flush_encodes_the_request_of_the_page():
    codec = client()
    assert codec.send(Text("Websocket Endpoint ")) == [] and codec.send(Text("production test..")) == []
    (request,) = codec.send(Flush())
    assert json.loads(request) == json.loads(PAGE_REQUEST)
    assert list(json.loads(request)) == list(json.loads(PAGE_REQUEST))
    assert list(json.loads(request)["audio_config"]) == list(json.loads(PAGE_REQUEST)["audio_config"])
    assert codec.send(End()) == []


def test_end_requests_the_open_text():
    codec = client()
    codec.send(Text("one"))
    (request,) = codec.send(End())
    assert json.loads(request)["text"] == "one"
    assert codec.send(End()) == [] and codec.send(Text("late")) == [] and codec.send(Flush()) == []


def test_send_encodes_no_request_without_text():
    codec = client()
    assert [codec.send(event) for event in (Flush(), Text(" \n"), Flush(), Text(""), End())] == [[]] * 5


def test_request_contains_speed_and_request_id_only_if_set():
    codec = client(speed=1.1, voice="Pranav", language="en-IN", model="timbre-v2.5")
    codec.send(Text("a"))
    (request,) = codec.send(Flush(request_id="req_1"))
    fields = json.loads(request)
    assert fields["speed"] == 1.1 and fields["request_id"] == "req_1"
    assert (fields["voice"], fields["language"], fields["model"]) == ("Pranav", "en-IN", "timbre-v2.5")


def test_read_audio_config_accepts_mapping_object_and_settings():
    for config in ({"sample_rate": 24000}, SimpleNamespace(sample_rate=24000), AudioSettings(sample_rate=24000)):
        assert client(audio_config=config).encoding == Encoding("wav", 24000)
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
def test_encoding_follows_the_audio_config(config, encoding):
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
def test_client_raises_value_error_for_an_invalid_audio_config(wrong, name):
    with pytest.raises(ValueError, match=name):
        client(audio_config=wrong)
    request = {**json.loads(PAGE_REQUEST), "audio_config": wrong}
    (failure,) = Server().receive(json.dumps(request))
    assert isinstance(failure, Failure) and not failure.fatal and name in failure.expected


@pytest.mark.parametrize("speed", [0.49, 2.01, float("nan")])
def test_client_raises_value_error_for_a_speed_out_of_range(speed):
    with pytest.raises(ValueError, match="speed"):
        client(speed=speed)


# --- binary audio, as on the page


def test_clean_close_after_binary_audio_returns_end():
    for code in (1000, 1005):
        codec = asking()
        assert codec.receive(b"RIFF") == [Audio(b"RIFF")]
        assert codec.receive(b"\x01") == [Audio(b"\x01")]
        assert codec.receive_close(code) == [End()]
        assert codec.receive_close(code) == []


def test_binary_audio_ends_by_timeout():
    codec = asking()
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    codec.receive(b"ab")
    assert codec.receive_timeout_seconds == 2.5
    assert (
        codec.receive_timeout() == [End(is_marked=False)]
        and codec.receive_timeout() == []
        and codec.receive_timeout_seconds is None
    )


@pytest.mark.parametrize("size", [4, 20, 44, 58])
def test_header_of_a_wav_file_is_no_audio(size):
    data = b"data\xff\xff\xff\xff"
    header = (b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(80))[: size - len(data) if size > 20 else size]
    header += data if size > 20 else b""
    codec = asking()
    assert codec.receive(header) == [Audio(header)]
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    codec.receive(b"ab")
    assert codec.receive_timeout_seconds == 2.5
    codec = asking()
    codec.receive(header)
    assert codec.receive_close(1000)[0].fatal


def test_receive_ignores_an_empty_chunk():
    assert asking().receive(b"") == []


@pytest.mark.parametrize(("code", "chunks"), [(1006, 1), (1011, 1), (1000, 0), (1005, 0)])
def test_other_close_is_a_fatal_failure(code, chunks):
    codec = asking()
    for _ in range(chunks):
        codec.receive(b"ab")
    (failure,) = codec.receive_close(code, "why\x07")
    assert failure.fatal and failure.status == code and str(code) in failure.received and "\x07" not in str(failure)
    assert codec.receive_close(1000) == []


def test_close_with_unsent_text_is_a_fatal_failure():
    codec = client()
    codec.send(Text("half a sentence"))
    assert isinstance(codec.receive_close(1000)[0], Failure)


def test_close_of_an_unused_connection_returns_nothing():
    assert client().receive_close(1006) == []


# --- JSON, as the SDK reads it


def test_receive_decodes_start_audio_and_complete():
    codec = asking()
    assert codec.receive('{"type": "start", "request_id": "req_1", "message": "x"}') == []
    assert codec.receive(sound(b"abc")) == [Audio(b"abc")]
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    assert codec.receive(complete()) == [Flush(), End()]
    assert codec.receive_close(1006) == []


def test_complete_may_carry_the_last_audio():
    assert asking().receive(complete(b"xy")) == [Audio(b"xy"), Flush(), End()]
    assert asking().receive('{"type": "complete", "audio": "eHk="}') == [Audio(b"xy"), Flush(), End()]


def test_receive_accepts_audio_at_the_top_level():
    assert asking().receive('{"type": "audio", "audio": "eHk="}') == [Audio(b"xy")]


def test_receive_timeout_is_unset_after_start():
    codec = asking()
    codec.receive('{"type": "start"}')
    codec.receive(b"binary after all")
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []


@pytest.mark.parametrize("audio", [sound(b"all"), b"all"], ids=["json", "binary"])
def test_normal_close_after_an_announced_start_and_audio_is_the_end(audio):
    codec = asking()
    codec.receive('{"type": "start", "request_id": "req_1"}')
    assert codec.receive(audio) == [Audio(b"all")]
    assert codec.receive_close(1000) == [End(is_marked=False)]


def test_normal_close_after_an_announced_start_without_audio_is_a_fatal_failure():
    codec = asking()
    codec.receive('{"type": "start", "request_id": "req_1"}')
    (failure,) = codec.receive_close(1000)
    assert failure.fatal and failure.is_end_missing


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011])
@pytest.mark.parametrize("audio", [sound(b"half"), b"half"], ids=["json", "binary"])
def test_close_before_the_complete_of_an_announced_start_is_a_fatal_failure(code, audio):
    codec = asking()
    codec.receive('{"type": "start", "request_id": "req_1"}')
    assert codec.receive(audio) == [Audio(b"half")]
    (failure,) = codec.receive_close(code)
    assert isinstance(failure, Failure) and failure.fatal and not failure.permanent


def test_close_after_json_audio_without_a_start_is_the_end():
    codec = asking()
    codec.receive(sound(b"all"))
    assert codec.receive_close(1000) == [End()]


def test_every_complete_returns_flush():
    codec = client()
    for text in ("a", "b"):
        codec.send(Text(text))
        assert len(codec.send(Flush())) == 1
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush()]
    codec.send(End())
    assert codec.receive(complete(b"b")) == [Audio(b"b"), Flush(), End()]


def test_close_after_one_of_two_requests_is_a_fatal_failure():
    codec = client()
    for text in ("a", "b"):
        codec.send(Text(text))
        codec.send(Flush())
    codec.send(End())
    codec.receive(complete(b"a"))
    assert isinstance(codec.receive_close(1000)[0], Failure)


def test_extra_complete_is_ignored():
    codec = client()
    assert codec.receive(complete()) == []
    codec.send(Text("a"))
    codec.send(End())
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush(), End()]
    assert codec.receive(complete()) == []


def test_end_after_all_responses_is_returned_at_once():
    codec = client()
    codec.send(Text("a"))
    codec.send(Flush())
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush()]
    codec.send(End())
    assert codec.receive_timeout_seconds is not None and 0 < codec.receive_timeout_seconds < 0.2
    assert codec.receive_timeout() == [End()]


def test_error_is_fatal_and_hides_the_key():
    codec = asking()
    (failure,) = codec.receive(json.dumps({"type": "error", "message": f"bad key {KEY}", "status_code": 401}))
    assert failure.fatal and failure.permanent and failure.status == 401
    assert KEY not in str(failure) and "bad key" in str(failure)
    assert codec.receive_close(1000) == [] and codec.receive_timeout_seconds is None


@pytest.mark.parametrize(
    "fields",
    [
        {"error": "no credit"},
        {"errors": ["no credit"]},
        {"status_code": 402, "detail": "no credit"},
        {"detail": "no credit"},
    ],
)
def test_error_without_a_type_is_not_taken_for_the_end(fields):
    codec = asking()
    codec.receive(json.dumps({"type": "start"}))
    assert codec.receive(b"ab") == [Audio(b"ab")]
    (failure,) = codec.receive(json.dumps(fields))
    assert failure.fatal and "no credit" in failure.received
    assert codec.receive_close(1000) == []


@pytest.mark.parametrize(
    "message",
    [
        "junk",
        "[]",
        "{}",
        '{"type": 5}',
        '{"type": "odd"}',
        '{"type": "odd", "detail": "a detail"}',
        '{"type": "audio"}',
        '{"type": "audio", "data": {"audio": null}}',
        '{"type": "audio", "data": {"audio": 1}}',
        '{"type": "audio", "data": {"audio": "-_-_"}}',
        '{"type": "audio", "audio": "QQ==QQ=="}',
        "{" * 100_000,
        '{"a": ' * 100_000,
    ],
)
def test_receive_refuses_an_invalid_message(message):
    codec = asking()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert failure.service == "vachana" and failure.received and failure.expected
    assert codec.receive(complete(b"a")) == [Audio(b"a"), Flush(), End()]


def test_receive_refuses_audio_after_end():
    codec = asking()
    codec.receive(complete(b"a"))
    assert [type(event) for event in codec.receive(b"more")] == [Failure]
    assert [type(event) for event in codec.receive(sound(b"more"))] == [Failure]


# --- the server


def test_server_decodes_the_request_of_the_page():
    codec = Server()
    text, flush = codec.receive(PAGE_REQUEST)
    assert text == Text("Websocket Endpoint production test..", flush.request_id)
    assert (codec.voice, codec.language, codec.model) == ("Sia", "IND-IN", "vachana-voice-v1")
    assert codec.audio_config == dict(AUDIO_CONFIG) and codec.encoding == Encoding("wav", 44100)
    assert codec.speed == 1.0


def test_server_decodes_the_request_of_the_sdk():
    codec = Server()
    assert codec.receive(SDK_REQUEST) == [Text("Hello", "req_0123456789ab"), Flush("req_0123456789ab")]
    assert codec.encoding == Encoding("raw", 48000) and codec.voice == "Pranav" and codec.language == ""


def test_server_encodes_start_audio_and_complete():
    codec = server(SDK_REQUEST)
    messages = [message for event in (Audio(b"ab"), Audio(b"c"), Flush(), End()) for message in codec.send(event)]
    start, first, second, last = map(json.loads, messages)
    assert start["type"] == "start" and start["request_id"] == "req_0123456789ab"
    assert first == {"type": "audio", "data": {"audio": "YWI=", "chunk_index": 0, "is_final": False}}
    assert second["data"]["chunk_index"] == 1
    assert last == {"type": "complete", "request_id": "req_0123456789ab", "data": None}


def test_server_sends_start_without_audio():
    assert [json.loads(message)["type"] for message in server(SDK_REQUEST).send(Flush())] == ["start", "complete"]


def test_server_answers_requests_in_order():
    codec = server(SDK_REQUEST, PAGE_REQUEST)
    answers = [
        json.loads(message) for event in (Audio(b"a"), Flush(), Audio(b"b"), Flush()) for message in codec.send(event)
    ]
    ids = [answer["request_id"] for answer in answers if "request_id" in answer]
    assert ids[:2] == ["req_0123456789ab"] * 2 and ids[2] == ids[3] != ids[0] and ids[2].startswith("req_")


def test_binary_server_sends_bare_chunks():
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
def test_server_answers_an_invalid_request_with_an_error(message):
    codec = Server()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    (answer,) = codec.send(failure)
    assert json.loads(answer)["type"] == "error" and failure.expected in json.loads(answer)["message"]
    assert len(codec.receive(SDK_REQUEST)) == 2


def test_server_limits_open_requests():
    codec = Server()
    for _ in range(1001):
        events = codec.receive(SDK_REQUEST)
    assert [type(event) for event in events] == [Failure] and events[0].fatal


def test_server_handshake_requires_path_and_key():
    assert Server().handshake("/api/v1/tts", {}) is None
    assert Server(KEY).handshake("/api/v1/tts?x=1", {"x-api-key-id": KEY}) is None
    assert Server().handshake("/api/v1", {}).status == 404
    refused = Server(KEY).handshake("/api/v1/tts", {"X-API-Key-ID": "wrong"})
    assert refused.status == 401 and refused.permanent and KEY not in repr(refused)


def test_server_returns_end_once_for_a_close():
    codec = Server()
    assert codec.receive_close(1000) == [End()] and codec.receive_close(1000) == []


# --- client and server connected


@given(st.lists(st.text(), max_size=6), st.lists(st.binary(max_size=9), max_size=6), st.booleans())
def test_text_and_audio_pass_both_codecs_unchanged(pieces, chunks, binary):
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


DATA = st.fixed_dictionaries({}, optional={"audio": JSON})
TYPES = st.sampled_from(["start", "audio", "complete", "error"])
ANSWER = st.fixed_dictionaries({}, optional={"type": TYPES | JSON, "data": DATA | JSON, "audio": JSON, "code": JSON})
REQUEST = st.fixed_dictionaries(
    {"text": st.text()}, optional={"voice": JSON, "speed": JSON, "audio_config": JSON, "request_id": JSON}
)


@given(st.lists(st.text() | st.binary() | ANSWER.map(json.dumps), max_size=6))
def test_client_never_raises_and_returns_end_once(messages):
    codec = asking()
    events = [event for message in messages for event in codec.receive(message)]
    events += [*codec.receive_timeout(), *codec.receive_close(1006), *codec.receive_close(1006)]
    assert all(isinstance(event, Audio | Flush | End | Failure) for event in events)
    assert count_endings(events) == 1


@given(JSON)
def test_read_audio_config_never_raises(config):
    result = read_audio_config(config)
    assert isinstance(result, str) or encoding_of(result).sample_rate > 0
