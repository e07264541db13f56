"""Tests of the client codec for speech servers that speak Wyoming."""

from __future__ import annotations

from typing import Any

import pytest
from support.codecs import is_fatal, receive_all, send_all

from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Flush, Log, Message, Text
from agent.services.protocols.wyoming import Client, Settings, check, with_port
from agent.services.protocols.wyoming_event import WyomingEvent, decode_event, encode_event
from agent.services.protocols.wyoming_info import InfoError

URL = "tcp://127.0.0.1:10200"
FORMAT = {"rate": 22050, "width": 2, "channels": 1}
START, STOP, STOPPED = (
    encode_event("audio-start", FORMAT),
    encode_event("audio-stop"),
    encode_event("synthesize-stopped"),
)
CHUNK = encode_event("audio-chunk", FORMAT, b"\1\0" * 4)
VOICES = [{"name": "joe", "languages": ["en_US"]}, {"name": "eva", "languages": ["de_DE"]}]


def info(*, streams: bool, voices: list[dict[str, Any]] | None = None) -> bytes:
    program = {
        "name": "piper",
        "supports_synthesize_streaming": streams,
        "voices": VOICES if voices is None else voices,
    }
    return encode_event("info", {"tts": [program]})


def client(*, streams: bool = True, **settings: str) -> Client:
    codec = Client(Settings(**settings), URL)
    assert list(map(decode_event, codec.opening())) == [WyomingEvent("describe", {}, b"")]  # type: ignore[arg-type]
    codec.receive_opening(info(streams=streams))
    return codec


def sent(codec: Client, *events: Event) -> list[tuple[str, object]]:
    decoded = [decode_event(message) for message in send_all(codec, *events) if isinstance(message, bytes)]
    return [(event.type, dict(event.data)) for event in decoded]


def test_a_server_that_streams_gets_each_passage_as_a_stream() -> None:
    codec = client()
    assert sent(codec, Text("One. "), Text("Two."), Flush()) == [
        ("synthesize-start", {}),
        ("synthesize-chunk", {"text": "One. "}),
        ("synthesize-chunk", {"text": "Two."}),
        ("synthesize-stop", {}),
    ]
    assert receive_all(codec, START, CHUNK, STOP, START, CHUNK, STOP, STOPPED) == [
        Audio(b"\1\0" * 4, 22050),
        Audio(b"\1\0" * 4, 22050),
        Flush(),
    ]
    assert codec.encoding == Encoding("raw", 22050)


def test_another_server_gets_each_passage_as_one_request() -> None:
    codec = client(streams=False)
    assert sent(codec, Text("One. "), Text("Two."), Flush()) == [("synthesize", {"text": "One. Two."})]
    assert receive_all(codec, START, CHUNK, STOP) == [Audio(b"\1\0" * 4, 22050), Flush()]


@pytest.mark.parametrize("streams", [True, False])
def test_the_first_end_completes_the_passage_and_a_second_one_is_nothing(streams: bool) -> None:
    codec = client(streams=streams)
    assert sent(codec, Text("One."), End())[-1][0] == ("synthesize-stop" if streams else "synthesize")
    assert sent(codec, End(), Text("Two."), Flush()) == []
    assert receive_all(codec, START, CHUNK, STOPPED if streams else STOP) == [Audio(b"\1\0" * 4, 22050), Flush(), End()]
    assert codec.receive_close(1000) == []


@pytest.mark.parametrize("streams", [True, False])
def test_a_passage_of_white_space_is_not_sent(streams: bool) -> None:
    codec = client(streams=streams)
    assert sent(codec, Text(" "), Text("\n"), Flush()) == []
    messages = sent(codec, Text("\n"), Text("One."), End())
    assert "".join(str(data.get("text", "")) for _, data in messages) == "\nOne."  # type: ignore[attr-defined]
    assert receive_all(codec, STOPPED if streams else STOP) == [Flush(), End()]


def test_an_end_without_text_is_nothing() -> None:
    codec = client()
    assert sent(codec, End()) == []
    assert codec.receive_close(1000) == []


@pytest.mark.parametrize(
    ("settings", "voice"),
    [
        ({"voice": "eva"}, {"name": "eva"}),
        ({"voice": "eva", "speaker": "2"}, {"name": "eva", "speaker": "2"}),
        ({"language": "de"}, {"name": "eva"}),
    ],
)
def test_the_voice_is_part_of_the_request(settings: dict[str, str], voice: dict[str, str]) -> None:
    assert sent(client(**settings), Text("A."))[0] == ("synthesize-start", {"voice": voice})
    assert sent(client(streams=False, **settings), Text("A."), Flush())[0][1] == {"text": "A.", "voice": voice}


