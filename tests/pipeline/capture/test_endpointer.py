"""Where speech begins and ends."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.capture.endpointer import NullEndpointer, Speech, SpeechEnd, SpeechStart, VadEndpointer, VadEvent

SPEECH, SILENCE = b"\x01" * 3200, b"\x00" * 3200  # a tenth of a second each


def turns(**changes: float) -> VadEndpointer:
    wishes = {"silence_seconds": 0.3, "turn_seconds": 2.0, "pre_roll_seconds": 0.2, "onset_seconds": 0.1} | changes
    return VadEndpointer(lambda frame: frame[0] == 1, **wishes)


def hear(endpointer: VadEndpointer, pattern: str) -> list[VadEvent]:
    return [mark for letter in pattern for mark in endpointer.process(SPEECH if letter == "x" else SILENCE)]


def sketch(marks: list[VadEvent]) -> str:
    return "".join(
        "("
        if isinstance(mark, SpeechStart)
        else ")"
        if isinstance(mark, SpeechEnd)
        else "x"
        if mark.frame == SPEECH
        else "."
        for mark in marks
    )


def test_a_turn_takes_what_came_before_it_with_it_and_ends_after_silence() -> None:
    assert sketch(hear(turns(), ".....xxx.xx......")) == "(..xxx.xx...)"


def test_a_pause_within_a_turn_does_not_end_it() -> None:
    assert sketch(hear(turns(), "xx..xx..xx...")) == "(xx..xx..xx...)"


def test_a_click_that_is_shorter_than_the_onset_begins_nothing() -> None:
    assert sketch(hear(turns(onset_seconds=0.2), "..x...x..")) == ""
    assert sketch(hear(turns(onset_seconds=0.2), "....xx...")) == "(..xx...)"


def test_a_turn_that_does_not_end_is_ended() -> None:
    assert sketch(hear(turns(turn_seconds=0.5), "xxxxxxxx")).startswith("(xxxxx)(")


def test_how_long_ago_the_speech_ended_is_told() -> None:
    [over] = [mark for mark in hear(turns(), "xx...") if isinstance(mark, SpeechEnd)]
    assert abs(over.ago_seconds - 0.3) < 1e-6


def test_forgetting_ends_the_turn_at_hand_and_the_pre_roll() -> None:
    endpointer = turns()
    hear(endpointer, "..xx")
    assert sketch(endpointer.reset()) == ")"
    assert endpointer.reset() == []
    assert sketch(hear(endpointer, "x...")) == "(x...)"


def test_listening_without_end_sends_everything() -> None:
    endpointer = NullEndpointer()
    marks = [mark for _ in range(3) for mark in endpointer.process(SILENCE)]
    assert sketch(marks) == "(..." and endpointer.reset() == []


@given(st.text("x.", max_size=80))
def test_marks_are_always_well_formed_and_the_frames_keep_their_order(pattern: str) -> None:
    endpointer = turns()
    marks: list[VadEvent] = []
    frames = []
    for number, letter in enumerate(pattern):
        frame = (b"\x01" if letter == "x" else b"\x00") + number.to_bytes(2, "big") + bytes(3197)
        frames.append(frame)
        marks += endpointer.process(frame)
    inside = False
    for mark in marks:
        if isinstance(mark, Speech):
            assert inside
        else:
            assert inside is isinstance(mark, SpeechEnd)
            inside = isinstance(mark, SpeechStart)
    said = [mark.frame for mark in marks if isinstance(mark, Speech)]
    assert said == sorted(said, key=lambda frame: frame[1:3])
    assert len(said) == len(set(said))
