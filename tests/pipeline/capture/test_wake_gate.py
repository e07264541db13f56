"""Speech starts a turn only after a wake word, within the time after it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from support.frame_detector import FrameDetector

from agent.errors import AudioError
from agent.pipeline.capture.endpointer import Pause, Resume, SpeechEnd, SpeechFrame, SpeechStart, VadEndpointer
from agent.pipeline.capture.spotter import Spot
from agent.pipeline.capture.wake_gate import WakeGate
from agent.pipeline.events import NearMiss, StopWord, WakePaused, Woken
from agent.system.threads import Deadline

FRAMES = {"x": b"\x01" * 3200, ".": b"\x00" * 3200, "w": b"\x02" * 3200, "!": b"\x03" * 3200, "n": b"\x04" * 3200}
"""Frames of 0.1 s: speech, silence, the end of the wake word, a frame at which the spotter fails, a near miss."""


class FakeSpotter:
    """Finds a word in each frame of the kind ``w``. ``frames`` are those that it got."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.is_closed = False

    def close(self, deadline: Deadline) -> None:
        self.is_closed = True

    def find(self, frame: bytes) -> Spot | None:
        self.frames.append(frame)
        if frame == FRAMES["!"]:
            raise RuntimeError("out of memory")
        if frame == FRAMES["n"]:
            return Spot("alexa", 0.6, is_found=False)
        return Spot("alexa", 0.99, True, 0.2) if frame == FRAMES["w"] else None


class Rig:
    def __init__(
        self,
        load: Callable[[], FakeSpotter] | None = None,
        listen_seconds: float = 1.0,
        *,
        has_wake_sound: bool = False,
        onset_seconds: float = 0.1,
    ) -> None:
        self.spotter, self.stop_spotter = FakeSpotter(), FakeSpotter()
        self.gate = WakeGate(load or (lambda: self.spotter), listen_seconds, lambda: self.stop_spotter)
        self.endpointer = VadEndpointer(
            FrameDetector(lambda frame: frame[0] != 0, onset_seconds),
            silence_seconds=0.3,
            turn_seconds=5.0,
            pre_roll_seconds=0.5,
            gate=self.gate,
            has_wake_sound=has_wake_sound,
        )

    def __call__(self, pattern: str) -> str:
        """Return the events of the frames: ``W`` for a wake word, ``(`` and ``)`` around the frames of a segment."""
        return "".join(self._shape(pattern))

    def _shape(self, pattern: str) -> Iterator[str]:
        names = {frame: name for name, frame in FRAMES.items()}
        for character in pattern:
            for event in self.endpointer.process(FRAMES[character]):
                match event:
                    case Woken(word):
                        assert word == "alexa"
                        yield "W"
                    case NearMiss(word, score):
                        assert (word, score) == ("alexa", 0.6)
                        yield "N"
                    case WakePaused():
                        yield "P"
                    case StopWord():
                        yield "S"
                    case SpeechStart():
                        yield "("
                    case SpeechEnd():
                        yield ")"
                    case SpeechFrame(frame):
                        yield names[frame]
                    case Pause() | Resume():
                        pass


def test_speech_without_the_wake_word_starts_no_segment() -> None:
    assert Rig()("..xxxx....xxxx....xxxxxxxxxxxxxx....") == ""


def test_question_in_one_breath_has_the_audio_after_the_word() -> None:
    assert Rig()("..xxxwxxxxx....") == "W(xwxxxxx...)"


def test_question_after_a_pause_has_no_audio_of_the_word() -> None:
    assert Rig()("xxxw.......xxx....") == "W(.....xxx...)"


def test_second_question_needs_the_word_again() -> None:
    rig = Rig()
    assert rig("xwxxx...") == "W(xwxxx...)"
    assert rig("xxx......") == ""
    assert rig("xwxxx...") == "W(xwxxx...)"


def test_only_the_chosen_word_opens_the_gate() -> None:
    rig = Rig()
    rig.endpointer.choose_word("hey_jarvis")
    assert rig("nxwxxx...") == ""
    rig.endpointer.choose_word("alexa")
    assert rig("nxwxxx...") == "NW(xwxxx...)"
    rig.endpointer.choose_word(None)
    assert rig("xwxxx...") == "W(xwxxx...)"


def test_gate_closes_if_no_speech_follows_in_time() -> None:
    rig = Rig(listen_seconds=1.0)
    assert rig("xw..........") == "W"
    assert rig("xxxx....") == ""


def test_opened_gate_needs_no_word_until_its_time_is_over() -> None:
    rig = Rig()
    rig.endpointer.open_gate(0.5)
    assert rig("..xxx....") == "(..xxx...)"
    rig.endpointer.open_gate(0.5)
    assert rig("......xxx...") == ""


