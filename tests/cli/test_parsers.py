from __future__ import annotations

import pytest

from agent.cli.parsers import CHIMES, MAX_HISTORY, MAX_RANK, PRIORITIES, parse
from agent.frontends.api import methods
from agent.frontends.api.described import EVENTS
from agent.pipeline.settings import CHIMES as SHIPPED_CHIMES
from agent.pipeline.settings import NO_CHIME
from agent.pipeline.utterance import Urgency


def test_values_of_say_are_those_of_the_api() -> None:
    assert tuple(urgency.value for urgency in Urgency) == PRIORITIES
    assert (NO_CHIME, *SHIPPED_CHIMES) == CHIMES
    assert (MAX_RANK, MAX_HISTORY) == (methods.MAX_PRIORITY, methods.MAX_HISTORY)


def test_help_of_events_names_all_events(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        parse(["events", "--help"])
    assert ", ".join(EVENTS) in capsys.readouterr().out


@pytest.mark.parametrize(("word", "value"), [("important", "important"), ("-100", -100), ("7", 7)])
def test_priority_is_a_name_or_a_rank(word: str, value: object) -> None:
    assert parse(["say", "--priority", word, "hello"]).priority == value


@pytest.mark.parametrize(
    "words",
    [
        ["say", "--priority", "101", "x"],
        ["say", "--priority", "loud", "x"],
        ["say", "--chime", "file:/etc/passwd", "x"],
        ["say", "--volume", "101", "x"],
        ["say", "--ttl", "soon", "x"],
        ["say", "--ttl", "nan", "x"],
        ["say", "--ttl", "-5", "x"],
        ["meter", "--seconds", "inf"],
        ["fleet", "say", "--timeout", "nan", "x"],
        ["history", "-n", "0"],
        ["cancel"],
    ],
)
def test_values_that_cannot_be_used_are_usage_errors(words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        parse(words)
    assert exit.value.code == 2


def test_say_waits_by_default() -> None:
    assert parse(["say", "hello"]).wait is parse(["say", "-w", "hello"]).wait is True
    assert parse(["say", "--no-wait", "hello"]).wait is False
    assert parse(["say", "-S"]).text == []
