"""The help of each command: every line starts with a verb, and every metavar is a word."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

import pytest

from agent.cli.main import build_parser, build_run_parser

# fmt: off
VERBS = {
    "accept", "ask", "check", "close", "end", "limit", "listen", "list", "load",
    "mute", "omit", "play", "print", "read", "record", "require", "run", "send",
    "set", "show", "speak", "stop", "transcribe", "unmute", "use", "wait", "write",
}
# fmt: on


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield a parser and the parsers of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from parsers(command)


def help_lines(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Yield the name and the help of each argument and command; without a help it is empty."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from ((choice.dest, choice.help or "") for choice in action._choices_actions)
        else:
            yield ("/".join(action.option_strings) or action.dest, action.help or "")


PARSERS = [*parsers(build_parser()), build_run_parser()]


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_each_help_line_starts_with_a_verb(parser: argparse.ArgumentParser) -> None:
    wrong = [f"{name}: {help}" for name, help in help_lines(parser) if first_word(help) not in VERBS]
    assert wrong == []
    assert parser.description is None or first_word(parser.description) in VERBS


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_each_metavar_is_a_word(parser: argparse.ArgumentParser) -> None:
    metavars = [action.metavar for action in parser._actions if action.metavar is not None]
    assert [metavar for metavar in metavars if not re.fullmatch("[A-Z]{2,}", str(metavar))] == []
    bare = [action for action in parser._actions if action.nargs != 0 and not (action.metavar or action.choices)]
    assert [action.dest for action in bare] == []


def first_word(text: str) -> str:
    return re.split(r"\W", text, maxsplit=1)[0].lower()
