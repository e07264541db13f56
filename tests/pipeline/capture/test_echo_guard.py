from __future__ import annotations

import pytest
from support.echo_room import Room, Utterance, device_speech, to_samples
from support.frame_detector import FrameDetector
from support.human_voice import spoken

from agent.audio.echo.canceller import Block, EchoMeasures
from agent.pipeline.capture.echo_guard import EchoGuard
from agent.pipeline.capture.vad import create_detector
from agent.pipeline.events import EchoChanged, Event, SpeechSuspected


@pytest.mark.parametrize("ppm", [0.0, 100.0])
def test_user_interrupts_the_device_and_its_echo_does_not(ppm: float) -> None:
    """The user is 6 dB below the echo, after 35 s in which the canceller has adapted."""
    device = device_speech(40.0)
    user = Utterance(device[-1].start + 1.5, to_samples(spoken("please stop talking now", "flite rms"), 600.0))
    room = Room(device, [user], delay_seconds=0.12, ppm=ppm, detector=create_detector("energy"))
    room.run()
    assert room.measures.delay_seconds == pytest.approx(0.12, abs=0.002)
    assert room.measures.drift_ppm == pytest.approx(ppm, abs=3.0)
    assert room.measures.return_loss_db is not None and room.measures.return_loss_db > 20.0
    assert room.mode == "speech"
    [segment] = [each for each in room.segments if each.found_at > device[-1].start]
    assert user.start < segment.found_at < user.end


class FixedCanceller:
    """Returns blocks and measures that the test sets."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.measures = EchoMeasures()

    def process(self, frame: bytes, position: int) -> list[Block]:
        return self.blocks


def guard(interrupt: str = "speech") -> tuple[EchoGuard, FixedCanceller, list[Event]]:
    canceller, events = FixedCanceller(), list[Event]()
    voice = FrameDetector(lambda frame: True, onset_seconds=0.0)
    return EchoGuard(canceller, voice, interrupt, events.append), canceller, events  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("measures", "mode", "is_problem"),
    [
        (EchoMeasures(searched_seconds=9.0), "half-duplex", False),
        (EchoMeasures(searched_seconds=10.5), "half-duplex", True),
        (EchoMeasures(0.1, 0.0, None), "half-duplex", False),
        (EchoMeasures(0.1, 501.0, 30.0), "half-duplex", True),
        (EchoMeasures(0.1, -501.0, 30.0), "half-duplex", True),
        (EchoMeasures(0.1, 100.0, 11.9), "word", False),
        (EchoMeasures(0.1, 0.0, 25.0, 1.0, 19.0), "word", False),
        (EchoMeasures(0.1, None, 12.1, 1.0, 21.0), "speech", False),
    ],
)
def test_measures_choose_what_may_interrupt(measures: EchoMeasures, mode: str, is_problem: bool) -> None:
    it, canceller, events = guard()
    canceller.measures = measures
    it.clean(b"", 0)
    [event] = events
    assert isinstance(event, EchoChanged)
    assert (event.mode, event.is_problem) == (mode, is_problem)
    assert bool(event.reason) == (mode != "speech")


@pytest.mark.parametrize(("interrupt", "mode"), [("never", "half-duplex"), ("word", "word"), ("speech", "speech")])
def test_configuration_limits_what_may_interrupt(interrupt: str, mode: str) -> None:
    it, canceller, events = guard(interrupt)
    canceller.measures = EchoMeasures(0.1, 0.0, 30.0, 1.0, 30.0)
    it.clean(b"", 0)
    assert isinstance(events[0], EchoChanged) and events[0].mode == mode


def test_weak_canceller_stays_weak_until_it_is_clearly_better() -> None:
    it, canceller, events = guard()
    for loss in (11.0, 13.0, 15.0):
        canceller.measures = EchoMeasures(0.1, 0.0, loss, 1.0, 30.0)
        it.clean(b"", 0)
    assert [event.mode for event in events if isinstance(event, EchoChanged)] == ["word", "speech"]


def test_frame_without_echo_is_judged_by_the_detector_alone() -> None:
    it, canceller, events = guard()
    canceller.blocks = [Block(bytes(640))] * 5
    assert it.is_speech(it.clean(bytes(3200), 0)) and it.starts_segment
    assert [type(event) for event in events] == [EchoChanged]


def test_evidence_ducks_after_120_ms_and_stops_after_240_ms() -> None:
    it, canceller, events = guard()
    quiet = Block(bytes(640), 20.0, 1000.0, has_echo=True, is_aligned=True, return_loss_db=34.0)
    near = quiet._replace(level=200.0)
    canceller.measures = EchoMeasures(0.1, 0.0, 34.0, 1.0, 30.0)
    canceller.blocks = [quiet] * 20
    assert not it.is_speech(it.clean(b"", 0)) and not it.starts_segment
    canceller.blocks = [near] * 6
    assert it.is_speech(it.clean(b"", 0)) and not it.starts_segment
    assert events[-1] == SpeechSuspected(True)
    assert it.is_speech(it.clean(b"", 0)) and it.starts_segment
    canceller.blocks = [quiet] * 20
    it.clean(b"", 0)  # the first blocks complete the evidence of the frame before
    assert not it.is_speech(it.clean(b"", 0)) and not it.starts_segment
    assert events[-1] == SpeechSuspected(False)


@pytest.mark.parametrize(
    ("drift", "loss", "adapted_seconds", "is_speech"),
    [(None, 28.0, 30.0, False), (None, 34.0, 30.0, True), (0.0, 28.0, 30.0, True), (0.0, 28.0, 10.0, False)],
)
def test_soft_residue_is_no_speech_during_the_calibration(
    drift: float | None, loss: float, adapted_seconds: float, is_speech: bool
) -> None:
    it, canceller, _ = guard()
    canceller.measures = EchoMeasures(0.1, drift, loss, 1.0, adapted_seconds)
    canceller.blocks = [Block(bytes(640), 260.0, 1000.0, has_echo=True, is_aligned=True, return_loss_db=loss)] * 20
    assert it.is_speech(it.clean(b"", 0)) == is_speech


def test_frame_whose_blocks_are_held_is_judged_as_the_one_before() -> None:
    it, canceller, _ = guard()
    canceller.measures = EchoMeasures(0.1, 0.0, 30.0)
    canceller.blocks = [Block(b"", 100.0, 3000.0, has_echo=True, is_aligned=True, return_loss_db=30.0)] * 5
    it.clean(b"", 0)
    assert not it.is_speech(b"") and not it.starts_segment
    canceller.blocks = []
    it.clean(b"", 1600)
    assert not it.is_speech(b"") and not it.starts_segment
