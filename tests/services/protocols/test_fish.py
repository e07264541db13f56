"""Fish Audio: client and server compared with the messages of the page, then connected to each other, then fuzzed."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import count_endings, is_fatal, is_refused

from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Flush, Log, Message, Text, Transcript
from agent.services.protocols.fish import Client, Server, pack, unpack
from agent.services.protocols.fish_request import Reference

URL = "wss://api.fish.audio/v1/tts/live"
KEY = "fish-0123456789-KEY"
DOUBLE_0_7 = b"\xcb" + struct.pack(">d", 0.7)
DOUBLE_1 = b"\xcb" + struct.pack(">d", 1.0)

# Written by hand from the MessagePack specification: \x8N map of N, \xaN text of N, \x9N list of N, \xc4 binary.
START = (
    b"\x82\xa5event\xa5start\xa7request\x86"
    b"\xa4text\xa0\xa7latency\xa6normal\xa6format\xa4opus"
    b"\xabtemperature"
    + DOUBLE_0_7
    + b"\xa5top_p"
    + DOUBLE_0_7
    + b"\xa7prosody\x82\xa5speed"
    + DOUBLE_1
    + b"\xa6volume\x00"
)
TEXT = b"\x82\xa5event\xa4text\xa4text\xacHello world "
FLUSH = b"\x81\xa5event\xa5flush"
STOP = b"\x81\xa5event\xa4stop"
AUDIO = b"\x83\xa5event\xa5audio\xa5audio\xc4\x04\x00\x01\xff\x80\xa4time\xcb" + struct.pack(">d", 3.012)
FINISH = b"\x82\xa5event\xa6finish\xa6reason\xa4stop"
FINISH_ERROR = b"\x82\xa5event\xa6finish\xa6reason\xa5error"
LOG = b"\x82\xa5event\xa3log\xa7message\xabLog message"
SPACE = b"\x82\xa5event\xa4text\xa4text\xa1 "


def client(**options: object) -> Client:
    return Client(URL, KEY, **options)  # type: ignore[arg-type]


def speaking(*, stopped: bool = False) -> Client:
    codec = client()
    codec.send(Text("Hello"))
    if stopped:
        codec.send(End())
    return codec


def started(**request: object) -> Server:
    codec = Server()
    assert codec.receive(pack({"event": "start", "request": {"text": "", **request}})) == []
    return codec


# --- the client, compared with the page


def test_handshake_sends_key_and_model_as_headers() -> None:
    handshake = client(model="s1").handshake()
    assert handshake.url == URL
    assert dict(handshake.headers) == {"Authorization": f"Bearer {KEY}", "model": "s1"}
    assert dict(Client(URL, None).handshake().headers) == {"model": "speech-1.5"}


def test_send_encodes_an_utterance_as_on_the_page() -> None:
    codec = client(format="opus")
    assert codec.send(Text("Hello world ")) == [START, TEXT]
    assert codec.send(Flush()) == [FLUSH]
    assert codec.send(End()) == [STOP]
    assert codec.send(End()) == [] and codec.send(Text("x")) == [] and codec.send(Flush()) == []


def test_start_contains_every_field_of_the_page() -> None:
    codec = client(
        format="mp3",
        sample_rate=32000,
        latency="balanced",
        temperature=0.1,
        top_p=0.9,
        reference_id="MODEL",
        prosody={"speed": 1.5, "volume": -3},
        references=[{"audio": b"\x00\xffRIFF", "text": "said"}],
        debug=True,
    )
    begin = codec.send(Text("x"))[0]
    assert isinstance(begin, bytes) and b"\xa5audio\xc4\x06\x00\xffRIFF" in begin
    assert msgpack.unpackb(begin) == {
        "event": "start",
        "debug": True,
        "request": {
            "text": "",
            "latency": "balanced",
            "format": "mp3",
            "sample_rate": 32000,
            "temperature": 0.1,
            "top_p": 0.9,
            "prosody": {"speed": 1.5, "volume": -3},
            "reference_id": "MODEL",
            "references": [{"audio": b"\x00\xffRIFF", "text": "said"}],
        },
    }


def test_receive_decodes_audio_log_and_finish_of_the_page() -> None:
    codec = client()
    codec.send(Text("x"))
    codec.send(End())
    assert codec.receive(AUDIO) == [Audio(b"\x00\x01\xff\x80")]
    assert codec.receive(LOG) == [Log("Log message")]
    assert codec.receive(FINISH) == [End()]
    assert codec.receive_close(1000) == [] and codec.receive_close(1006) == [] and codec.receive_timeout() == []


def test_end_without_text_sends_start_and_stop() -> None:
    sent = [msgpack.unpackb(message)["event"] for message in client().send(End())]
    assert sent == ["start", "stop"]


def test_send_encodes_nothing_before_the_first_text() -> None:
    codec = client()
    for event in (Flush(), Text(""), Text(" \n"), Flush(), Audio(b"x"), Log("x"), Transcript("x", True)):
        assert codec.send(event) == []
    assert codec.receive_close(1006) == []


def test_send_separates_passages_and_not_pieces() -> None:
    codec = client()
    codec.send(Text("un"))
    assert codec.send(Text("divided")) == [pack({"event": "text", "text": "divided"})]
    assert codec.send(Flush()) == [SPACE, FLUSH]
    assert codec.send(Flush()) == []
    assert codec.send(Text(" ")) == []
    assert codec.send(Text("Two ")) == [pack({"event": "text", "text": "Two "})]
    assert codec.send(Flush()) == [FLUSH]
    assert codec.send(End()) == [STOP]


@pytest.mark.parametrize(
    ("name", "rate", "encoding"),
    [
        ("wav", None, Encoding("wav", 44100)),
        ("pcm", None, Encoding("raw", 44100)),
        ("pcm", 8000, Encoding("raw", 8000)),
        ("mp3", None, Encoding("mp3", 44100)),
        ("mp3", 32000, Encoding("mp3", 32000)),
        ("opus", None, Encoding("opus", 48000)),
        ("opus", 48000, Encoding("opus", 48000)),
    ],
)
def test_client_encoding_follows_format_and_sample_rate(name: str, rate: int | None, encoding: Encoding) -> None:
    assert client(format=name, sample_rate=rate).encoding == encoding
    assert ("sample_rate" in unpack(client(format=name, sample_rate=rate).send(End())[0])["request"]) == bool(rate)


@pytest.mark.parametrize(
    "options",
    [
        {"format": "flac"},
        {"format": ""},
        {"latency": "fast"},
        {"temperature": 1.1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 2},
        {"prosody": {"speed": 0.4}},
        {"prosody": {"speed": 2.1}},
        {"prosody": {"volume": -21}},
        {"prosody": {"volume": 21}},
        {"sample_rate": 22050},
        {"sample_rate": 48000},
        {"format": "opus", "sample_rate": 44100},
        {"format": "mp3", "sample_rate": 8000},
        {"model": "s1\r\nx: y"},
        {"references": [{"audio": "cGF0aA==", "text": "x"}]},
        {"references": [{"audio": b"x"}]},
        {"references": [{"audio": bytes(33 * 1024 * 1024), "text": "x"}]},
    ],
)
def test_client_raises_value_error_for_a_value_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="fish"):
        client(**options)


def test_client_does_not_show_an_invalid_key() -> None:
    with pytest.raises(ValueError) as caught:
        Client(URL, KEY + "\n")
    assert KEY not in str(caught.value)


def test_client_takes_several_passages_and_limits_its_idle_time() -> None:
    assert not client().is_single_use and client().max_idle_seconds == 240


def test_receive_does_not_redact_a_key_of_one_character() -> None:
    codec = Client(URL, "k")
    assert codec.receive(pack({"event": "log", "message": "ok"})) == [Log("ok")]


def test_receive_timeout_is_unset_before_end() -> None:
    codec = speaking()
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []
    codec.send(End())
    assert codec.receive_timeout_seconds is None and codec.receive_timeout() == []  # the owner limits the first audio
    codec.receive(AUDIO)
    assert codec.receive_timeout_seconds == 30
    assert is_fatal(codec.receive_timeout()) and codec.receive_timeout() == [] and codec.receive_timeout_seconds is None
    assert codec.receive_close(1006) == []


# --- errors of the service


def test_finish_with_an_error_is_a_fatal_failure_with_its_message() -> None:
    assert is_fatal(speaking().receive(FINISH_ERROR))
    (failure,) = speaking().receive(pack({"event": "finish", "reason": "error", "message": f"bad voice \x1b {KEY}"}))
    assert isinstance(failure, Failure) and failure.fatal and failure.service == "fish"
    assert "bad voice" in str(failure) and "\x1b" not in str(failure) and KEY not in str(failure)


@pytest.mark.parametrize("reason", ["", "length", None, 7, [], "STOP"])
def test_finish_with_an_unknown_reason_is_a_fatal_failure(reason: object) -> None:
    assert is_fatal(speaking(stopped=True).receive(pack({"event": "finish", "reason": reason})))


def test_finish_before_stop_is_a_fatal_failure() -> None:
    codec = speaking()
    events = codec.receive(FINISH)
    assert is_fatal(events) and "before stop was sent" in str(events[0])
    assert codec.send(End()) == [] and codec.receive_close(1000) == []


def test_receive_refuses_messages_after_finish() -> None:
    codec = speaking(stopped=True)
    codec.receive(FINISH)
    assert is_refused(codec.receive(AUDIO)) and is_refused(codec.receive(FINISH))


def test_receive_refuses_audio_before_start() -> None:
    assert is_refused(client().receive(AUDIO))


@pytest.mark.parametrize("code", [1000, 1005, 1006, 1011])
@pytest.mark.parametrize("stopped", [False, True])
def test_close_before_finish_is_a_fatal_failure(code: int, stopped: bool) -> None:
    codec = speaking(stopped=stopped)
    codec.receive(AUDIO)
    events = codec.receive_close(code, f"bye {KEY}\x1b")
    assert is_fatal(events) and str(code) in str(events[0])
    assert KEY not in repr(events) and "\x1b" not in str(events[0])
    assert codec.receive_close(code) == []


def test_receive_ignores_unknown_events() -> None:
    codec = speaking()
    assert codec.receive(pack({"event": "ping"})) == [] and codec.receive(pack({"event": "start"})) == []
    assert codec.receive(pack({"event": "audio", "audio": b""})) == []


NO_MESSAGES: list[Message] = [
    "",
    "text",
    '{"event":"audio"}',
    b"",
    b"\xc1",
    b"\x81",
    b"\x80",
    b"\x90",
    b"\xc0",
    b"\x01",
    b"\xa1x",
    FINISH + b"\x00",
    AUDIO + AUDIO,
    AUDIO[:-1],
    b"\xdd\x80\x00\x00\x00",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\x81\xa1a" * 100_000,
    b"\x81\xa1a" + b"\x91" * 2000,
    b"\x81\x01\x02",
    b"\x81\xc4\x05event\xa4stop",
    b"\x81\xa5event\xa2\xff\xfe",
    b"\x81\xa5event\x01",
    b"\xdc\xff\xff" + b"\xc0" * 65535,
    b"\xc7\x00\xff",
    b"\xd7\xff" + b"\xff" * 8,
    b"\x81\xc0\xc0",
    b"\x83\xa5event\xa5audio\xa5audio\xa4AAAA\xa4time\x00",
    b"\x82\xa5event\xa5audio\xa5audio\x91\x01",
    b"\x81\xa5event\xa5audio",
    b"\x82\xa5event\xa3log\xa7message\x07",
]


@pytest.mark.parametrize("message", NO_MESSAGES, ids=range(len(NO_MESSAGES)))
def test_receive_refuses_an_invalid_message(message: Message) -> None:
    for codec in (speaking(), started()):
        events = codec.receive(message)
        assert is_refused(events) and len(str(events[0])) < 500
    assert is_refused(client().receive(message))


def test_unpack_checks_the_size_first() -> None:
    assert unpack(bytes(33 * 1024 * 1024)) == "it is bigger than 32 MiB"
    assert unpack("x") == "it is a text message"


def test_events_and_repr_never_contain_the_key() -> None:
    codec = speaking()
    shown = repr(codec) + str(codec) + repr(codec.handshake()) + repr(Server(KEY))
    shown += repr(codec.receive(pack({"event": "log", "message": f"key {KEY}"})))
    shown += repr(codec.receive(f"key {KEY}")) + repr(codec.receive(KEY.encode()))
    shown += repr(Server(KEY).handshake("/v1/tts/live", {"authorization": f"Bearer x{KEY}"}))
    assert KEY not in shown


def test_send_replaces_lone_surrogates() -> None:
    codec = client(reference_id="a\udcff", references=[{"audio": b"x", "text": "\udcff"}])
    assert codec.send(Text("a\udcffb"))[1] == pack({"event": "text", "text": "a\ufffdb"})


# --- the server, compared with the page


def test_server_decodes_the_utterance_of_the_page() -> None:
    codec = Server()
    assert [codec.receive(message) for message in (START, TEXT, FLUSH, STOP)] == [
        [],
        [Text("Hello world ")],
        [Flush()],
        [End()],
    ]
    assert codec.encoding == Encoding("opus", 48000)
    assert codec.request is not None and codec.request.latency == "normal" and codec.request.temperature == 0.7
    assert (codec.speed, codec.voice, codec.debug) == (1.0, "", False)


def test_server_encodes_audio_and_finish_as_on_the_page() -> None:
    times = iter((1.0, 1.003012, 2.0))
    codec = Server(clock=lambda: next(times))
    codec.receive(START)
    (sound,) = codec.send(Audio(b"\x00\x01\xff\x80"))
    fields = unpack(sound)
    assert isinstance(fields, dict) and fields.pop("time") == pytest.approx(3.012)
    assert fields == {"event": "audio", "audio": b"\x00\x01\xff\x80"}
    assert isinstance(sound, bytes) and sound.startswith(AUDIO[:-8])
    assert codec.send(Flush()) == [] and codec.send(Audio(b"")) == [] and codec.send(Log("x")) == []
    assert codec.send(End()) == [FINISH]
    assert codec.send(End()) == [] and codec.send(Audio(b"x")) == []


def test_server_sends_log_only_with_debug() -> None:
    codec = Server()
    codec.receive(pack({"event": "start", "request": {"text": ""}, "debug": True}))
    assert codec.send(Log("Log message")) == [LOG]
    assert started(debug=True).send(Log("Log message")) == [LOG] and started().send(Log("Log message")) == []
    assert Server().send(Log("Log message")) == []


def test_server_encodes_a_fatal_failure_as_finish_once() -> None:
    codec = started()
    assert codec.send(Failure("fish", "junk", "sense", fatal=False)) == []
    assert codec.send(Failure("fish", "x", "y")) == [
        pack({"event": "finish", "reason": "error", "message": "got x; expected y"})
    ]
    assert codec.send(End()) == [] and is_refused(codec.receive(STOP))


def test_server_returns_the_text_of_start() -> None:
    codec = Server()
    assert codec.receive(pack({"event": "start", "request": {"text": "Hello "}})) == [Text("Hello ")]


def test_server_accepts_the_start_of_the_python_sdk() -> None:
    codec = started(
        chunk_length=200,
        format="pcm",
        sample_rate=None,
        mp3_bitrate=128,
        opus_bitrate=32,
        reference_id=None,
        references=[{"audio": b"RIFF", "text": "said"}],
        normalize=True,
        latency="balanced",
        prosody=None,
        top_p=0.7,
        temperature=0.7,
        max_new_tokens=1024,
        repetition_penalty=1.2,
        min_chunk_length=50,
        features=["quality-guard"],
        condition_on_previous_chunks=True,
        early_stop_threshold=1.0,
    )
    assert codec.encoding == Encoding("raw", 44100)
    assert codec.request is not None and codec.request.references == (Reference(b"RIFF", "said"),)
    assert "RIFF" not in repr(codec.request)


def test_server_fills_in_the_defaults_of_a_sparse_start() -> None:
    codec = started()
    assert codec.encoding == Encoding("mp3", 44100)
    listed = started(reference_id=["one", "two"], prosody={"speed": 2, "volume": 20}, format="wav", sample_rate=16000)
    assert listed.voice == "one" and listed.speed == 2 and listed.encoding == Encoding("wav", 16000)


@pytest.mark.parametrize(
    "request_fields",
    [
        None,
        7,
        [],
        {"format": "flac"},
        {"format": 1},
        {"format": "pcm", "sample_rate": 22050},
        {"sample_rate": 44100.0},
        {"sample_rate": []},
        {"latency": []},
        {"temperature": 1.5},
        {"temperature": True},
        {"temperature": "0.7"},
        {"top_p": float("nan")},
        {"prosody": 1},
        {"prosody": {"speed": 3}},
        {"prosody": {"volume": "loud"}},
        {"text": 1},
        {"reference_id": 1},
        {"reference_id": [1]},
        {"references": {}},
        {"references": [1]},
        {"references": [{}]},
        {"references": [{"audio": "x", "text": "x"}]},
        {"references": [{"audio": b"", "text": ""}] * 33},
    ],
)
def test_server_finishes_an_invalid_start_with_an_error(request_fields: object) -> None:
    codec = Server()
    (failure,) = codec.receive(pack({"event": "start", "request": request_fields}))
    assert isinstance(failure, Failure) and failure.fatal and failure.status == 400
    (message,) = codec.send(failure)
    fields = unpack(message)
    assert isinstance(fields, dict) and (fields["event"], fields["reason"]) == ("finish", "error")


@pytest.mark.parametrize("message", [TEXT, FLUSH, STOP])
def test_server_requires_start_first(message: bytes) -> None:
    codec = Server()
    assert is_fatal(codec.receive(message)) and is_refused(codec.receive(START))


def test_server_refuses_a_second_start() -> None:
    codec = started()
    assert is_fatal(codec.receive(START)) and is_refused(codec.receive(TEXT))


def test_server_takes_the_next_start_after_stop() -> None:
    codec = started()
    assert codec.receive(STOP) == [End()]
    assert not is_refused(codec.receive(START)) and codec.receive(STOP) == [End()]
    assert [unpack(message)["event"] for message in codec.send(Audio(b"1")) + codec.send(End())] == ["audio", "finish"]
    assert [unpack(message)["event"] for message in codec.send(Audio(b"2")) + codec.send(End())] == ["audio", "finish"]
    assert codec.send(Audio(b"3")) == codec.send(End()) == []


def test_server_refuses_messages_after_stop() -> None:
    codec = started()
    assert codec.receive(STOP) == [End()] and is_refused(codec.receive(STOP)) and codec.receive_close(1000) == []


def test_server_returns_end_for_a_close_without_stop() -> None:
    codec = started()
    assert codec.receive_close(1006) == [End()] and codec.receive_close(1006) == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/tts/live", {"Authorization": f"Bearer {KEY}", "model": "s1"}, None),
        ("/v1/tts/live?x=1", {"authorization": f"bearer {KEY}"}, None),
        ("/v1/tts/live", {"authorization": f"Bearer {KEY}x"}, 401),
        ("/v1/tts/live", {"authorization": KEY}, 401),
        ("/v1/tts/live", {}, 401),
        ("/v1/tts", {"authorization": f"Bearer {KEY}"}, 404),
        ("//[", {}, 404),
    ],
)
def test_server_handshake_requires_path_and_key(path: str, headers: dict[str, str], status: int | None) -> None:
    codec = Server(KEY)
    failure = codec.handshake(path, headers)
    assert (failure.status if failure else None) == status and (failure is None or failure.permanent)
    assert KEY not in repr(failure)
    if status is None:
        assert codec.model == headers.get("model", "speech-1.5")


# --- client and server connected


@given(st.lists(st.lists(st.text(max_size=8), max_size=4), max_size=4), st.lists(st.binary(max_size=6), max_size=5))
def test_text_and_audio_pass_both_codecs_unchanged(passages: list[list[str]], sound: list[bytes]) -> None:
    here, there = client(), Server()
    arrived: list[Event] = []
    for pieces in passages:
        for event in (*map(Text, pieces), Flush()):
            for message in here.send(event):
                arrived += there.receive(message)
    for message in here.send(End()):
        arrived += there.receive(message)
    spoken = ["".join(pieces) for pieces in passages if "".join(pieces).strip()]
    heard = "".join("\n" if isinstance(event, Flush) else event.text for event in arrived if not isinstance(event, End))
    assert arrived[-1] == End() and arrived.count(Flush()) == len(spoken)
    assert "".join(heard.split()) == "".join("".join(spoken).split())
    assert not any(isinstance(event, Failure) for event in arrived)
    answers = [message for event in (*map(Audio, sound), End()) for message in there.send(event)]
    events = [event for message in answers for event in here.receive(message)]
    assert events == [*(Audio(data) for data in sound if data), End()]


@given(st.lists(st.text(alphabet="ab c.", min_size=1), min_size=1, max_size=4))
def test_pieces_of_a_passage_arrive_unchanged(pieces: list[str]) -> None:
    here = client()
    sent = [unpack(message) for piece in pieces for message in here.send(Text(piece))]
    text = "".join(str(fields["text"]) for fields in sent if isinstance(fields, dict) and fields["event"] == "text")
    whole = "".join(pieces)
    assert whole.endswith(text) and not whole[: len(whole) - len(text)].strip()


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=5)
    | st.sampled_from(["audio", "finish", "log", "start", "text", "flush", "stop", "error", "pcm"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["text", "format", "prosody", "speed", "sample_rate"]), inner, max_size=3)
    ),
    max_leaves=6,
)
maps = st.dictionaries(
    st.sampled_from(["event", "audio", "reason", "message", "text", "request", "debug", "time"]),
    values,
    max_size=5,
).map(pack)


@given(st.lists(st.text() | st.binary() | maps | st.sampled_from([START, TEXT, AUDIO, STOP, FINISH]), max_size=8))
def test_no_sequence_of_messages_raises(received: list[Message]) -> None:
    here, there = speaking(), Server()
    events: list[Event] = []
    for number, message in enumerate(received):
        if number == 4:
            here.send(End())
        events += here.receive(message)
        for event in there.receive(message):
            there.send(event)
    events += here.receive_close(1006)
    assert count_endings(events) == 1
