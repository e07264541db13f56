from __future__ import annotations

import pytest

from agent.cli.status_table import table

STATUS = {
    "status": "no microphone: waiting for any; speaking",
    "state": "speaking",
    "mode": "assistant",
    "saying": {"utterance": "0f3a-control-1", "text": "Hello\x1b[2J", "priority": 5, "source": "control"},
    "queue": 2,
    "volume": 70,
    "services": [
        {"name": "fish", "role": "speech", "state": "failed", "reason": "refused the key", "breaker": "open"},
        {"name": "local", "role": "speech", "state": "ready", "reason": ""},
        {"name": "transcription", "role": "transcription", "state": "connected", "reason": ""},
    ],
    "devices": {"microphone": {"device": "default", "state": "lost", "reason": "it was unplugged"}},
    "troubles": ["no microphone: waiting for any", "fish refused the key"],
    "uptime_seconds": 93784.0,
    "version": "0.1.0",
}


def test_table_has_a_line_for_each_field() -> None:
    assert table(STATUS).splitlines() == [
        "status        no microphone: waiting for any; speaking",
        "state         speaking (mode assistant)",
        'saying        "Hello\\x1b[2J" (priority 5, 0f3a-control-1)',
        "queue         2",
        "volume        70 %",
        "speech        fish: failed, refused the key (circuit breaker open)",
        "              local: ready",
        "transcription connected",
        "microphone    default: lost, it was unplugged",
        "trouble       no microphone: waiting for any",
        "              fish refused the key",
        "uptime        1 d 2 h",
        "version       0.1.0",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (200000, "2 d 7 h")]
)
def test_uptime_has_two_units(seconds: float, text: str) -> None:
    assert f"uptime        {text}" in table({"uptime_seconds": seconds}).splitlines()


def test_answer_of_an_older_daemon_is_printed() -> None:
    lines = table({"status": "ready to speak", "state": "idle", "volume": None}).splitlines()
    assert "volume        not used in this mode" in lines and "saying        nothing" in lines
