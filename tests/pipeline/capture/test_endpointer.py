"""The start and the end of speech segments."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.frame_detector import FrameDetector

from agent.pipeline.capture.endpointer import (
    NullEndpointer,
    Pause,
    Resume,
    SpeechEnd,
    SpeechFrame,
    SpeechStart,
    VadEndpointer,
    VadEvent,
)

SPEECH, SILENCE = b"\x01" * 3200, b"\x00" * 3200  # a tenth of a second each


def create_endpointer(**changes: Any) -> VadEndpointer:
    timing: dict[str, Any] = {"silence_seconds": 0.3, "turn_seconds": 2.0, "pre_roll_seconds": 0.2} | changes
    detector = FrameDetector(lambda frame: frame[0] == 1, timing.pop("onset_seconds", 0.1))
    return VadEndpointer(detector, **timing)


def process(endpointer: VadEndpointer, pattern: str) -> list[VadEvent]:
    return [
        vad_event for character in pattern for vad_event in endpointer.process(SPEECH if character == "x" else SILENCE)
    ]


def shape(vad_events: list[VadEvent]) -> str:
    """Return the segments without their pauses."""
    return "".join(
        "("
        if isinstance(vad_event, SpeechStart)
        else ")"
        if isinstance(vad_event, SpeechEnd)
        else "x"
        if vad_event.frame == SPEECH
        else "."
        for vad_event in vad_events
        if not isinstance(vad_event, Pause | Resume)
    )


def test_segment_includes_the_pre_roll_and_ends_after_silence() -> None:
    assert shape(process(create_endpointer(), ".....xxx.xx......")) == "(..xxx.xx...)"


def test_short_pause_does_not_end_the_segment() -> None:
    assert shape(process(create_endpointer(), "xx..xx..xx...")) == "(xx..xx..xx...)"


def test_click_shorter_than_the_onset_starts_no_segment() -> None:
    assert shape(process(create_endpointer(onset_seconds=0.2), "..x...x..")) == ""
    assert shape(process(create_endpointer(onset_seconds=0.2), "....xx...")) == "(..xx...)"


def test_noise_without_a_pre_roll_is_survived() -> None:
    endpointer = create_endpointer(onset_seconds=0.5, pre_roll_seconds=0.0)
    assert shape(process(endpointer, "xxx..xxxx..xxxxx...")) == "(xxxxx...)"


def test_segment_ends_at_its_maximum_length() -> None:
    assert shape(process(create_endpointer(turn_seconds=0.5), "xxxxxxxx")).startswith("(xxxxx)(")


def test_speech_end_reports_the_length_of_the_silence() -> None:
    [over] = [vad_event for vad_event in process(create_endpointer(), "xx...") if isinstance(vad_event, SpeechEnd)]
    assert abs(over.ago_seconds - 0.3) < 1e-6


def test_speech_end_says_whether_the_segment_was_cut() -> None:
    ends = [
        each.is_cut for each in process(create_endpointer(turn_seconds=0.5), "xxxxx") if isinstance(each, SpeechEnd)
    ]
    ends += [each.is_cut for each in process(create_endpointer(), "xx...") if isinstance(each, SpeechEnd)]
    assert ends == [True, False]


def test_reset_ends_the_segment_and_clears_the_pre_roll() -> None:
    endpointer = create_endpointer()
    process(endpointer, "..xx")
    assert shape(endpointer.reset()) == ")"
    assert endpointer.reset() == []
    assert shape(process(endpointer, "x...")) == "(x...)"


def test_null_endpointer_selects_every_frame() -> None:
    endpointer = NullEndpointer()
    vad_events = [vad_event for _ in range(3) for vad_event in endpointer.process(SILENCE)]
    assert shape(vad_events) == "(..." and endpointer.reset() == []


@given(st.text("x.", max_size=80))
def test_events_are_well_formed_and_frames_keep_their_order(pattern: str) -> None:
    endpointer = create_endpointer()
    vad_events: list[VadEvent] = []
    frames = []
    for number, character in enumerate(pattern):
        frame = (b"\x01" if character == "x" else b"\x00") + number.to_bytes(2, "big") + bytes(3197)
        frames.append(frame)
        vad_events += endpointer.process(frame)
    inside = pausing = False
    for vad_event in vad_events:
        if isinstance(vad_event, SpeechFrame):
            assert inside
        elif isinstance(vad_event, Pause | Resume):
            assert inside and pausing is isinstance(vad_event, Resume)
            pausing = not pausing
        else:
            pausing = False
            assert inside is isinstance(vad_event, SpeechEnd)
            inside = isinstance(vad_event, SpeechStart)
    frames_out = [vad_event.frame for vad_event in vad_events if isinstance(vad_event, SpeechFrame)]
    assert frames_out == sorted(frames_out, key=lambda frame: frame[1:3])
    assert len(frames_out) == len(set(frames_out))


def test_text_that_arrives_in_the_silence_chooses_its_length() -> None:
    endpointer = create_endpointer(choose_pause=lambda text: 0.1 if text == "Stop." else 0.5)
    assert shape(process(endpointer, "xx.")) == "(xx."
    endpointer.report_text("and")
    assert shape(process(endpointer, "...")) == "..."
    assert shape(endpointer.report_text("Stop.")) == ")", "at once, not with the next frame"
    assert shape(process(endpointer, ".")) == ""


def test_speech_after_a_text_restores_the_usual_pause() -> None:
    endpointer = create_endpointer(choose_pause=lambda text: 0.1)
    process(endpointer, "xx")
    endpointer.report_text("Stop.")
    assert shape(process(endpointer, "x...")) == "x...)"


def test_text_of_a_turn_has_no_effect_on_the_next_turn() -> None:
    endpointer = create_endpointer(choose_pause=lambda text: 0.5)
    assert shape(process(endpointer, "xx...")) == "(xx...)"
    endpointer.report_text("a late partial and")
    assert shape(process(endpointer, "xx...")) == "(xx...)"


def test_silence_within_a_segment_is_a_pause_until_speech_follows() -> None:
    vad_events = process(create_endpointer(silence_seconds=0.5), "xx.x..xx...x.....")
    pauses = [vad_event for vad_event in vad_events if not isinstance(vad_event, SpeechFrame | SpeechStart)]
    assert [type(vad_event) for vad_event in pauses] == [Pause, Resume, Pause, Resume, Pause, SpeechEnd]


def test_segment_that_ends_at_its_first_pause_has_no_pause_event() -> None:
    assert not any(isinstance(each, Pause) for each in process(create_endpointer(silence_seconds=0.2), "xx.."))
