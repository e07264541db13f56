"""The buffer of one speech segment: replay, overflow and gaps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.transcriber import numbered_frames

from agent.pipeline.stt.segment import SpeechSegment
from agent.services.protocols.codec import Transcript


def filled(count: int, sent: int = 0, max_seconds: float = 60.0) -> SpeechSegment:
    segment = SpeechSegment(max_seconds, 10.0)
    for frame in numbered_frames(0, count):
        segment.append(frame)
    for _ in range(sent):
        segment.next_audio()
    return segment


def pending(segment: SpeechSegment) -> list[bytes]:
    return [audio for _, audio in iter(segment.next_audio, None)]


def test_replay_returns_every_unanswered_frame_before_the_unsent_ones() -> None:
    segment = filled(6, sent=4)
    segment.confirm(0.25)
    segment.replay()
    assert (segment.replay_from_seconds, segment.sent_seconds) == (pytest.approx(0.2), pytest.approx(0.2))
    assert segment.is_replaying and (segment.pending_count, segment.unsent_count) == (4, 2)
    assert pending(segment) == numbered_frames(2, 4)
    assert not segment.is_replaying and segment.sent_seconds == pytest.approx(0.6)


def test_overflow_of_unsent_audio_is_one_gap_with_position_and_length() -> None:
    segment = filled(8, max_seconds=0.5)
    assert segment.take_overflow_gap() == (pytest.approx(10.0), pytest.approx(0.3))
    assert segment.take_overflow_gap() is None
    assert pending(segment) == numbered_frames(3, 5)


def test_sent_audio_that_is_no_longer_kept_is_a_gap_after_a_loss() -> None:
    segment = filled(3, sent=3, max_seconds=0.3)
    for frame in numbered_frames(3, 2):
        segment.append(frame)
        segment.next_audio()
    segment.confirm(0.1)
    assert segment.take_replay_gap() == (pytest.approx(10.1), pytest.approx(0.1))
    assert segment.take_replay_gap() is None


def test_discard_pending_keeps_what_the_connection_has_received() -> None:
    segment = filled(5, sent=3)
    assert segment.discard_pending() == [(pytest.approx(10.3), pytest.approx(0.2))]
    assert segment.discard_pending() == [] and segment.pending_count == 0


def test_discard_pending_includes_the_rest_of_a_replay() -> None:
    segment = filled(5, sent=5)
    segment.replay()
    segment.next_audio()
    assert segment.discard_pending() == [(pytest.approx(10.1), pytest.approx(0.4))]


def test_losses_without_progress_are_counted() -> None:
    segment = filled(5, sent=5)
    segment.count_loss()
    segment.count_loss()
    assert segment.losses == 2
    segment.confirm(0.2)
    segment.count_loss()
    assert segment.losses == 1


def test_restart_transcript_keeps_the_longest_result() -> None:
    segment = filled(1)
    segment.finals, segment.partial = [Transcript("turn on", is_final=True)], "the light"
    assert segment.text() == "turn on the light"
    segment.restart_transcript()
    segment.partial = "turn"
    segment.restart_transcript()
    assert [final.text for final in segment.best] == ["turn on", "the light"] and segment.text() == ""


@given(st.lists(st.sampled_from(["append", "append", "send", "replay", "confirm"]), max_size=80))
def test_every_frame_is_answered_or_pending_or_part_of_a_gap(steps: list[str]) -> None:
    segment = SpeechSegment(0.4)
    gaps = confirmed = appended = 0.0
    for step in steps:
        if step == "append":
            segment.append(numbered_frames(0, 1)[0])
            appended += 0.1
        elif step == "send":
            segment.next_audio()
        elif step == "confirm":
            confirmed = max(confirmed, segment.sent_seconds)
            segment.confirm(segment.sent_seconds)
        else:
            gaps += sum(gap[1] for gap in [segment.take_replay_gap()] if gap)
            segment.replay()
        assert 0 <= segment.unsent_count <= segment.pending_count
        assert segment.is_replaying == (segment.pending_count > segment.unsent_count)
    gaps += sum(seconds for _, seconds in segment.discard())
    assert segment.seconds == pytest.approx(appended)
    assert appended - confirmed - 1e-6 <= gaps <= appended + 1e-6
    assert segment.discard() == [] and segment.next_audio() is None


def test_gaps_have_the_position_in_the_audio_of_the_microphone() -> None:
    """Audio that the frame queue has dropped is not part of the segment, but of the time."""
    segment = filled(2, sent=2)
    segment.skip(3.0)
    segment.skip(1.0)
    segment.append(numbered_frames(2, 1)[0])
    assert [segment.captured_at(seconds) for seconds in (0.0, 0.1, 0.2)] == pytest.approx([10.0, 10.1, 14.2])
    segment.confirm(0.2)
    segment.skip(5.0)
    assert segment.discard() == [(pytest.approx(14.2), pytest.approx(0.1))]
    segment.append(numbered_frames(3, 1)[0])
    assert segment.discard() == [(pytest.approx(19.3), pytest.approx(0.1))]


def test_a_source_that_waits_loses_no_unsent_audio() -> None:
    segment = SpeechSegment(0.5, keeps_unsent=True)
    for frame in numbered_frames(0, 8):
        segment.append(frame)
    assert segment.take_overflow_gap() is None and pending(segment) == numbered_frames(0, 8)