def test_speech_that_begins_at_the_end_of_the_time_starts_its_segment() -> None:
    rig = Rig(onset_seconds=0.2)
    rig.endpointer.open_gate(0.5)
    assert rig("....xxx....") == "(....xxx...)"


def test_noise_that_starts_no_segment_does_not_keep_the_gate_open() -> None:
    rig = Rig(onset_seconds=2.0)
    rig.endpointer.open_gate(0.5)
    assert rig("....xxxxw") == "W"


def test_reset_closes_the_gate() -> None:
    rig = Rig()
    assert rig("xw") == "W"
    assert rig.endpointer.reset() == []
    assert rig("...xxx...") == ""


def test_spotter_gets_no_audio_in_a_long_silence_but_the_silence_before_a_sound() -> None:
    rig = Rig()
    rig("x" + "." * 30)
    assert len(rig.spotter.frames) == 11
    rig("x")
    assert rig.spotter.frames[11:] == [FRAMES["."]] * 15 + [FRAMES["x"]]


def test_spotter_that_fails_is_loaded_again_while_the_gate_can_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    loaded: list[FakeSpotter] = []

    def load() -> FakeSpotter:
        loaded.append(FakeSpotter())
        if len(loaded) == 2:
            raise AudioError("no model")
        return loaded[-1]

    rig = Rig(load)
    rig("x!")
    rig.endpointer.open_gate(1.0)
    assert rig("xxx...") == "(x!xxx...)"
    deadline = time.monotonic() + 60.0
    while len(loaded) < 3:
        assert time.monotonic() < deadline
        rig("xx")
    assert rig("xwxx...") == "W(xwxx...)"
    assert [each.is_closed for each in loaded] == [True, False, False]
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["wake word: the engine failed"] * 2


def test_near_miss_is_reported_and_opens_nothing() -> None:
    assert Rig()("xnxxxx....") == "N"


def test_stop_word_is_found_only_while_the_device_speaks() -> None:
    rig = Rig()
    rig("xx")
    rig.endpointer.set_speaking(True)
    assert rig.stop_spotter.frames == [] and rig("xw") == "SW"
    rig.endpointer.reset()
    rig.endpointer.set_speaking(False)
    assert rig("xw") == "W"


def test_engine_of_the_stop_words_is_loaded_when_the_device_begins_to_speak() -> None:
    loaded: list[FakeSpotter] = []

    def load() -> FakeSpotter:
        loaded.append(FakeSpotter())
        return loaded[-1]

    gate = WakeGate(FakeSpotter, 1.0, load)
    gate.hear(FRAMES["x"], is_sound=True)
    assert loaded == []
    gate.set_speaking(True)
    assert len(loaded) == 1
    assert gate.hear(FRAMES["w"], is_sound=True)[1] == "alexa"


def test_segment_after_a_long_frame_has_exactly_the_audio_after_the_word() -> None:
    rig = Rig()
    word = FRAMES["x"] * 9 + FRAMES["w"]

    class LongSpotter(FakeSpotter):
        def find(self, frame: bytes) -> Spot | None:
            return Spot("alexa", 1.0, True, 0.1) if frame == word else None

    rig.gate = WakeGate(LongSpotter, 8.0)
    endpointer = VadEndpointer(
        FrameDetector(lambda frame: frame[0] != 0, 0.1),
        silence_seconds=1.0,
        turn_seconds=5.0,
        pre_roll_seconds=0.0,
        gate=rig.gate,
    )
    question, silence = FRAMES["x"] * 10, FRAMES["."] * 10
    events = [event for frame in (silence, word, question, silence, silence) for event in endpointer.process(frame)]
    assert (
        b"".join(event.frame for event in events if isinstance(event, SpeechFrame)) == FRAMES["w"] + question + silence
    )


def test_pause_after_the_word_asks_for_the_sound_which_starts_no_segment() -> None:
    rig = Rig(has_wake_sound=True, listen_seconds=8.0)
    assert rig("xxxw.xxx.........") == "WP"
    assert rig("xxxx...").startswith("(")


def test_question_in_one_breath_is_not_followed_by_the_sound() -> None:
    assert Rig(has_wake_sound=True)("..xxxwxxxxx....") == "W(xwxxxxx...)"


def test_question_that_starts_during_the_sound_is_complete() -> None:
    assert Rig(has_wake_sound=True, listen_seconds=8.0)("xxxw..xxxxxxxx...") == "WP(xw..xxxxxxxx...)"
