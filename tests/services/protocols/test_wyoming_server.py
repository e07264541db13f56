"""Tests of the server codec for Wyoming."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Flush, Text, Transcript
from agent.services.protocols.wyoming import Client, Settings
from agent.services.protocols.wyoming_event import decode_event, encode_event
from agent.services.protocols.wyoming_server import Describe, Ping, Server, encode_info, encode_pong
from agent.services.protocols.wyoming_transcription import Client as TranscriptionClient

FORMAT = {"rate": 16000, "width": 2, "channels": 1}


def received(codec: Server, type: str, payload: bytes = b"", **data: object) -> list[Any]:
    return list(codec.receive(encode_event(type, data, payload)))


def types(codec: Server, *events: Event) -> list[str]:
    return [decode_event(message).type for event in events for message in codec.send(event)]  # type: ignore[arg-type]


def test_questions_about_the_server_are_requests() -> None:
    codec = Server()
    assert received(codec, "describe") == [Describe()]
    assert received(codec, "ping", text="x") == [Ping("x")]
    assert decode_event(encode_pong(Ping("x"))).data == {"text": "x"}


def test_a_text_selects_its_voice() -> None:
    codec = Server()
    assert received(codec, "synthesize", text="One.", voice={"name": "a"}) == [Text("One."), Flush()]
    assert (codec.voice, codec.language) == ("a", "")
    received(codec, "synthesize-start", voice={"language": "de"})
    assert (codec.voice, codec.language) == ("", "de")


def test_a_streamed_text_is_not_spoken_again_as_a_whole() -> None:
    codec = Server()
    assert received(codec, "synthesize-start") == []
    assert received(codec, "synthesize-chunk", text="One.") == [Text("One.")]
    assert received(codec, "synthesize", text="One.") == []
    assert received(codec, "synthesize-stop") == [Flush()]
    assert types(codec, Audio(b"\0\0"), Flush()) == ["audio-start", "audio-chunk", "audio-stop", "synthesize-stopped"]
    assert received(codec, "synthesize", text="One.") == [Text("One."), Flush()]
    assert types(codec, Flush()) == ["audio-stop"]


def test_speech_has_the_format_of_its_chunks() -> None:
    codec = Server()
    assert received(codec, "audio-start", **FORMAT) == []
    assert received(codec, "audio-chunk", b"\0\0", **FORMAT | {"rate": 44100, "channels": 2}) == [Audio(b"\0\0", 44100)]
    assert codec.encoding == Encoding("raw", 44100, 2)
    assert received(codec, "audio-stop") == [End()]


def test_finals_are_streamed_and_repeated_as_one_text() -> None:
    codec = Server()
    sent = [decode_event(message) for event in (  # type: ignore[arg-type]
        Transcript("a", is_final=False), Transcript("a b", is_final=True), Transcript("c", is_final=True), End(),
    ) for message in codec.send(event)]  # fmt: skip
    assert [(event.type, event.data.get("text")) for event in sent] == [
        ("transcript-start", None),
        ("transcript-chunk", "a b"),
        ("transcript-chunk", " c"),
        ("transcript", "a b c"),
        ("transcript-stop", None),
    ]
    assert types(codec, End()) == ["transcript"]


@pytest.mark.parametrize(("type", "data"), [("synthesize", {}), ("synthesize-chunk", {"text": 1}), ("audio-start", {})])
def test_a_request_without_its_fields_is_a_failure(type: str, data: dict[str, object]) -> None:
    (failure,) = received(Server(), type, **data)
    assert isinstance(failure, Failure)


def test_the_clients_and_the_server_mirror_each_other() -> None:
    server, voice = Server(), Client(Settings(), "tcp://h")
    info = encode_info(tts=[{"name": "a", "supports_synthesize_streaming": True}], asr=[{"name": "b"}])
    voice.receive_opening(info)
    requests = [server.receive(each) for event in (Text("One."), End()) for each in voice.send(event)]  # type: ignore[arg-type]
    assert requests == [[], [Text("One.")], [Flush()]]
    answers = [
        event for sent in (Audio(b"\0\0"), Flush()) for each in server.send(sent) for event in voice.receive(each)
    ]
    assert answers == [Audio(b"\0\0", 22050), Flush(), End()]
    recognizer = TranscriptionClient("tcp://h")
    recognizer.receive_opening(info)
    speech = [server.receive(each) for event in (Audio(b"\0\0"), End()) for each in recognizer.send(event)]  # type: ignore[arg-type]
    assert speech == [[], [], [Audio(b"\0\0", 16000)], [End()]]
    sent = [each for event in (Transcript("a b", is_final=True), End()) for each in server.send(event)]
    assert [event for each in sent for event in recognizer.receive(each)][-2:] == [
        Transcript("a b", is_final=True),
        End(),
    ]


@given(
    st.sampled_from(["synthesize", "synthesize-start", "audio-start", "audio-chunk", "ping", "transcribe", "x"]),
    st.dictionaries(
        st.sampled_from(["text", "voice", "rate", "width", "channels"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"name": 1}),
    ),
)
@settings(max_examples=100, deadline=None)
def test_no_request_makes_the_codec_raise(type: str, data: dict[str, object]) -> None:
    Server().receive(encode_event(type, data))
