"""Tests of the client codec for detectors of wake words that speak Wyoming."""

from __future__ import annotations

import pytest
from support.codecs import is_fatal, send_all

from agent.services.protocols.codec import Audio, Detection, End, Event, Failure, Text
from agent.services.protocols.wyoming_event import WyomingEvent, decode_event, encode_event
from agent.services.protocols.wyoming_info import InfoError
from agent.services.protocols.wyoming_wake import Client

URL = "tcp://127.0.0.1:10400"
PROGRAMS = [
    {"name": "open", "models": [{"name": "alexa_v0.1"}, {"name": "ok_nabu_v0.1"}]},
    {"name": "micro", "models": [{"name": "hey_jarvis"}]},
]
SECOND = bytes(32000)


def client(*words: str) -> Client:
    codec = Client(URL, words or ("alexa_v0.1",))
    codec.receive_opening(encode_event("info", {"wake": PROGRAMS}))
    return codec


def sent(codec: Client, *events: Event) -> list[WyomingEvent]:
    return [decode_event(message if isinstance(message, bytes) else b"") for message in send_all(codec, *events)]


def test_the_first_frame_begins_one_endless_request() -> None:
    codec = client("alexa_v0.1", "ok_nabu_v0.1")
    detect, start, *chunks = sent(codec, Audio(SECOND), Audio(SECOND), Audio(b""), Text("no"))
    assert (detect.type, detect.data) == ("detect", {"names": ["alexa_v0.1", "ok_nabu_v0.1"]})
    assert (start.type, start.data["rate"]) == ("audio-start", 16000)
    assert [(each.type, each.data["timestamp"], each.payload) for each in chunks] == [
        ("audio-chunk", 0, SECOND),
        ("audio-chunk", 1000, SECOND),
    ]
    assert [each.type for each in sent(codec, End(), End(), Audio(SECOND))] == ["audio-stop"]
    assert sent(client(), End()) == []


def test_a_word_of_another_program_selects_it() -> None:
    assert [each.type for each in sent(client("hey_jarvis"), Audio(SECOND))][:2] == ["select-program", "detect"]


@pytest.mark.parametrize(
    ("words", "offers", "named"),
    [
        (("alexa",), {"wake": PROGRAMS}, "'alexa_v0.1', 'ok_nabu_v0.1', 'hey_jarvis'; expected 'alexa'"),
        (("alexa_v0.1", "hey_jarvis"), {"wake": PROGRAMS}, "expected 'alexa_v0.1', 'hey_jarvis'"),
        (("alexa",), {"asr": PROGRAMS}, "no wake words"),
    ],
)
def test_a_server_without_the_words_is_refused(words: tuple[str, ...], offers: dict[str, object], named: str) -> None:
    with pytest.raises(InfoError) as refused:
        Client(URL, words).receive_opening(encode_event("info", offers))
    assert refused.value.is_permanent and named in str(refused.value)


@pytest.mark.parametrize(
    ("data", "detection"),
    [
        ({"name": "alexa_v0.1", "timestamp": 1500}, Detection("alexa_v0.1", 1.5)),
        ({"name": "alexa_v0.1", "timestamp": 2_000_001}, Detection("alexa_v0.1")),  # the clock of the server
        ({"timestamp": -1}, Detection("")),
        ({"name": None, "timestamp": None}, Detection("")),
    ],
)
def test_a_detection_has_the_word_and_its_position(data: dict[str, object], detection: Detection) -> None:
    codec = client()
    send_all(codec, Audio(SECOND), Audio(SECOND))
    assert codec.receive(encode_event("detection", data)) == [detection]


def test_what_is_no_detection() -> None:
    codec = client()
    assert codec.receive(encode_event("not-detected")) == codec.receive(encode_event("pong")) == []
    assert is_fatal(codec.receive(encode_event("error", {"text": "out of memory"})))
    (refused,) = codec.receive(b"no event")
    assert isinstance(refused, Failure) and not refused.fatal


def test_the_connection_lasts_until_the_end_mark() -> None:
    codec = client()
    assert is_fatal(codec.receive_close(1000))
    send_all(codec, Audio(SECOND), End())
    assert codec.receive_close(1000) == [End()]
