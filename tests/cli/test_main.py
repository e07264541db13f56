"""Usage errors and short options of the command line."""

from __future__ import annotations

import pytest

from agent.cli.main import main
from agent.cli.parsers import parse


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["say", "--loud", "hello"], "say"),
        (["say"], "say"),
        (["status", "now"], "status"),
        (["hush", "-x"], "hush"),
        (["volume", "30", "40"], "volume"),
        (["doctor", "--hear"], "doctor"),
        (["config", "chek"], "config"),
        (["run", "--colour"], "run"),
        (["transcribe", "a.wav", "b.wav"], "transcribe"),
    ],
)
def test_usage_error_prints_the_usage_of_the_command(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(words)
    errors = capsys.readouterr().err
    assert exit.value.code == 2
    assert errors.startswith(f"usage: voice-agent {command} [-h]")
    assert f"\nvoice-agent {command}: error: " in errors


def test_short_options_are_the_long_ones() -> None:

    said = parse(["say", "-c", "a.yaml", "-s", "fish", "-o", "out.wav", "-w", "hello"])
    assert (said.config, said.service, said.output, said.wait, said.text) == (
        "a.yaml", "fish", "out.wav", True, ["hello"],
    )  # fmt: skip
    assert parse(["status", "-j"]).json and parse(["transcribe", "-j", "-c", "b.yaml"]).config == "b.yaml"
    assert parse(["demo", "-s", "local", "-o", "a.wav", "-j"]).output == "a.wav"
    assert parse(["run", "-c", "c.yaml"]).config == "c.yaml"