def test_a_voice_of_another_program_selects_that_program_once() -> None:
    programs = [{"name": "a", "voices": [{"name": "x"}]}, {"name": "b", "voices": [{"name": "y"}]}]
    codec = Client(Settings(voice="y"), URL)
    codec.receive_opening(encode_event("info", {"tts": programs}))
    assert [name for name, _ in sent(codec, Text("A."), Flush(), Text("B."), Flush())] == [
        "select-program",
        "synthesize",
        "synthesize",
    ]


@pytest.mark.parametrize(
    ("settings", "offers", "named"),
    [
        ({"voice": "bob"}, {}, "'joe', 'eva'"),
        ({"language": "xx"}, {}, "'en_US', 'de_DE'"),
        ({}, {"tts": []}, "no speech program"),
        ({}, {"asr": [{"name": "whisper"}]}, "no speech program"),
    ],
)
def test_a_server_without_the_voice_is_refused_and_names_what_it_has(
    settings: dict[str, str], offers: dict[str, Any], named: str
) -> None:
    message = encode_event("info", offers) if offers else info(streams=True)
    with pytest.raises(InfoError, match=named) as refused:
        Client(Settings(**settings), URL).receive_opening(message)
    assert refused.value.is_permanent


def test_a_server_without_a_list_of_voices_accepts_any_voice() -> None:
    codec = Client(Settings(voice="bob"), URL)
    codec.receive_opening(info(streams=True, voices=[]))
    assert sent(codec, Text("A."))[0][1] == {"voice": {"name": "bob"}}


def test_stereo_and_its_rate_are_taken_from_the_server() -> None:
    codec = client()
    send_all(codec, Text("A."), Flush())
    stereo = {"rate": 48000, "width": 2, "channels": 2}
    events = receive_all(codec, encode_event("audio-start", stereo), encode_event("audio-chunk", stereo, b"\0" * 4))
    assert (events, codec.encoding) == ([Audio(bytes(4), 48000)], Encoding("raw", 48000, 2))


@pytest.mark.parametrize("change", [{"width": 4}, {"width": None}, {"channels": 6}, {"rate": 0}, {"rate": "x"}])
def test_audio_in_another_format_ends_the_session(change: dict[str, object]) -> None:
    codec = client()
    send_all(codec, Text("A."), Flush())
    assert is_fatal(codec.receive(encode_event("audio-start", {**FORMAT, **change})))


def test_an_error_event_ends_the_session_with_its_text() -> None:
    codec = client()
    send_all(codec, Text("A."), Flush())
    (failure,) = codec.receive(encode_event("error", {"text": "no\x1b model", "code": "ValueError"}))
    assert isinstance(failure, Failure) and failure.fatal
    assert failure.received == r"the error 'no\x1b model' ('ValueError')"
    assert codec.receive(CHUNK) == []


def test_other_events_are_logged_or_ignored() -> None:
    codec = client()
    assert receive_all(codec, encode_event("pong"), encode_event("played")) == [Log("played")]
    (failure,) = codec.receive(b"{}\n")
    assert isinstance(failure, Failure) and not failure.fatal


@pytest.mark.parametrize(("owes", "code"), [(True, 1000), (False, 1006)])
def test_a_close_before_the_end_is_a_failure(owes: bool, code: int) -> None:
    codec = client()
    send_all(codec, Text("A."), *([Flush()] if owes else []))
    (failure,) = codec.receive_close(code)
    assert isinstance(failure, Failure) and failure.fatal and failure.is_end_missing is owes
    assert codec.receive_close(code) == []


def test_a_url_without_a_port_gets_the_default_one() -> None:
    assert with_port("tcp://piper.local") == "tcp://piper.local:10300"
    assert with_port("tcp://[fe80::1]:5") == "tcp://[fe80::1]:5"


def test_a_speaker_needs_a_voice() -> None:
    assert [finding.key for finding in check(Settings(speaker="2"))] == ["speaker"]
    assert list(check(Settings(speaker="2", voice="x"))) == []


def test_no_message_makes_the_codec_raise() -> None:
    messages: list[Message] = [b"", "text", "{}", b'{"type": "audio-chunk", "data": {"rate": true}}\n', CHUNK, STOP]
    codec = client()
    for message in messages:
        codec.receive(message)
