"""The lines of ``voice-agent top``."""

from __future__ import annotations

from typing import Any

import pytest

from agent.cli.top_screen import Snapshot, fit, screen

STATUS: dict[str, Any] = {
    "status": "ready",
    "state": "idle",
    "mode": "assistant",
    "saying": None,
    "queue": 1,
    "volume": 80,
    "services": [{"name": "fish", "role": "speech", "state": "failed", "reason": "refused", "breaker": "open"}],
    "devices": {"speaker": {"device": "default", "state": "ready", "reason": ""}},
    "uptime_seconds": 61.0,
    "version": "0.1.0",
}
RECORD: dict[str, Any] = {
    "id": "a1", "state": "failed", "reason": "no network", "source": "control", "urgency": "important", "priority": 0,
    "accepted_at": 1.0, "seconds": 1.25, "services": ["fish"], "text": None,
}  # fmt: skip


def test_the_screen_shows_the_breaker_of_a_service() -> None:
    assert "speech        fish: failed, refused (circuit breaker open)" in screen(Snapshot(STATUS))


def test_a_daemon_without_a_page_has_no_queue_turns_and_levels() -> None:
    text = "\n".join(screen(Snapshot(STATUS)))
    assert all(word not in text for word in ("QUEUE", "TURNS", "UTTERANCES", "dBFS"))


@pytest.mark.parametrize(
    ("level", "bar"), [(0, "#" * 20), (-30, "#" * 10 + "." * 10), (-60, "." * 20), (-96, "." * 20), (6, "#" * 20)]
)
def test_a_level_is_a_bar(level: int, bar: str) -> None:
    assert f"speaker level    {bar} {level} dBFS" in screen(Snapshot(STATUS, levels={"speaker": level}))


def test_the_bars_of_both_devices_begin_in_the_same_column() -> None:
    lines = screen(Snapshot(STATUS, levels={"microphone": -60, "speaker": -60}))
    bars = [line.index("....") for line in lines if "dBFS" in line]
    assert bars == [len("microphone level ")] * 2


def test_queue_turns_and_utterances_have_one_line_each() -> None:
    queued = {"id": "q1", "state": "waiting", "urgency": "message", "priority": 5, "source": "web", "text": "Hi"}
    turn = {"time": 1.0, "moments": {"first_audio": 1.25}, "service": "fish", "state": "played", "heard": "time?"}
    lines = screen(Snapshot(STATUS, [RECORD], queue=[queued], turns=[turn]))
    assert 'waiting message 5 web q1 "Hi"' in lines
    assert any(line.endswith('played fish first audio 1.25 s "time?"') for line in lines)
    assert any("failed" in line and line.endswith("1.2 s important control fish no network") for line in lines)


def test_control_characters_of_a_text_do_not_reach_the_terminal() -> None:
    lines = screen(Snapshot(STATUS, [{**RECORD, "text": "a\x1b[2Jb\nc"}]))
    assert all(line.isprintable() for line in lines)


def test_the_notice_is_the_first_line() -> None:
    assert screen(Snapshot(STATUS), "notice")[0] == "notice"


@pytest.mark.parametrize("height", [1, 2, 3, 50])
@pytest.mark.parametrize("width", [1, 5, 200])
def test_lines_fit_into_any_terminal(width: int, height: int) -> None:
    lines = fit(screen(Snapshot(STATUS, [RECORD] * 20)), width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    if 1 < height < 20:
        assert lines[-1] == "..."[:width]


@pytest.mark.parametrize(
    ("width", "line"), [(1, ""), (2, "日"), (3, "日"), (4, "日本"), (5, "日本e\u0301"), (6, "日本e\u0301x")]
)
def test_wide_and_combining_characters_are_counted_in_cells(width: int, line: str) -> None:
    assert fit(["日本e\u0301x"], width, 1) == [line]
