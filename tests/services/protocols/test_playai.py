"""PlayAI's WebSocket: client and server compared with the messages of the page, then connected, then fuzzed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import count_endings, is_fatal, is_refused

from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Flush, Log, Message, Text, Transcript
from agent.services.protocols.playai import Client, Server
from agent.services.protocols.playai_auth import Tokens

TOKEN = "eyJhbGciOi.SECRET-TOKEN%2B.x"
URL = f"wss://ws.fal.run/playht-fal/playht-tts/stream?fal_jwt_token={TOKEN}&keep=a%20b"
PATH = "/playht-fal/playht-tts/stream"


def ids() -> Iterator[str]:
    return (f"r{number}" for number in count(1))


def client(**options: object) -> Client:
    return Client(URL, "s3://voice", request_ids=ids().__next__, **options)  # type: ignore[arg-type]


def asked(*passages: str, **options: object) -> Client:
    """Return a client that sent a request for each passage."""
    codec = client(**options)
    for passage in passages:
        codec.send(Text(passage))
        assert len(codec.send(Flush())) == 1
    return codec


def start(request_id: object = "r1", **more: object) -> str:
    return json.dumps({"type": "start", "request_id": request_id, **more})


def end(request_id: object = "r1", **more: object) -> str:
    return json.dumps({"type": "end", "request_id": request_id, **more})


# --- the client, compared with the page


def test_handshake_uses_the_issued_url_unchanged() -> None:
    handshake = client().handshake()
    assert handshake.url == URL and dict(handshake.headers) == {}


def test_flush_encodes_one_request_as_on_the_page() -> None:
    codec = client(output_format="mp3")
    assert codec.send(Text("Hello ")) == [] and codec.send(Text("World")) == []
    (message,) = codec.send(Flush())
    assert isinstance(message, str) and json.loads(message) == {
        "text": "Hello World",
        "voice": "s3://voice",
        "output_format": "mp3",
        "speed": 1.0,
        "request_id": "r1",
    }


def test_request_contains_every_option_that_is_set() -> None:
    codec = client(output_format="raw", sample_rate=16000, speed=0.5, temperature=0.0, model="PlayDialog")
    codec.send(Text("x"))
    assert json.loads(codec.send(Flush())[0]) == {
        "text": "x",
        "voice": "s3://voice",
        "output_format": "raw",
        "sample_rate": 16000,
        "speed": 0.5,
        "temperature": 0.0,
        "voice_engine": "PlayDialog",
        "request_id": "r1",
    }


def test_every_request_has_its_own_id() -> None:
    codec = Client(URL, "v")
    seen = set()
    for _ in range(50):
        codec.send(Text("x"))
        seen.add(json.loads(codec.send(Flush())[0])["request_id"])
    assert len(seen) == 50 and all(isinstance(name, str) and name for name in seen)


def test_receive_decodes_start_audio_and_end() -> None:
    codec = asked("Hello")
    assert codec.receive('{"type":"start","request_id":"r1"}') == []
    assert codec.receive(b"RIFF") == [Audio(b"RIFF", request_id="r1")]
    assert codec.receive(b"") == []
    assert codec.receive(b"\x01") == [Audio(b"\x01", request_id="r1")]
    assert codec.receive('{"type":"end","request_id":"r1"}') == [Flush("r1")]
    assert codec.send(End()) == []
    assert codec.receive_timeout() == [End()] and codec.receive_timeout() == [] and codec.receive_close(1000) == []


def test_last_response_after_end_returns_end() -> None:
    codec = asked("one", "two")
    assert codec.send(Text("three")) == []
    (last,) = codec.send(End())
    assert json.loads(last)["request_id"] == "r3"
    heard: list[Event] = []
    for name in ("r1", "r2", "r3"):
        for message in (start(name, status=200), name.encode(), end(name, status=200)):
            heard += codec.receive(message)
    assert heard == [
        Audio(b"r1", request_id="r1"),
        Flush("r1"),
        Audio(b"r2", request_id="r2"),
        Flush("r2"),
        Audio(b"r3", request_id="r3"),
        Flush("r3"),
        End(),
    ]
    assert codec.receive_timeout_seconds is None


def test_send_encodes_nothing_after_end() -> None:
    codec = asked("x")
    for event in (End(), End(), Text("y"), Flush(), End()):
        assert codec.send(event) == []


def test_receive_timeout_returns_end_without_open_requests() -> None:
    codec = client()
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    codec.send(End())
    assert codec.receive_timeout_seconds is not None and codec.receive_timeout_seconds < 1
    assert codec.receive_timeout() == [End()] and codec.receive_timeout_seconds is None


@pytest.mark.parametrize("text", ["", " ", "\n\t \u2003"])
def test_send_skips_a_passage_of_white_space(text: str) -> None:
    codec = client()
    codec.send(Text(text))
    assert codec.send(Flush()) == [] and codec.send(End()) == []


def test_send_ignores_foreign_events() -> None:
    for event in (Audio(b"x"), Log("x"), Transcript("x", True), Failure("x", "y", "z")):
        assert client().send(event) == []


@pytest.mark.parametrize(
    ("output_format", "encoding"),
    [
        ("mp3", Encoding("mp3", 24000)),
        ("wav", Encoding("wav", 24000)),
        ("raw", Encoding("raw", 24000)),
        ("pcm", Encoding("raw", 24000)),
        ("mulaw", Encoding("raw", 24000, samples="mulaw")),
        ("ogg", Encoding("opus", 24000)),
    ],
)
def test_client_encoding_follows_output_format(output_format: str, encoding: Encoding) -> None:
    assert client(output_format=output_format).encoding == encoding
    assert client(output_format=output_format, sample_rate=8000).encoding.sample_rate == 8000


@pytest.mark.parametrize(
    "options",
    [
        {"speed": 0.49},
        {"speed": 2.01},
        {"speed": float("nan")},
        {"temperature": -0.1},
        {"temperature": 1.1},
        {"sample_rate": 7999},
        {"sample_rate": 48001},
        {"output_format": "flac"},
    ],
)
def test_client_raises_value_error_that_names_the_option(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"playai's {next(iter(options))} must be"):
        client(**options)


def test_idle_limit_is_below_one_hour() -> None:
    assert client().max_idle_seconds == 3300 and not client().is_single_use


# --- errors of the service


def test_receive_refuses_audio_outside_start_and_end() -> None:
    codec = asked("x", "y")
    assert is_refused(codec.receive(b"too early"))
    codec.receive(start())
    codec.receive(end())
    assert is_refused(codec.receive(b"too late"))
    codec.receive(start("r2"))
    assert codec.receive(b"z") == [Audio(b"z", request_id="r2")]


@pytest.mark.parametrize("name", ["stale", 1, True, [], {}, "r2", ["r1"]])
def test_receive_refuses_audio_of_an_unknown_request(name: object) -> None:
    codec = asked("x")
    assert is_refused(codec.receive(start(name)))
    assert is_refused(codec.receive(b"stale"))
    assert is_refused(codec.receive(end("other")))
    assert is_refused(codec.receive(b"stale"))
    assert is_refused(codec.receive(end(name)))
    assert codec.receive(start()) == [] and codec.receive(b"x") == [Audio(b"x", request_id="r1")]


@pytest.mark.parametrize("fields", [{}, {"request_id": None}, {"request_id": ""}], ids=["missing", "null", "empty"])
def test_response_without_an_id_belongs_to_the_oldest_request(fields: dict[str, object]) -> None:
    codec = asked("x", "y")
    codec.send(End())
    events: list[Event] = []
    for _ in range(2):
        for message in (json.dumps({"type": "start", **fields}), b"x", json.dumps({"type": "end", **fields})):
            events += codec.receive(message)
    assert events == [Audio(b"x", request_id="r1"), Flush("r1"), Audio(b"x", request_id="r2"), Flush("r2"), End()]


def test_end_without_an_id_ends_no_request_that_has_not_begun() -> None:
    codec = asked("x")
    assert is_refused(codec.receive('{"type": "end"}'))
    assert is_refused(codec.receive(start("stale"))) and is_refused(codec.receive('{"type": "end"}'))
    assert codec.receive(start()) == [] and codec.receive(b"x") == [Audio(b"x", request_id="r1")]


def test_response_to_an_unknown_request_does_not_mix_with_the_current_one() -> None:
    codec = asked("x")
    codec.receive(start())
    assert is_refused(codec.receive(start("stale"))) and is_refused(codec.receive(b"stale"))
    assert is_refused(codec.receive(end("stale")))
    assert codec.receive(b"x") == [Audio(b"x", request_id="r1")] and codec.receive(end()) == [Flush("r1")]


@pytest.mark.parametrize(
    "messages",
    [
        [start("r2")],
        [end("r1")],
        [end("r2")],
        [start("r1"), start("r1")],
        [start("r1"), start("r2")],
        [start("r1"), end("r2")],
    ],
)
def test_response_out_of_order_is_a_fatal_failure(messages: list[str]) -> None:
    codec = asked("x", "y")
    events = [codec.receive(message) for message in messages]
    assert all(not early for early in events[:-1]) and is_fatal(events[-1])
    assert codec.receive_close(1006) == [] and codec.receive_timeout() == [] and codec.receive_timeout_seconds is None


@pytest.mark.parametrize(
    ("message", "status", "permanent", "retry_after_seconds"),
    [
        ('{"type":"error","message":"no such voice"}', None, False, None),
        ('{"error":"out of credit","status":402}', 402, True, None),
        ('{"error":{"message":"x"},"type":"odd"}', None, False, None),
        (start(status=401), 401, False, None),
        (start(status=429, retry_after=12), 429, False, 12.0),
        (end(status=503, retry_after=1.5), 503, False, 1.5),
        ('{"type":"error","code":429,"retry_after":"soon"}', 429, False, None),
        ('{"type":"error","status":"bad","retry_after":-1}', None, False, None),
        ('{"type":"error","status":429,"retry_after":1' + "0" * 300 + "}", 429, False, None),
        ('{"type":"error","request_id":"r1"}', None, False, None),
    ],
)
def test_error_is_a_fatal_failure_with_its_message_and_status(
    message: str, status: int | None, permanent: bool, retry_after_seconds: float | None
) -> None:
    (failure,) = asked("x").receive(message)
    assert isinstance(failure, Failure)
    assert (failure.service, failure.fatal, failure.status) == ("playai", True, status)
    assert (failure.permanent, failure.retry_after_seconds) == (permanent, retry_after_seconds)


def test_end_with_an_empty_error_is_an_end() -> None:
    codec = asked("x")
    assert codec.receive(start(error=None)) == [] and codec.receive(end(error=None)) == [Flush("r1")]


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011])
@pytest.mark.parametrize("received", [[], [start()], [start(), b"half"]])
def test_close_before_the_last_end_is_a_fatal_failure(code: int, received: list[Message]) -> None:
    codec = asked("x")
    for message in received:
        codec.receive(message)
    events = codec.receive_close(code, "bye\x1b")
    assert is_fatal(events) and str(code) in str(events[0]) and "\x1b" not in str(events[0])
    assert codec.receive_close(code) == []


def test_close_with_unsent_text_is_a_fatal_failure() -> None:
    codec = client()
    codec.send(Text("Hel"))
    assert is_fatal(codec.receive_close(1000))


def test_close_without_open_requests_returns_nothing_or_end() -> None:
    codec = asked("x")
    codec.receive(start())
    codec.receive(end())
    assert codec.receive_close(1000) == [] and client().receive_close(1006) == []
    codec.send(End())
    assert codec.receive_close(1000) == [End()] and codec.receive_close(1000) == []


def test_receive_timeout_inside_a_passage_is_a_fatal_failure() -> None:
    codec = asked("x")
    codec.receive(start())
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []  # the owner limits the first audio
    codec.receive(b"RIFF" + bytes(32) + b"data\xff\xff\xff\xff")
    assert codec.receive_timeout_seconds is None  # the header of a WAV file is no audio
    codec.receive(b"audio")
    assert codec.receive_timeout_seconds == 10
    assert is_fatal(codec.receive_timeout()) and codec.receive_timeout() == []


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "[]",
        "null",
        "NaN",
        '{"type":"start","request_id":NaN}',
        "[" * 100000,
        '{"type":"interrupt"}',
        "{}",
        '{"type":7}',
        '{"type":["start"]}',
        "\ud800",
        '{"request_id":"r1"}',
        "x" * 10_000_000,
    ],
)
def test_receive_refuses_an_invalid_message(message: str) -> None:
    codec = asked("x")
    events = codec.receive(message)
    assert is_refused(events) and len(str(events[0])) < 500
    assert codec.receive(start()) == []


def test_events_and_repr_never_contain_the_token() -> None:
    codec = asked("x")
    shown = repr(codec) + str(codec) + repr(codec.handshake()) + str(codec.handshake())
    for message in (f'{{"type":"odd {TOKEN}"}}', f'{{"type":"error","message":"{URL}"}}'):
        shown += repr(codec.receive(message))
    shown += repr(asked("x").receive_close(1008, f"token {TOKEN} is old"))
    assert "SECRET-TOKEN" not in shown


def test_send_replaces_lone_surrogates() -> None:
    codec = client()
    codec.send(Text("a\udcffb"))
    assert json.loads(codec.send(Flush())[0])["text"] == "a\ufffdb"


# --- the server, compared with the page


def test_server_decodes_the_request_of_the_page_with_its_defaults() -> None:
    codec = Server()
    assert codec.receive('{"text":"Hello World","voice":"v"}') == [Text("Hello World"), Flush()]
    assert (codec.encoding, codec.voice, codec.speed) == (Encoding("mp3", 24000), "v", 1.0)
    assert codec.send(Audio(b"ID3")) == ['{"type": "start", "request_id": null}', b"ID3"]
    assert codec.send(Audio(b"more")) == [b"more"]
    assert codec.send(Flush()) == ['{"type": "end", "request_id": null}']


def test_server_accepts_the_request_of_pyht() -> None:
    codec = Server()
    request = {
        "text": ["Hello there.", "You too."],
        "voice": "v",
        "output_format": "wav",
        "speed": 1.2,
        "sample_rate": None,
        "voice_engine": "Play3.0-mini",
        "temperature": 1.5,
        "language": "english",
        "version": "v3",
        "voice_2": None,
    }
    assert codec.receive(json.dumps(request)) == [Text("Hello there. You too."), Flush()]
    assert (codec.encoding, codec.speed, codec.temperature) == (Encoding("wav", 24000), 1.2, 1.5)
    assert codec.language == "english"


def test_server_sends_start_and_end_without_audio() -> None:
    codec = Server()
    codec.receive('{"text":"","voice":"","request_id":"a"}')
    assert codec.send(Audio(b"")) == []
    assert [json.loads(message) for message in codec.send(Flush())] == [
        {"type": "start", "request_id": "a"},
        {"type": "end", "request_id": "a"},
    ]
    assert codec.send(Flush()) == [] and codec.send(Audio(b"x")) == [] and codec.send(End()) == []


def test_server_echoes_request_ids_in_order() -> None:
    codec = Server()
    for name in ('"a"', "2", "null"):
        codec.receive(f'{{"text":"x","voice":"v","request_id":{name}}}')
    answered = [json.loads(message)["request_id"] for _ in range(3) for message in codec.send(Flush())]
    assert answered == ["a", "a", 2, 2, None, None]


def test_server_handshake_requires_path_and_token() -> None:
    now = [1000.0]
    tokens = Tokens(lambda: now[0])
    token, _ = tokens.issue()
    assert Server(tokens).handshake(f"{PATH}?fal_jwt_token={token}", {}) is None
    assert Server().handshake(PATH, {}) is None
    dialog = Server()
    assert dialog.handshake("/playht-fal/playht-tts-ldm/stream", {}) is None and dialog.model == "PlayDialog"
    for path, status in ((PATH, 401), (f"{PATH}?fal_jwt_token=x{token}", 401), ("/speak/en", 404), ("//[", 404)):
        failure = Server(tokens).handshake(path, {})
        assert failure is not None and failure.permanent and failure.status == status and token not in repr(failure)
    now[0] += 3600
    assert Server(tokens).handshake(f"{PATH}?fal_jwt_token={token}", {}) is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"text": None},
        {"text": 7},
        {"text": ["a", 1]},
        {"voice": None},
        {"voice": 1},
        {"output_format": "wma"},
        {"output_format": []},
        {"speed": 0.1},
        {"speed": "fast"},
        {"speed": True},
        {"temperature": 2.5},
        {"temperature": "x"},
        {"sample_rate": 7000},
        {"sample_rate": 8000.5},
        {"sample_rate": 10**300},
        {"speed": 10**300},
    ],
)
def test_server_refuses_an_invalid_request_and_accepts_the_next(fields: dict[str, object]) -> None:
    codec = Server()
    codec.receive('{"text":"first","voice":"v","request_id":"first"}')
    (failure,) = codec.receive(json.dumps({"text": "x", "voice": "v", "request_id": "bad", **fields}))
    assert isinstance(failure, Failure) and not failure.fatal and failure.status == 400
    (message,) = codec.send(failure)
    answer = json.loads(message)
    assert (answer["type"], answer["request_id"], answer["status"]) == ("error", "bad", 400)
    assert json.loads(codec.send(Flush())[0]) == {"type": "start", "request_id": "first"}


@pytest.mark.parametrize(("speed", "temperature", "rate"), [(0.5, 0, 8000), (2, 2, 48000), (1, 1, 24000)])
def test_server_accepts_the_bounds_of_every_range(speed: float, temperature: float, rate: int) -> None:
    codec = Server()
    fields = {"text": "x", "voice": "v", "speed": speed, "temperature": temperature, "sample_rate": rate}
    assert codec.receive(json.dumps(fields)) == [Text("x"), Flush()]
    assert (codec.speed, codec.temperature, codec.encoding.sample_rate) == (speed, temperature, rate)
    if temperature <= 1:
        assert client(speed=speed, temperature=temperature, sample_rate=rate).encoding.sample_rate == rate


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\x00",
        "",
        "{",
        "[]",
        '{"text":"x","voice":"v","request_id":true}',
        "{}",
        '{"text":"x","voice":"v","request_id":"' + "x" * 300 + '"}',
        '{"text":"x","voice":"v","request_id":' + "1" * 4000 + "}",
    ],
)
def test_server_refuses_an_invalid_message(message: Message) -> None:
    codec = Server()
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal
    assert json.loads(codec.send(failure)[0])["request_id"] is None


def test_server_limits_open_requests() -> None:
    codec = Server()
    events = [codec.receive('{"text":"x","voice":"v"}') for _ in range(1036)]
    refused = [event for answer in events for event in answer if isinstance(event, Failure)]
    assert len(refused) == 36 and refused[0].status == 429 and not refused[0].fatal
    assert codec.send(refused[0]) and codec.send(Flush())


def test_server_sends_a_fatal_failure_with_the_id_of_the_current_request() -> None:
    codec = Server()
    codec.receive('{"text":"x","voice":"v","request_id":"a"}')
    answer = json.loads(codec.send(Failure("playai", "no engine", "one", status=503, retry_after_seconds=2.0))[0])
    assert (answer["request_id"], answer["status"], answer["retry_after"]) == ("a", 503, 2.0)
    assert codec.send(Audio(b"x")) == []


def test_server_returns_end_once_for_a_close() -> None:
    codec = Server()
    codec.receive('{"text":"x","voice":"v","request_id":"a"}')
    assert codec.receive_close(1006) == [End()] and codec.receive_close(1006) == [] and codec.send(Audio(b"x")) == []


# --- client and server connected


@given(st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=4), st.data())
def test_text_and_audio_pass_both_codecs_unchanged(passages: list[list[str]], data: st.DataObject) -> None:
    here, there = client(), Server()
    heard: list[Event] = []
    for pieces in passages:
        sent = [message for piece in pieces for message in here.send(Text(piece))] + here.send(Flush())
        assert bool(sent) == bool("".join(pieces).strip())
        for message in sent:
            text, flush = there.receive(message)
            assert isinstance(text, Text) and text.text == "".join(pieces) and isinstance(flush, Flush)
            for event in (*map(Audio, data.draw(st.lists(st.binary(max_size=4), max_size=3))), Flush()):
                got = [event for answer in there.send(event) for event in here.receive(answer)]
                if isinstance(event, Audio):
                    assert b"".join(one.data for one in got if isinstance(one, Audio)) == event.data
                heard += [one for one in got if not isinstance(one, Audio)]
    spoken = sum(1 for pieces in passages if "".join(pieces).strip())
    assert heard == [Flush(f"r{number}") for number in range(1, spoken + 1)]
    assert here.send(End()) == [] and here.receive_timeout() == [End()]


def test_server_failure_ends_the_session_of_the_client() -> None:
    here, there = client(), Server()
    here.send(Text("x"))
    for event in there.receive(here.send(Flush())[0]):
        assert not isinstance(event, Failure)
    (message,) = there.send(Failure("playai", "an engine that broke", "sound", status=429, retry_after_seconds=3.0))
    (failure,) = here.receive(message)
    assert isinstance(failure, Failure) and failure.fatal and failure.retry_after_seconds == 3.0


scalars = st.sampled_from(["start", "end", "error", "r1", "r2", 200, 429, None, True, 1.5, "x", [], {}])
objects = st.dictionaries(
    st.sampled_from(["type", "request_id", "status", "error", "retry_after", "text", "voice", "output_format"]),
    scalars,
    max_size=5,
).map(json.dumps)
messages = st.lists(st.text() | st.binary() | objects, max_size=8)


@given(messages)
def test_no_sequence_of_messages_raises(received: list[Message]) -> None:
    here, there = asked("x", "y"), Server()
    here.send(End())
    events: list[Event] = []
    for message in received:
        events += here.receive(message)
        for event in there.receive(message):
            there.send(event)
    events += here.receive_close(1006)
    assert count_endings(events) == 1
    sound = {event.request_id for event in events if isinstance(event, Audio)}
    assert sound <= {"r1", "r2"}
