"""Neuphonic's server: the messages of the SDKs, and client and server connected."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.codecs import receive_all

from agent.services.protocols.codec import Audio, Encoding, End, Failure, Flush, Text
from agent.services.protocols.neuphonic import Client, Server

KEY = "n-key-0123456789"


def server(path="/speak/en", headers=None, **more):
    codec = Server(**more)
    assert codec.handshake(path, headers or {}) is None
    return codec


# --- the handshake


def test_defaults_are_those_of_the_page():
    codec = server()
    assert codec.encoding == Encoding("raw", 22050) and codec.language == "en"
    assert (codec.speed, codec.temperature, codec.voice) == (1.0, 0.5, "")


@pytest.mark.parametrize(
    ("query", "rate"),
    [
        ("speed=1.05&temperature=0.5&model=neu_fast&sampling_rate=22050&encoding=pcm_linear&language_id=en", 22050),
        ("speed=1.05&lang_code=en&voice_id=v&sampling_rate=24000&encoding=pcm_linear", 24000),
        ("speed=1.0&lang_code=en&encoding=pcm_linear&sampling_rate=22050&voice_id=v", 22050),
        ("lang_code=en&sampling_rate=22050&api_key=" + KEY, 22050),
        ("speed=1.5", 22050),
    ],
)
def test_handshake_reads_the_queries_of_the_sdks(query, rate):
    codec = server("/speak/en?" + query)
    assert codec.encoding == Encoding("raw", rate) and codec.language == "en"


def test_handshake_reads_the_parameter_names_of_2024():
    codec = server("/speak/en?language_id=de&voice=anna&encoding=pcm_mulaw&sampling_rate=8000&speed=0.7&temperature=1")
    assert (codec.language, codec.voice, codec.speed, codec.temperature) == ("de", "anna", 0.7, 1.0)
    assert codec.encoding == Encoding("raw", 8000, 1, "mulaw")


@pytest.mark.parametrize(
    "query",
    ["speed=3", "speed=x", "speed=nan", "temperature=1.5", "sampling_rate=1", "encoding=flac", "output_format=mp3"],
)
def test_handshake_refuses_and_names_a_parameter_out_of_range(query):
    failure = Server().handshake("/speak/en?" + query, {})
    assert failure is not None and failure.status == 400 and query.split("=")[0] in failure.expected


def test_handshake_accepts_the_key_in_header_or_query():
    assert Server(KEY).handshake("/speak/en", {"X-API-Key": KEY}) is None
    assert Server(KEY).handshake("/speak/en?api_key=" + KEY, {}) is None


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}, {"x-api-key": ""}, {"authorization": KEY}])
def test_handshake_refuses_a_wrong_key_and_hides_it(headers):
    failure = Server(KEY).handshake("/speak/en", headers)
    assert failure is not None and failure.status == 403 and failure.permanent
    assert KEY not in repr(failure) and "wrong'" not in repr(failure)


@pytest.mark.parametrize("path", ["/", "/speak", "/speak/", "/speak/../x", "/speak/en/de", "/x/en", "", "//["])
def test_handshake_refuses_another_path(path):
    failure = Server().handshake(path, {})
    assert failure is not None and failure.status == 404


# --- receiving


def test_receive_decodes_the_examples_of_the_page():
    assert receive_all(server(), '{"text": "Hello, "}', '{"text": "World!"}', '{"text": "<STOP>"}') == [
        Text("Hello, "),
        Text("World!"),
        Flush(),
    ]
    assert receive_all(server(), '{"text": "Hello, World! <STOP>"}') == [Text("Hello, World! "), Flush()]


def test_receive_accepts_bare_text_and_json_on_one_connection():
    assert receive_all(server(), "Hello world.", '{"text": " <STOP>"}', "Again. <STOP>") == [
        Text("Hello world."),
        Text(" "),
        Flush(),
        Text("Again. "),
        Flush(),
    ]


def test_receive_reads_a_json_scalar_as_bare_text():
    assert receive_all(server(), "5", '"quoted"', "[1]") == [Text("5"), Text('"quoted"'), Text("[1]")]


def test_every_stop_returns_a_flush():
    assert receive_all(server(), '{"text": "a <STOP>"}', '{"text": "<STOP>"}', "<STOP><STOP>") == [
        Text("a "),
        Flush(),
        Flush(),
        Flush(),
        Flush(),
    ]


def test_stop_split_over_messages_is_found():
    assert receive_all(server(), "One <ST", "OP> two <", "b <stop> ", "<STOP>") == [
        Text("One "),
        Flush(),
        Text(" two "),
        Text("<b <stop> "),
        Flush(),
    ]


def test_receive_ignores_the_keepalive_of_pipecat():
    assert receive_all(server(), '{"text": ""}', "") == []


def test_context_id_is_echoed_with_its_passage():
    codec = server()
    events = receive_all(codec, '{"text": "a <STOP>", "context_id": "c1"}', '{"text": "b <STOP>", "context_id": "c2"}')
    assert events == [Text("a ", "c1"), Flush("c1"), Text("b ", "c2"), Flush("c2")]
    sent = [codec.send(event)[0] for event in (Audio(b"a"), Flush(), Audio(b"b"), Flush())]
    assert [json.loads(message)["data"]["context_id"] for message in sent] == ["c1", "c1", "c2", "c2"]


@pytest.mark.parametrize("stop", [('{"text": "<STOP>"}',), ('{"text": " <ST"}', '{"text": "OP>"}'), ("<STOP>",)])
def test_stop_without_a_context_ends_the_passage_of_its_text(stop):
    codec = server()
    events = receive_all(codec, '{"text": "a", "context_id": "c"}', *stop, '{"text": "b <STOP>"}')
    assert {event.request_id for event in events[:-2]} == {"c"}
    assert events[-2:] == [Text("b "), Flush()]
    sent = [json.loads(codec.send(event)[0])["data"] for event in (Audio(b"a"), Flush(), Flush())]
    assert [data.get("context_id") for data in sent] == ["c", "c", None]


@pytest.mark.parametrize("message", [b"text", "{", '{"text": 5}', '{"txt": "a"}', "{" + '"a":' * 5, "x" * (9 << 20)])
def test_receive_refuses_an_invalid_message(message):
    (failure,) = server().receive(message)
    assert isinstance(failure, Failure) and not failure.fatal and failure.received and failure.expected


def test_server_limits_open_passages():
    codec = server()
    for _ in range(30):
        events = codec.receive("<STOP>" * 100)
    assert [type(event) for event in events] == [Failure] and events[0].fatal


# --- sending


def test_message_has_the_fields_of_the_page_and_of_the_sdks():
    codec = server(timestamp=lambda: "2024-07-15T11:59:27.619054")
    codec.send(Text("Hello "))
    (message,) = codec.send(Audio(b"Hello!"))
    assert json.loads(message) == {
        "version": "1.0.0",
        "timestamp": "2024-07-15T11:59:27.619054",
        "data": {"audio": "SGVsbG8h", "text": "Hello ", "sampling_rate": 22050, "stop": False},
    }


def test_flush_encodes_a_stop_without_audio():
    (message,) = server("/speak/en?sampling_rate=8000").send(Flush())
    assert json.loads(message)["data"] == {"audio": "", "text": "", "sampling_rate": 8000, "stop": True}


def test_server_without_stop_flags_sends_the_fields_of_the_page_only():
    codec = server(stop_flags=False, timestamp=lambda: "t")
    (message,) = codec.send(Audio(b"ab"))
    assert json.loads(message) == {"version": "1.0.0", "timestamp": "t", "data": {"audio": "YWI=", "text": ""}}
    assert codec.send(Flush()) == [] and codec.send(End()) == []


def test_send_encodes_failures_and_ignores_end_and_empty_audio():
    codec = server()
    assert codec.send(End()) == [] and codec.send(Audio(b"")) == []
    (message,) = codec.send(Failure("neuphonic", "junk", "text", status=400))
    assert json.loads(message) == {"type": "error", "message": "junk; expected text", "status_code": 400}


def test_close_returns_end_once():
    codec = server()
    assert codec.receive_close(1006) == [End()] and codec.receive_close(1006) == []


# --- client and server connected


def talk(pieces, **more):
    client = Client("ws://127.0.0.1/speak/de", KEY, speed=2.0, sampling_rate=16000, voice="v")
    codec = Server(KEY, **more)
    handshake = client.handshake()
    assert codec.handshake(handshake.url.removeprefix("ws://127.0.0.1"), handshake.headers) is None
    events = []
    for event in pieces:
        for message in client.send(event):
            events += codec.receive(message)
    return client, codec, events


def test_server_reads_the_query_of_the_client():
    client, codec, _ = talk([])
    assert codec.encoding == client.encoding == Encoding("raw", 16000)
    assert (codec.speed, codec.voice, codec.language) == (2.0, "v", "de")


@given(st.lists(st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=6), max_size=6))
def test_text_passes_both_codecs_with_one_flush(pieces):
    _, _, events = talk([*map(Text, pieces), Flush(), End()])
    text = "".join(pieces)
    assert "".join(event.text for event in events if isinstance(event, Text)) == (text if text.strip() else "")
    assert sum(isinstance(event, Flush) for event in events) == 1


@given(st.lists(st.text("<STOP> ab", min_size=1, max_size=9), min_size=1, max_size=8))
def test_text_with_stops_creates_no_extra_passage(pieces):
    _, _, events = talk([Text("x"), *map(Text, pieces), Flush(), Text("y"), End()])
    assert sum(isinstance(event, Flush) for event in events) == 2


@given(st.lists(st.binary(max_size=9), max_size=9))
def test_audio_passes_both_codecs_unchanged(chunks):
    client, codec, _ = talk([Text("a"), End()])
    events = []
    for event in [*map(Audio, chunks), Flush(), End()]:
        for message in codec.send(event):
            events += client.receive(message)
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == b"".join(chunks)
    assert events[-2:] == [Flush(), End()]


@given(st.text(), st.dictionaries(st.text(), st.text()))
def test_handshake_never_raises(path, headers):
    assert isinstance(Server(KEY).handshake(path, headers), Failure)
    assert isinstance(Server().handshake("/speak/en?speed=" + path, headers), Failure | None)


def test_audio_is_standard_base64():
    (message,) = server().send(Audio(bytes(range(256))))
    assert base64.b64decode(json.loads(message)["data"]["audio"]) == bytes(range(256))
