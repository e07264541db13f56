"""Untrusted messages never raise in a codec and never stay in memory."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from support.fuzz import run, targets

MESSAGES = int(os.environ.get("FUZZ_MESSAGES", "5000"))
MAX_GROWN_KIB = 2048
TARGETS = targets()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("codec", TARGETS)
def test_no_message_raises_or_stays_in_memory(codec: str, record_property: Callable[[str, object], None]) -> None:
    cost = run(TARGETS[codec], MESSAGES, seed=20)
    record_property("show", 2)
    record_property("figure", f"{codec}: {cost.messages} messages in {cost.seconds:.0f} s, {cost.grown_kib} KiB more")
    assert cost.messages >= MESSAGES and cost.events > 0
    assert cost.grown_kib < MAX_GROWN_KIB
