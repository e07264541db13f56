from __future__ import annotations

import time

from agent.cli.history import line

RECORD = {
    "id": "a\x1b-1",
    "state": "failed",
    "reason": "no\nservice",
    "source": "control",
    "urgency": "important",
    "priority": 0,
    "accepted_at": time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1)),
    "seconds": 1.25,
    "services": ["local"],
    "text": "Hello\x1b[2J",
}


def test_record_is_one_printable_line() -> None:
    expected = '2026-03-01 12:00:00 failed         1.2 s  a\\x1b-1 (important, local) no\\nservice "Hello\\x1b[2J"'
    assert line(RECORD) == expected


def test_rank_replaces_the_urgency_and_missing_fields_are_omitted() -> None:
    record = {**RECORD, "priority": -5, "services": [], "reason": "", "text": None, "state": "queued", "seconds": 0.0}
    assert line(record) == "2026-03-01 12:00:00 queued         0.0 s  a\\x1b-1 (-5)"
    assert line({}).endswith("None (None)")
