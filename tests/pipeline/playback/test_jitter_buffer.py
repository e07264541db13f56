"""Jitter buffer: the start delay follows the observed arrivals, without knowledge of the future."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.playback.jitter_buffer import JitterBuffer
from scripts.benchmarks.jitter import (
    KINDS,
    OTHER_KINDS,
    Fixed,
    compare,
    mean,
    play,
    required_delay,
    score,
    session,
    trace,
    traces,
)

CHUNK = 0.1


def arrivals(*times: float) -> list[tuple[float, float]]:
    return [(at, CHUNK) for at in times]


def test_jitter_buffer_beats_every_fixed_delay_on_unseen_traces() -> None:
    """The benchmark defines the terms."""
    tried = traces(kinds=[*KINDS, *OTHER_KINDS])
    assert len(tried) >= 30
    rows = {(row.player.partition(" ")[0], row.kind): row for row in compare(tried)}
    adaptive, arrival, fixed = rows["adaptive", "all"], rows["on", "all"], rows["fixed", "all"]
    assert adaptive.score <= 1.34
    assert adaptive.score <= fixed.score and adaptive.each <= fixed.each
    assert adaptive.gaps <= 0.3 * arrival.gaps
    for kind in ("wifi stalls", "bursts", "5 % too slow", "mixture"):
        assert rows["adaptive", kind].gaps <= 0.3 * rows["on", kind].gaps, kind
    for kind in ("all", "tcp", "sentences"):
        assert rows["adaptive", kind].score <= 1.15 * rows["hindsight", kind].score, kind


def test_jitter_buffer_holds_its_score_on_other_seeds() -> None:
    scores = [score(session(JitterBuffer(), each)) for each in traces(range(5000, 5006))]
    assert mean(scores) <= 1.36


def test_first_utterance_starts_after_the_initial_delay() -> None:
    jitter_buffer = JitterBuffer(0.1)
    assert jitter_buffer.start_at(0.0) is None
    jitter_buffer.add(5.0, CHUNK)
    assert jitter_buffer.start_at(0.0) == 5.1


def test_fast_service_starts_at_once() -> None:
    jitter_buffer = JitterBuffer(0.1)
    for index in range(5):
        jitter_buffer.add(5.0 + index * 0.001, CHUNK)
    started = jitter_buffer.start_at(0.0)
    assert started is not None and started <= 5.004


def test_punctual_service_starts_at_once_from_the_second_utterance() -> None:
    jitter_buffer = JitterBuffer(0.1)
    for index in range(10):
        jitter_buffer.add(index * CHUNK, CHUNK)
    jitter_buffer.finish(is_complete=True)
    jitter_buffer.begin()
    jitter_buffer.add(100.0, CHUNK)
    assert jitter_buffer.start_at(0.0) == 100.0


@pytest.mark.parametrize("piece", [0.02, 0.04, 0.1, 0.2, 0.25])
@pytest.mark.parametrize("jitter", [0.0, 0.003, 0.01])
def test_exactly_real_time_service_has_every_piece_before_the_card_needs_it(piece: float, jitter: float) -> None:
    """The card needs a piece 10 ms before its use; its thread and those of the network may take 10 ms more."""
    needed, reserve, generator = 0.02, 0.03, random.Random(7)
    jitter_buffer = JitterBuffer(0.1)
    for utterance in range(40):
        received = [
            (index * piece + generator.uniform(0.0, jitter), piece)
            for index in range(max(2, round(generator.uniform(0.5, 5.0) / piece)))
        ]
        jitter_buffer.begin()
        jitter_buffer.add(*received[0])
        started = jitter_buffer.start_at(0.0, reserve)
        assert started is not None and started - received[0][0] <= (0.1 if not utterance else reserve + jitter) + 1e-9
        for index, (at, seconds) in enumerate(received[1:], start=1):
            assert at <= started + index * piece - needed + 1e-9
            jitter_buffer.add(at, seconds)
        jitter_buffer.finish(is_complete=True)


@pytest.mark.parametrize("speed", [1.5, 2.0, 5.0])
def test_faster_service_has_the_reserve_without_a_delay(speed: float) -> None:
    jitter_buffer = JitterBuffer(0.1)
    for _ in range(3):
        jitter_buffer.begin()
        for index in range(20):
            jitter_buffer.add(index * CHUNK / speed, CHUNK)
        jitter_buffer.finish(is_complete=True)
    jitter_buffer.begin()
    jitter_buffer.add(50.0, CHUNK)
    assert jitter_buffer.start_at(0.0, 0.03) == 50.0


def test_reserve_follows_a_stall() -> None:
    jitter_buffer = JitterBuffer(0.1)
    stalled = arrivals(0.0, 0.1, 0.7, 0.7, 0.7, 0.7, 0.7)
    for _ in range(4):
        play(jitter_buffer, stalled, CHUNK)
    jitter_buffer.begin()
    jitter_buffer.add(50.0, CHUNK)
    assert jitter_buffer.start_at(0.0, 0.03) == pytest.approx(50.53)


def test_regular_stall_is_covered_by_the_start_delay() -> None:
    jitter_buffer = JitterBuffer(0.1)
    stalled = arrivals(0.0, 0.1, 0.7, 0.7, 0.7, 0.7, 0.7)
    gaps = [play(jitter_buffer, stalled, CHUNK).gaps for _ in range(4)]
    assert gaps[0] > 0 and gaps[1:] == [0, 0, 0]


def test_old_observations_decay() -> None:
    jitter_buffer = JitterBuffer(0.1)
    play(jitter_buffer, arrivals(0.0, 0.1, 0.9, 0.9, 0.9), CHUNK)
    for _ in range(8):
        outcome = play(jitter_buffer, arrivals(0.0, 0.1, 0.2, 0.3, 0.4), CHUNK)
    assert outcome.start_delay == 0.0


def test_start_delay_is_limited() -> None:
    jitter_buffer = JitterBuffer(0.1, 1.0)
    for _ in range(5):
        play(jitter_buffer, arrivals(0.0, 9.0), CHUNK)
    jitter_buffer.begin()
    jitter_buffer.add(50.0, CHUNK)
    assert jitter_buffer.start_at(0.0) == 51.0


def test_slow_service_plays_in_a_bounded_number_of_pieces() -> None:
    starving = [(index * 5 * CHUNK, CHUNK) for index in range(100)]
    outcome = play(JitterBuffer(0.1, 3.0), starving, CHUNK)
    assert play(Fixed(0.0), starving, CHUNK).gaps == 99
    assert outcome.gaps <= 24, "each pause is half as long again as the one before, up to the longest allowed"


def test_cancelled_utterance_never_lowers_the_delay() -> None:
    jitter_buffer = JitterBuffer(0.1)
    play(jitter_buffer, arrivals(0.0, 0.1, 0.6, 0.7), CHUNK)
    jitter_buffer.begin()
    jitter_buffer.add(100.0, CHUNK)
    before = jitter_buffer.start_at(0.0)
    jitter_buffer.finish(is_complete=False)
    jitter_buffer.begin()
    jitter_buffer.add(200.0, CHUNK)
    assert before is not None and jitter_buffer.start_at(0.0) == before + 100.0


def test_required_delay_of_a_trace() -> None:
    assert required_delay(arrivals(3.0, 3.1, 3.2)) < 1e-9
    assert round(required_delay(arrivals(3.0, 3.5, 3.5, 3.9)), 9) == 0.6


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.01, 1.0)), min_size=1, max_size=40),
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.01, 1.0)), min_size=1, max_size=40),
)
def test_no_player_beats_the_required_delay(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    jitter_buffer = JitterBuffer()
    for steps in (first, second):
        at, received = 0.0, []
        for wait, seconds in steps:
            at += wait
            received.append((at, seconds))
        outcome = play(jitter_buffer, received, CHUNK)
        assert outcome.delay >= required_delay(received) - 1e-4
        assert outcome.gaps < len(received)


def test_trace_is_reproducible() -> None:
    assert trace("mixture", 3) == trace("mixture", 3) != trace("mixture", 4)
