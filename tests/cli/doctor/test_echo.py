from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli.doctor import echo
from agent.cli.doctor.result import OK, WARNING
from agent.cli.status_table import describe_echo

MEASURING = {"mode": "half-duplex", "reason": "the echo is being measured", "delay_seconds": None}
FOUND = {"mode": "speech", "reason": "", "delay_seconds": 0.12, "drift_ppm": 50.4, "return_loss_db": 30.6}


def test_measures_are_described_with_their_units() -> None:
    assert describe_echo(FOUND) == "interruption: speech, 120 ms delay, 50 ppm drift, 31 dB return loss"
    assert describe_echo(MEASURING) == "interruption: half-duplex (the echo is being measured)"


@pytest.mark.parametrize(("measures", "verdict"), [(None, OK), (MEASURING, WARNING), (FOUND, OK)])
def test_verdict_depends_on_the_delay(
    measures: dict[str, object] | None, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(echo, "request", lambda path, method: {"echo": measures})
    assert echo.check_echo(None).verdict == verdict


def test_daemon_that_does_not_run_is_no_error(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"control: {{socket: {tmp_path}/none.sock}}\n")
    assert echo.check_echo(str(config)).verdict == OK
