"""Many short utterances in a row leave nothing behind."""

from __future__ import annotations

from scripts.benchmarks.utterances import run


def test_a_thousand_utterances_leave_no_memory_no_descriptor_and_no_thread_behind() -> None:
    report = run(1000, warm=400)
    assert report.spoken == 1000
    assert report.left[0] <= 2, "the next connection may be in standby already, or not"
    assert report.left[1] <= 2, "one dials, one says goodbye"
    assert report.slope_kib < 256, "over so few it is a coarse measure; the benchmark takes ten times as many"
