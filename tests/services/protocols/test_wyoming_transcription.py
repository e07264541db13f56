"""Tests of the client codec for recognizers that speak Wyoming."""

from __future__ import annotations

from typing import Any

import pytest
from support.codecs import is_fatal, is_refused, receive_all, send_all

from agent.services.protocols.codec import Audio, EarlyFinal, End, Event, Failure, Flush, Log, Transcript
from agent.services.protocols.wyoming_event import decode_event, encode_event
from agent.services.protocols.wyoming_info import InfoError
from agent.services.protocols.wyoming_transcription import CHUNK_BYTES, Client

URL = "tcp://127.0.0.1"
FORMAT = {"rate": 16000, "width": 2, "channels": 1}
PROGRAMS = [
    {"name": "small", "models": [{"name": "tiny", "languages": ["en"]}]},
    {"name": "big", "models": [{"name": "large", "languages": ["en", "de"]}]},
]
TRANSCRIPT = encode_event("transcript", {"text": " Turn it off. "})


def client(model: str = "", language: str = "") -> Client:
    codec = Client(URL, model, language)
    codec.receive_opening(encode_event("info", {"asr": PROGRAMS}))
    return codec


def sent(codec: Client, *events: Event) -> list[tuple[str, dict[str, Any]]]:
    decoded = [decode_event(message) for message in send_all(codec, *events) if isinstance(message, bytes)]
    return [(event.type, dict(event.data)) for event in decoded]


def test_audio_follows_the_request_in_chunks_and_the_first_end_ends_it() -> None:
    codec = client()
    start = {**FORMAT, "timestamp": 0}
    assert sent(codec, Audio(bytes(CHUNK_BYTES + 2)), Flush(), EarlyFinal(), End(), End()) == [
        ("transcribe", {}),
        ("audio-start", start),
        ("audio-chunk", FORMAT),
        ("audio-chunk", FORMAT),
        ("audio-stop", {}),
    ]
    assert sent(codec, Audio(bytes(2))) == []


def test_the_transcript_after_the_end_mark_is_final_and_ends_the_session() -> None:
    codec = client()
    send_all(codec, Audio(bytes(2)), End())
    assert receive_all(codec, TRANSCRIPT, TRANSCRIPT) == [Transcript("Turn it off.", is_final=True), End()]
    assert codec.has_final_after_eof and codec.message_count == 1
    assert codec.receive_close(1000) == []


def test_a_streamed_transcript_is_partial_until_the_whole_text() -> None:
    codec = client()
    send_all(codec, Audio(bytes(2)), End())
    pieces = [encode_event("transcript-chunk", {"text": piece}) for piece in ("Turn ", "it off.")]
    assert receive_all(codec, encode_event("transcript-start"), *pieces) == [
        Transcript("Turn", is_final=False),
        Transcript("Turn it off.", is_final=False),
    ]
    assert receive_all(codec, encode_event("transcript-stop")) == [Transcript("Turn it off.", is_final=True), End()]


def test_a_transcript_before_the_end_mark_counts_and_the_close_after_it_ends_the_session() -> None:
    codec = client()
    send_all(codec, Audio(bytes(2)))
    assert receive_all(codec, TRANSCRIPT) == [Transcript("Turn it off.", is_final=True)]
    send_all(codec, End())
    assert codec.receive_close(1000) == [End()]


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_close_without_a_transcript_is_a_failure(has_ended: bool) -> None:
    codec = client()
    send_all(codec, Audio(bytes(2)), *([End()] if has_ended else []))
    assert is_fatal(codec.receive_close(1006))


def test_a_session_without_audio_sends_nothing_and_ends_with_the_close() -> None:
    codec = client()
    assert sent(codec, End()) == []
    assert codec.receive_close(1000) == [End()]


def test_model_and_language_are_part_of_the_request_and_select_the_program() -> None:
    assert sent(client("large", "de"), Audio(bytes(2)))[:2] == [
        ("select-program", {"name": "big"}),
        ("transcribe", {"name": "large", "language": "de"}),
    ]
    assert sent(client(language="en"), Audio(bytes(2)))[0] == ("transcribe", {"language": "en"})


@pytest.mark.parametrize(
    ("model", "language", "named"),
    [("huge", "", "'tiny', 'large'"), ("", "fr", "'en', 'de'"), ("tiny", "de", "'en'")],
)
def test_a_server_without_the_model_or_language_names_what_it_has(model: str, language: str, named: str) -> None:
    with pytest.raises(InfoError, match=named) as refused:
        Client(URL, model, language).receive_opening(encode_event("info", {"asr": PROGRAMS}))
    assert refused.value.is_permanent


def test_a_server_that_only_speaks_is_refused() -> None:
    with pytest.raises(InfoError, match="no speech recognizer"):
        Client(URL).receive_opening(encode_event("info", {"tts": PROGRAMS}))


def test_an_error_event_ends_the_session() -> None:
    codec = client()
    send_all(codec, Audio(bytes(2)), End())
    assert is_fatal(codec.receive(encode_event("error", {"text": "out of memory"})))
    assert codec.receive(TRANSCRIPT) == []


def test_other_messages_are_logged_refused_or_ignored() -> None:
    codec = client()
    assert receive_all(codec, encode_event("voice-started"), encode_event("played")) == [Log("played")]
    assert is_refused(codec.receive(encode_event("transcript", {"text": 1})))
    assert is_refused(codec.receive(b"{}\n"))
    assert isinstance(codec.receive("x")[0], Failure)
