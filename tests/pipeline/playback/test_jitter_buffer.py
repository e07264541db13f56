"""When to begin: learned from how sound has come, without ever looking into the future."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.pipeline.playback.jitter_buffer import JitterBuffer
from scripts.benchmarks.jitter import Fixed, best_lateness, compare, play, trace, traces

CHUNK = 0.1


def arrivals(*times: float) -> list[tuple[float, float]]:
    return [(at, CHUNK) for at in times]


def test_the_prebuffer_beats_every_fixed_amount_on_traces_it_was_not_tuned_on() -> None:
    """At least 30 traces; the terms are defined in the benchmark."""
    tried = traces()
    assert len(tried) >= 30
    rows = {(row.player.partition(" ")[0], row.kind): row for row in compare(tried)}
    ours, arrival, fixed = rows["prebuffer", "all"], rows["on", "all"], rows["fixed", "all"]
    assert ours.score <= 1.4
    assert ours.score <= fixed.score and ours.each <= fixed.each
    assert ours.gaps <= 0.3 * arrival.gaps
    for kind in ("wifi stalls", "bursts", "5 % too slow", "mixture"):
        assert rows["prebuffer", kind].gaps <= 0.3 * rows["on", kind].gaps, kind


def test_it_also_holds_for_seeds_nobody_has_looked_at() -> None:
    rows = {(row.player, row.kind): row for row in compare(traces(range(5000, 5006)))}
    assert rows["prebuffer", "all"].score <= 1.4


def test_without_any_memory_it_waits_for_the_initial_time() -> None:
    prebuffer = JitterBuffer(0.1)
    assert prebuffer.start_at(0.0) is None
    prebuffer.arrived(5.0, CHUNK)
    assert prebuffer.start_at(0.0) == 5.1


def test_what_comes_much_faster_than_it_is_played_starts_at_once() -> None:
    prebuffer = JitterBuffer(0.1)
    for index in range(5):
        prebuffer.arrived(5.0 + index * 0.001, CHUNK)
    started = prebuffer.start_at(0.0)
    assert started is not None and started <= 5.004


def test_a_service_that_is_always_in_time_is_not_waited_for_after_the_first_utterance() -> None:
    prebuffer = JitterBuffer(0.1)
    for index in range(10):
        prebuffer.arrived(index * CHUNK, CHUNK)
    prebuffer.finish(whole=True)
    prebuffer.begin()
    prebuffer.arrived(100.0, CHUNK)
    assert prebuffer.start_at(0.0) == 100.0


def test_a_stall_that_comes_in_every_utterance_is_waited_for_beforehand() -> None:
    prebuffer = JitterBuffer(0.1)
    stalled = arrivals(0.0, 0.1, 0.7, 0.7, 0.7, 0.7, 0.7)
    gaps = [play(prebuffer, stalled, CHUNK).gaps for _ in range(4)]
    assert gaps[0] > 0 and gaps[1:] == [0, 0, 0]


def test_what_was_long_ago_is_forgotten() -> None:
    prebuffer = JitterBuffer(0.1)
    play(prebuffer, arrivals(0.0, 0.1, 0.9, 0.9, 0.9), CHUNK)
    for _ in range(8):
        outcome = play(prebuffer, arrivals(0.0, 0.1, 0.2, 0.3, 0.4), CHUNK)
    assert outcome.start_delay == 0.0


def test_nothing_is_waited_for_longer_than_allowed() -> None:
    prebuffer = JitterBuffer(0.1, 1.0)
    for _ in range(5):
        play(prebuffer, arrivals(0.0, 9.0), CHUNK)
    prebuffer.begin()
    prebuffer.arrived(50.0, CHUNK)
    assert prebuffer.start_at(0.0) == 51.0


def test_a_service_that_is_five_times_too_slow_is_heard_in_a_bounded_number_of_pieces() -> None:
    starving = [(index * 5 * CHUNK, CHUNK) for index in range(100)]
    outcome = play(JitterBuffer(0.1, 3.0), starving, CHUNK)
    assert play(Fixed(0.0), starving, CHUNK).gaps == 99
    assert outcome.gaps <= 24, "each pause is half as long again as the one before, up to the longest allowed"


def test_an_utterance_that_was_cut_teaches_only_that_more_was_needed() -> None:
    prebuffer = JitterBuffer(0.1)
    play(prebuffer, arrivals(0.0, 0.1, 0.6, 0.7), CHUNK)
    prebuffer.begin()
    prebuffer.arrived(100.0, CHUNK)
    before = prebuffer.start_at(0.0)
    prebuffer.finish(whole=False)
    prebuffer.begin()
    prebuffer.arrived(200.0, CHUNK)
    assert before is not None and prebuffer.start_at(0.0) == before + 100.0


def test_the_best_that_can_be_known_in_hindsight() -> None:
    assert best_lateness(arrivals(3.0, 3.1, 3.2)) < 1e-9
    assert round(best_lateness(arrivals(3.0, 3.5, 3.5, 3.9)), 9) == 0.6


@given(
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.01, 1.0)), min_size=1, max_size=40),
    st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.01, 1.0)), min_size=1, max_size=40),
)
def test_no_player_is_better_than_the_oracle_and_every_one_ends(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    prebuffer = JitterBuffer()
    for steps in (first, second):
        at, came = 0.0, []
        for wait, seconds in steps:
            at += wait
            came.append((at, seconds))
        outcome = play(prebuffer, came, CHUNK)
        assert outcome.lateness >= best_lateness(came) - 1e-4
        assert outcome.gaps < len(came)


def test_a_trace_is_the_same_for_the_same_seed() -> None:
    assert trace("mixture", 3) == trace("mixture", 3) != trace("mixture", 4)
