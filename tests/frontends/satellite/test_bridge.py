"""Tests of the satellite without sockets."""

from __future__ import annotations

from typing import Any

import pytest

from agent.frontends.satellite.bridge import ANNOUNCEMENT, MAX_AUDIO_BYTES, Action, Bridge, CloseConnection, Say, Send
from agent.services.protocols.wyoming_event import WyomingEvent, decode_event

ASSISTANT, RECOGNIZER, RESPONDER, VOICE = 1, 2, 3, 4
CHUNK = b"\1\0" * 8


def described(actions: list[Action]) -> list[Any]:
    """Return the actions as (connection, type, data), ("close", connection) or ("say", text)."""
    short: list[Any] = []
    for action in actions:
        if isinstance(action, Send):
            event = decode_event(action.message)
            short.append((action.connection, event.type, dict(event.data)))
        elif isinstance(action, CloseConnection):
            short.append(("close", action.connection))
        else:
            short.append(("say", action.text))
    return short


class Table:
    """A bridge with Home Assistant connected."""

    def __init__(self, *, is_connected: bool = True) -> None:
        self.bridge = Bridge("device", "Kitchen", "1", ("okay_nabu",))
        if is_connected:
            assert self.send(ASSISTANT, "run-satellite") == []

    def send(self, connection: int, type: str, payload: bytes = b"", **data: object) -> list[Any]:
        return described(self.bridge.receive(connection, WyomingEvent(type, data, payload), is_local=connection > 1))

    def begin(self) -> None:
        self.send(RECOGNIZER, "transcribe")
        self.send(RECOGNIZER, "audio-stop")
        self.send(ASSISTANT, "transcript", text="turn it off")


RUN = {"start_stage": "asr", "end_stage": "tts", "restart_on_end": False}


def test_the_info_describes_the_satellite_and_its_wake_words() -> None:
    ((_, type, data),) = Table().send(ASSISTANT, "describe")
    assert type == "info"
    assert (data["satellite"]["name"], data["satellite"]["area"]) == ("device", "Kitchen")
    assert data["wake"][0]["models"][0]["name"] == "okay_nabu"


def test_a_ping_is_answered() -> None:
    assert Table().send(ASSISTANT, "ping", text="x") == [(ASSISTANT, "pong", {"text": "x"})]


def test_speech_runs_a_pipeline_with_its_audio() -> None:
    table = Table()
    table.bridge.handle_woken("okay_nabu")
    assert table.send(RECOGNIZER, "transcribe") == [
        (ASSISTANT, "detection", {"name": "okay_nabu"}),
        (ASSISTANT, "run-pipeline", RUN | {"wake_word_name": "okay_nabu"}),
        (ASSISTANT, "streaming-started", {}),
    ]
    assert table.send(RECOGNIZER, "audio-chunk", CHUNK, rate=16000) == [(ASSISTANT, "audio-chunk", {"rate": 16000})]
    assert [type for _, type, _ in table.send(RECOGNIZER, "audio-stop")] == ["audio-stop", "streaming-stopped"]
    assert table.send(ASSISTANT, "transcript", text="a b") == [(RECOGNIZER, "transcript", {"text": "a b"})]
    assert table.send(RECOGNIZER, "transcribe")[0] == (ASSISTANT, "run-pipeline", RUN)  # without a wake word


def test_a_wake_word_that_is_reported_after_its_speech_has_begun_is_sent_at_once() -> None:
    table = Table()
    table.send(RECOGNIZER, "transcribe")
    assert described(table.bridge.handle_woken("okay_nabu")) == [(ASSISTANT, "detection", {"name": "okay_nabu"})]
    table.send(ASSISTANT, "transcript", text="a")
    assert table.bridge.handle_woken("okay_nabu") == []
    assert table.send(RECOGNIZER, "transcribe")[0] == (ASSISTANT, "detection", {"name": "okay_nabu"})


