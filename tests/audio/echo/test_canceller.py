from __future__ import annotations

import math
from array import array

import pytest
from support.echo_room import Room, device_speech

from agent.audio.echo.canceller import ROOM_SECONDS, TRACK_SAMPLES, EchoCanceller, find_offset
from agent.audio.echo.reference import EchoReference
from agent.audio.format import SPEECH
from agent.pipeline.capture.vad import create_detector


def test_each_utterance_is_aligned_although_the_clocks_are_read_with_errors() -> None:
    """An error of a millisecond at the start of an utterance, without alignment, halves the return loss."""
    room = Room(
        device_speech(28.0),
        [],
        delay_seconds=0.12,
        ppm=0.0,
        detector=create_detector("energy"),
        clock_error_seconds=0.001,
    )
    room.run()
    assert room.measures.delay_seconds == pytest.approx(0.12, abs=0.002)
    assert room.measures.return_loss_db is not None and room.measures.return_loss_db > 25.0
    assert not room.segments


def tone(hertz: int, shift_samples: float = 0.0) -> array[int]:
    step = 2 * math.pi * hertz / SPEECH.rate
    return array("h", [round(6000 * math.sin(step * (at - shift_samples))) for at in range(SPEECH.rate // 4)])


@pytest.mark.parametrize("hertz", [60, 150, 440, 1318])
def test_offset_of_a_tone_is_at_most_the_limit(hertz: int) -> None:
    """The peak of its correlation is broad and may be far away."""
    offsets = [find_offset(tone(hertz, shift), tone(hertz), TRACK_SAMPLES) for shift in range(-40, 41, 2)]
    known = [abs(offset) for offset in offsets if offset is not None]
    assert known and max(known) <= TRACK_SAMPLES


def test_offset_is_known_to_a_fraction_of_a_sample() -> None:
    assert find_offset(tone(1000, 0.4), tone(1000), TRACK_SAMPLES) == pytest.approx(0.4, abs=0.05)


def test_user_is_heard_soon_after_an_utterance_whose_echo_was_not_found() -> None:
    """A headset, or a microphone in another room: the delay stays unknown."""
    reference = EchoReference()
    canceller = EchoCanceller(reference, 0.4)
    spoken = tone(440).tobytes() * 4  # a second
    for end in (1.0, 2.0, 3.0):
        reference.note_written(spoken, SPEECH, end)
    reference.finished()
    echoes = []
    for position in range(0, 5 * SPEECH.rate, 1600):
        reference.captured(position + 1600, (position + 1600) / SPEECH.rate)
        blocks = canceller.process(bytes(3200), position)
        echoes += [block.has_echo for block in blocks]
    assert canceller.measures.delay_seconds is None
    spoken_blocks, last = round(3.0 / 0.02), round((3.0 + ROOM_SECONDS) / 0.02)
    assert all(echoes[5 : spoken_blocks - 5])
    assert not any(echoes[last + 5 :])
