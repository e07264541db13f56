from __future__ import annotations

from datetime import datetime

import pytest

from agent.errors import ConfigError
from agent.pipeline.responders.echo import EchoResponder, SilentResponder
from agent.pipeline.responders.rules import RulesResponder, spoken_time
from agent.pipeline.responders.settings import ResponderSettings, RuleSettings


def answer(reply: str, heard: str = "hello Bob", pattern: str = "hello", fallback: str = "") -> list[str]:
    rules = RulesResponder([RuleSettings(pattern, reply)], fallback, clock=lambda: datetime(2026, 11, 21, 15, 4))
    return list(rules.reply(heard, 1))


def test_the_first_rule_that_matches_answers_and_case_is_ignored() -> None:
    rules = RulesResponder([RuleSettings("tea", "one"), RuleSettings("coffee|tea", "two")], "three")
    assert list(rules.reply("More TEA!", 1)) == ["one"]
    assert list(rules.reply("coffee", 2)) == ["two"]
    assert list(rules.reply("milk", 3)) == ["three"]


def test_time_date_and_weekday_are_filled_in_as_they_are_spoken() -> None:
    assert answer("It is {time} on {weekday}, {date}.") == ["It is 3:04 PM on Saturday, November 21, 2026."]


@pytest.mark.parametrize(
    ("hour", "minute", "spoken"), [(0, 0, "12 AM"), (0, 5, "12:05 AM"), (12, 30, "12:30 PM"), (23, 59, "11:59 PM")]
)
def test_a_time_of_day_is_written_for_a_speech_engine(hour: int, minute: int, spoken: str) -> None:
    assert spoken_time(datetime(2026, 1, 1, hour, minute)) == spoken


def test_groups_and_what_was_heard_are_filled_in() -> None:
    assert answer("{1}, {who}, {0}: {heard}", pattern=r"hello (?P<who>\w+)") == ["Bob, Bob, hello Bob: hello Bob"]
    assert answer("<{2}>", pattern=r"(hello)|(bye)") == ["<>"]


@pytest.mark.parametrize("reply", ["{nothing}", "{7}", "{", "}", "{}", "{{x}}", "{heard.__class__}", "{0!r:>9}", "%s"])
def test_a_field_that_does_not_exist_is_left_as_it_is_written(reply: str) -> None:
    assert answer(reply) == [reply]


def test_braces_in_what_was_heard_are_never_looked_into() -> None:
    assert answer("You said {heard}", heard="hello {time} {0}") == ["You said hello {time} {0}"]


def test_an_empty_reply_is_no_answer() -> None:
    assert answer("") == []
    assert answer("x", heard="nothing that matches") == []


def test_a_pattern_that_is_no_regular_expression_is_a_mistake_in_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"responder\.rules\[1\]\.pattern: '\(' is not a regular expression"):
        RulesResponder([RuleSettings("fine", ""), RuleSettings("(", "")])


@pytest.mark.parametrize("heard", ["$(reboot)", "; rm -rf /", "-rf", "\0\x1b[2J", "\ud800", "x" * 1_000_000])
def test_hostile_text_is_only_text(heard: str) -> None:
    assert answer("{heard}", heard=heard, pattern="") == [heard[:4000]]
    assert list(SilentResponder().reply(heard, 1)) == []
    assert "".join(" ".join(EchoResponder().reply(heard, 1)).split()) == "".join(heard.split()) or len(heard) > 300


def test_the_rules_of_the_defaults_answer() -> None:
    settings = ResponderSettings()
    rules = RulesResponder(settings.rules, settings.fallback, clock=lambda: datetime(2026, 11, 21, 9, 0))
    assert list(rules.reply("Hey, what time is it?", 1)) == ["It is 9 AM."]
    assert list(rules.reply("What day is it today?", 2)) == ["Today is Saturday, November 21, 2026."]
    assert list(rules.reply("stop", 3)) == []
    assert list(rules.reply("xyzzy", 4)) == ["Sorry, I did not understand that."]


def test_echo_repeats_sentence_by_sentence() -> None:
    assert list(EchoResponder().reply("One. Two", 1)) == ["One.", "Two"]
