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


def test_first_matching_rule_replies_ignoring_case() -> None:
    rules = RulesResponder([RuleSettings("tea", "one"), RuleSettings("coffee|tea", "two")], "three")
    assert list(rules.reply("More TEA!", 1)) == ["one"]
    assert list(rules.reply("coffee", 2)) == ["two"]
    assert list(rules.reply("milk", 3)) == ["three"]


def test_time_date_and_weekday_are_replaced() -> None:
    assert answer("It is {time} on {weekday}, {date}.") == ["It is 3:04 PM on Saturday, November 21, 2026."]


@pytest.mark.parametrize(
    ("hour", "minute", "spoken"), [(0, 0, "12 AM"), (0, 5, "12:05 AM"), (12, 30, "12:30 PM"), (23, 59, "11:59 PM")]
)
def test_spoken_time_formats_a_time_of_day(hour: int, minute: int, spoken: str) -> None:
    assert spoken_time(datetime(2026, 1, 1, hour, minute)) == spoken


def test_groups_and_transcript_are_replaced() -> None:
    assert answer("{1}, {who}, {0}: {heard}", pattern=r"hello (?P<who>\w+)") == ["Bob, Bob, hello Bob: hello Bob"]
    assert answer("<{2}>", pattern=r"(hello)|(bye)") == ["<>"]


@pytest.mark.parametrize("reply", ["{nothing}", "{7}", "{", "}", "{}", "{{x}}", "{heard.__class__}", "{0!r:>9}", "%s"])
def test_unknown_field_stays_as_it_is(reply: str) -> None:
    assert answer(reply) == [reply]


def test_braces_in_the_transcript_are_not_interpreted() -> None:
    assert answer("You said {heard}", heard="hello {time} {0}") == ["You said hello {time} {0}"]


def test_empty_reply_yields_nothing() -> None:
    assert answer("") == []
    assert answer("x", heard="nothing that matches") == []


def test_invalid_pattern_raises_config_error() -> None:
    with pytest.raises(ConfigError, match=r"responder\.rules\[1\]\.pattern: '\(' is not a regular expression"):
        RulesResponder([RuleSettings("fine", ""), RuleSettings("(", "")])


@pytest.mark.parametrize("heard", ["$(reboot)", "; rm -rf /", "-rf", "\0\x1b[2J", "\ud800", "x" * 1_000_000])
def test_hostile_text_is_treated_as_text(heard: str) -> None:
    assert answer("{heard}", heard=heard, pattern="") == [heard[:4000]]
    assert list(SilentResponder().reply(heard, 1)) == []
    assert "".join(" ".join(EchoResponder().reply(heard, 1)).split()) == "".join(heard.split()) or len(heard) > 300


def test_default_rules_reply() -> None:
    settings = ResponderSettings()
    rules = RulesResponder(settings.rules, settings.fallback, clock=lambda: datetime(2026, 11, 21, 9, 0))
    assert list(rules.reply("Hey, what time is it?", 1)) == ["It is 9 AM."]
    assert list(rules.reply("What day is it today?", 2)) == ["Today is Saturday, November 21, 2026."]
    assert list(rules.reply("stop", 3)) == []
    assert list(rules.reply("xyzzy", 4)) == ["Sorry, I did not understand that."]


def test_echo_yields_sentences() -> None:
    assert list(EchoResponder().reply("One. Two", 1)) == ["One.", "Two"]
