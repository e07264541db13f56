from __future__ import annotations

import os

import pytest

from agent.frontends.other_audio.program import ProgramError, parse, run


def test_the_output_of_a_program_is_returned() -> None:
    assert run(["sh", "-c", "echo '[1]'"], os.environ) == "[1]\n"
    assert parse("[1]\n") == [1]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/no/such/program"], "there is no program"),
        (["/etc/passwd"], "cannot be started"),
        (["sh", "-c", "echo refused >&2; exit 3"], "refused"),
        (["sh", "-c", "exit 3"], "exit code 3"),
        (["sleep", "600"], "did not end within 0.2 s"),
    ],
)
def test_a_failure_says_why(argv: list[str], words: str) -> None:
    with pytest.raises(ProgramError, match=words):
        run(argv, os.environ, 0.2)


def test_output_that_is_no_json_is_a_failure() -> None:
    with pytest.raises(ProgramError, match="no JSON"):
        parse("Sink Input #3")
