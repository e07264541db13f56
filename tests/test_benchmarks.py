"""Many consecutive utterances leak nothing."""

from __future__ import annotations

from scripts.benchmarks.utterances import run


def test_a_thousand_utterances_leak_no_memory_no_descriptor_and_no_thread() -> None:
    report = run(1000, warm=400)
    assert report.spoken == 1000
    assert report.left[0] <= 2, "a standby connection may exist or not"
    assert report.left[1] <= 2, "one thread may dial, one may close a connection"
    assert report.slope_kib < 256, "a coarse limit; the benchmark runs ten times as many"
