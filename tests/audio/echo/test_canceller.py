from __future__ import annotations

import pytest
from support.echo_room import Room, device_speech

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