def test_speech_that_home_assistant_ends_gets_no_more_audio() -> None:
    table = Table()
    table.send(RECOGNIZER, "transcribe")
    assert table.send(ASSISTANT, "transcript", text="a") == [(RECOGNIZER, "transcript", {"text": "a"})]
    assert table.send(RECOGNIZER, "audio-chunk", CHUNK) == []
    assert table.send(RECOGNIZER, "audio-stop") == [(ASSISTANT, "streaming-stopped", {}), ("close", RECOGNIZER)]


@pytest.mark.parametrize("asks_first", [True, False])
def test_the_reply_goes_to_the_responder_that_asks_before_or_after_it(asks_first: bool) -> None:
    table = Table()
    table.begin()
    steps = [(RESPONDER, "transcript", "turn it off"), (ASSISTANT, "synthesize", "It is off.")]
    results = [table.send(who, type, text=text) for who, type, text in (steps if asks_first else steps[::-1])]
    assert results == [[], [(RESPONDER, "handled", {"text": "It is off."})]]


def test_the_audio_goes_to_the_voice_that_speaks_the_reply_and_played_follows() -> None:
    table = Table()
    table.begin()
    table.send(ASSISTANT, "synthesize", text="It is *off*. Good night.")
    assert table.send(ASSISTANT, "audio-start", rate=16000) == []
    assert table.send(VOICE, "synthesize", text="It is off.") == [(VOICE, "audio-start", {"rate": 16000})]
    assert table.send(ASSISTANT, "audio-chunk", CHUNK) == [(VOICE, "audio-chunk", {})]
    assert table.send(VOICE, "synthesize", text="Good night.") == []
    assert table.send(ASSISTANT, "audio-stop") == [(VOICE, "audio-stop", {}), (VOICE, "audio-stop", {})]
    assert described(table.bridge.handle_played()) == [(ASSISTANT, "played", {})]
    assert described(table.bridge.handle_played()) == []


def test_audio_without_a_pipeline_is_an_announcement() -> None:
    table = Table()
    text = f"{ANNOUNCEMENT} 1"
    assert table.send(ASSISTANT, "audio-start") == [("say", text)]
    table.send(ASSISTANT, "audio-chunk", CHUNK)
    table.send(ASSISTANT, "audio-stop")
    assert [type for _, type, _ in table.send(VOICE, "synthesize", text=text)] == [
        "audio-start",
        "audio-chunk",
        "audio-stop",
    ]
    assert described(table.bridge.handle_played()) == [(ASSISTANT, "played", {})]
    assert table.send(ASSISTANT, "audio-start") == [("say", f"{ANNOUNCEMENT} 2")]


def test_an_announcement_that_waits_keeps_its_audio_while_a_question_is_answered() -> None:
    table = Table()
    table.send(ASSISTANT, "audio-start")
    table.send(ASSISTANT, "audio-stop")
    table.begin()
    table.send(ASSISTANT, "synthesize", text="It is off.")
    table.send(ASSISTANT, "audio-start")
    table.send(ASSISTANT, "audio-stop")
    assert [type for _, type, _ in table.send(VOICE, "synthesize", text="It is off.")] == ["audio-start", "audio-stop"]
    table.bridge.handle_played()
    answer = table.send(VOICE, "synthesize", text=f"{ANNOUNCEMENT} 1")
    assert [type for _, type, _ in answer] == ["audio-start", "audio-stop"]
    assert described(table.bridge.handle_played()) == [(ASSISTANT, "played", {})]


def test_a_text_that_is_not_from_home_assistant_is_refused() -> None:
    table = Table()
    ((_, type, _),) = table.send(VOICE, "synthesize", text="Hello.")
    assert type == "error"
    table.begin()
    table.send(ASSISTANT, "synthesize", text="It is off.")
    assert table.send(VOICE, "synthesize", text="Hello.")[0][1] == "error"


def test_an_error_of_the_pipeline_is_a_transcript_without_words_and_then_no_reply() -> None:
    table = Table()
    table.send(RECOGNIZER, "transcribe")
    assert table.send(ASSISTANT, "error", text="no text recognized", code="stt-no-text-recognized") == [
        (RECOGNIZER, "transcript", {"text": ""})
    ]
    table.begin()
    assert table.send(RESPONDER, "transcript", text="turn it off") == []
    assert table.send(ASSISTANT, "error", text="no intent") == [(RESPONDER, "error", {"text": "no intent"})]


