"""Row 55: a service that goes away and returns repeatedly; threads, descriptors and memory stay constant.

``FLAPS`` sets the number of outages; 1800 take an hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.fault_rows import Record
from support.speech_services import SERVICES

ROOT = Path(__file__).parents[2]
FLAPS = int(os.environ.get("FLAPS", "60"))
MAX_GROWTH_KIB = 1024


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("service", SERVICES)
def test_show_8_flapping_leaks_no_threads_descriptors_or_memory(record_show: Record, service: str) -> None:
    """Every utterance fails during an outage and plays after it; the number of connections is bounded."""
    done = subprocess.run(
        [sys.executable, "-m", "support.flapping", service, str(FLAPS)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    measured, memory_kib, failed, spoken = (result[name] for name in ("measured", "memory_kib", "failed", "spoken"))
    connects, took = result["connects"], result["took"]
    # Some threads are still ending at each measurement: compare the minima.
    window = max(1, FLAPS // 4)
    threads, files = map(min, zip(*measured[FLAPS // 4 :][:window], strict=True))
    threads_after, files_after = map(min, zip(*measured[-window:], strict=True))
    assert failed == spoken == FLAPS
    # A live connection has four threads in the proxy and one in the server.
    assert threads_after <= threads + 12 and files_after <= files + 12
    grown_kib = memory_kib[-1] - memory_kib[0]
    assert grown_kib < MAX_GROWTH_KIB, f"{grown_kib} KiB"
    # During an outage there is a connection attempt every 0.01 s on average at most.
    assert connects < FLAPS * 6 + took * 200
    grown = f"threads {threads_after - threads:+}, descriptors {files_after - files:+}, {grown_kib:+} KiB"
    record_show(8, f"{service}: {FLAPS} flaps, {connects} connects, {failed} failed, {spoken} played; {grown}")
