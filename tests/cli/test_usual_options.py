"""The parser without argparse: it returns the options of argparse, and leaves every other command line to it."""

from __future__ import annotations

import pytest

from agent.cli.parsers import parse
from agent.cli.usual_options import parse_usual


@pytest.mark.parametrize(
    "line",
    [
        ["say", "hello"],
        ["say", "-"],
        ["say", "hello", "there", ""],
        ["say", "a text with -o in it"],
        ["say", "--service", "fish", "--output", "-", "hello"],
        ["say", "-o", "out.wav", "-s", "local", "-c", "my.yaml", "hello", "-"],
        ["say", "-s", "fish", "-s", "local", "hello"],
        ["hush"],
        ["hush", "--config", "my.yaml"],
        ["status"],
        ["status", "-c", "my.yaml"],
    ],
)
def test_options_are_those_of_argparse(line: list[str]) -> None:
    usual = parse_usual(line)
    assert usual is not None
    assert vars(usual) == vars(parse(line))


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["run"],
        ["say"],
        ["say", "-o"],
        ["say", "-o", "-x", "hello"],
        ["say", "hello", "-o", "-"],
        ["say", "--output=-", "hello"],
        ["say", "--out", "-", "hello"],
        ["say", "--", "-o"],
        ["say", "-s", "nonesuch", "hello"],
        ["say", "-h"],
        ["hush", "now"],
        ["status", "--json"],
    ],
)
def test_other_command_lines_need_argparse(line: list[str]) -> None:
    assert parse_usual(line) is None