def test_without_home_assistant_a_stage_gets_an_error_at_once() -> None:
    table = Table(is_connected=False)
    assert table.send(RECOGNIZER, "transcribe")[0][1] == "error"
    assert table.send(RESPONDER, "transcript", text="a") == [(RESPONDER, "handled", {"text": ""})]


def test_the_end_of_home_assistant_ends_what_waits_for_it() -> None:
    table = Table()
    table.send(RECOGNIZER, "transcribe")
    assert [each[:2] for each in described(table.bridge.handle_closed(ASSISTANT))] == [(RECOGNIZER, "error")]
    assert not table.bridge.has_assistant
    table.send(ASSISTANT, "run-satellite")
    table.begin()
    table.send(RESPONDER, "transcript", text="turn it off")
    assert [each[:2] for each in described(table.bridge.handle_closed(ASSISTANT))] == [(RESPONDER, "error")]


def test_an_aborted_recognition_ends_the_audio() -> None:
    table = Table()
    table.send(RECOGNIZER, "transcribe")
    assert described(table.bridge.handle_closed(RECOGNIZER)) == [(ASSISTANT, "audio-stop", {})]


def test_a_second_home_assistant_replaces_the_first() -> None:
    table = Table()
    assert table.send(9, "run-satellite") == [("close", ASSISTANT)]
    assert described(table.bridge.handle_closed(ASSISTANT)) == []
    assert table.bridge.has_assistant


def test_a_finished_timer_is_spoken_with_its_name() -> None:
    table = Table()
    table.send(ASSISTANT, "timer-started", id="1", total_seconds=60, name="tea")
    table.send(ASSISTANT, "timer-started", id="2", total_seconds=60, name="pasta")
    table.send(ASSISTANT, "timer-cancelled", id="2")
    assert table.send(ASSISTANT, "timer-finished", id="1") == [("say", "Timer tea.")]
    assert table.send(ASSISTANT, "timer-finished", id="3") == [("say", "Timer.")]


def test_another_machine_cannot_use_the_stages_part() -> None:
    bridge = Table().bridge
    for type in ("transcribe", "transcript", "synthesize", "audio-chunk"):
        assert bridge.receive(7, WyomingEvent(type, {"text": "a"}, b""), is_local=False) == []


def test_audio_beyond_the_limit_is_dropped() -> None:
    table = Table()
    table.send(ASSISTANT, "audio-start")
    size = 1 << 20
    for _ in range(MAX_AUDIO_BYTES // size + 2):
        table.send(ASSISTANT, "audio-chunk", bytes(size))
    table.send(ASSISTANT, "audio-stop")
    sent = table.bridge.receive(VOICE, WyomingEvent("synthesize", {"text": f"{ANNOUNCEMENT} 1"}, b""), is_local=True)
    payloads = [len(decode_event(action.message).payload) for action in sent if isinstance(action, Send)]
    assert sum(payloads) == MAX_AUDIO_BYTES and payloads[-1] == 0


@pytest.mark.parametrize("type", ["transcript", "synthesize", "audio-chunk", "audio-stop", "timer-finished", "other"])
@pytest.mark.parametrize("data", [{}, {"text": 5}, {"id": [], "text": None}])
def test_no_event_of_home_assistant_makes_the_bridge_raise(type: str, data: dict[str, object]) -> None:
    table = Table()
    table.bridge.receive(ASSISTANT, WyomingEvent(type, data, b""), is_local=False)
    table.bridge.receive(RECOGNIZER, WyomingEvent(type, data, b""), is_local=True)


def test_a_timer_is_marked_as_one() -> None:
    bridge = Table().bridge
    (action,) = bridge.receive(ASSISTANT, WyomingEvent("timer-finished", {"id": "1"}, b""), is_local=False)
    assert isinstance(action, Say) and action.is_timer
