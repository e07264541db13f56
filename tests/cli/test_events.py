from __future__ import annotations

import time

from agent.cli.events import line


def test_event_is_one_printable_line() -> None:
    at = time.mktime((2026, 3, 1, 12, 0, 0, 0, 0, -1)) + 0.25
    event = {"event": "heard", "time": at, "words": 2, "text": "a\x1bb", "reason": "", "muted": [], "durable": False}
    assert line(event) == "12:00:00 heard     words=2 text=a\\x1bb durable=false"


def test_event_without_a_time_is_printed() -> None:
    assert line({"event": "lost", "lost": 3}) == "--:--:-- lost      lost=3"
