from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.pipeline.responders.echo import EchoResponder, SilentResponder
from agent.pipeline.responders.rules import RulesResponder, matcher, spoken_time
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


def test_default_rules_are_valid() -> None:
    defaults = ResponderSettings().rules
    assert not list(ResponderSettings(rules=(*defaults, RuleSettings("x", "y"))).check())


@pytest.mark.parametrize("heard", ["$(reboot)", "; rm -rf /", "-rf", "\0\x1b[2J", "\ud800", "x" * 1_000_000])
def test_hostile_text_is_treated_as_text(heard: str) -> None:
    assert answer("{heard}", heard=heard, pattern="") == [heard[:4000]]
    assert list(SilentResponder().reply(heard, 1)) == []
    assert "".join(" ".join(EchoResponder().reply(heard, 1)).split()) == "".join(heard.split()) or len(heard) > 300


def default_answer(question: str) -> list[str]:
    settings = ResponderSettings()
    rules = RulesResponder(settings.rules, settings.fallback, clock=lambda: datetime(2026, 11, 21, 9, 0))
    return list(rules.reply(question, 1))


UNKNOWN = "Sorry, I did not understand that."


@pytest.mark.parametrize(
    "question",
    [
        "What's the time?",
        "What’s the time?",
        "whats the time",
        "Hey, what time is it?",
        "do you know what time it is",
        "Could you tell me the time, please?",
        "Do you have the time?",
        "What is the current time?",
        "what time is it right now",
        "Time, please.",
    ],
)
def test_default_rules_tell_the_time(question: str) -> None:
    assert default_answer(question) == ["It is 9 AM."]


@pytest.mark.parametrize(
    "question",
    [
        "What day is it?",
        "What day is it today?",
        "Which day of the week is it?",
        "What's the date?",
        "what is today's date",
        "What is today?",
        "Tell me the date.",
        "What month is it?",
        "What year are we in?",
        "Is it Monday today?",
    ],
)
def test_default_rules_tell_the_date(question: str) -> None:
    assert default_answer(question) == ["Today is Saturday, November 21, 2026."]


@pytest.mark.parametrize(
    "question",
    [
        "Hello!",
        "Good morning.",
        "Good night.",
        "Goodbye.",
        "How are you?",
        "Who are you?",
        "What's your name?",
        "What can you do?",
        "Are you there?",
        "Can you hear me?",
        "Thank you.",
        "Help!",
        "What's the weather like?",
        "Tell me a joke.",
        "Set a timer for five minutes.",
    ],
)
def test_default_rules_answer_usual_questions(question: str) -> None:
    (answer,) = default_answer(question)
    assert answer != UNKNOWN and "9 AM" not in answer and "November" not in answer


@pytest.mark.parametrize(
    "question",
    [
        "What time does the museum close?",
        "What time is the meeting?",
        "What time is it in Tokyo?",
        "What day does the shop open?",
        "What date is Easter?",
        "I had a date yesterday.",
        "It was a long time.",
        "xyzzy",
    ],
)
def test_default_rules_do_not_answer_questions_about_other_times(question: str) -> None:
    assert default_answer(question) == [UNKNOWN]


def test_default_rule_for_stop_is_silent() -> None:
    assert default_answer("stop") == default_answer("Stop the music!") == []


def test_changed_time_zone_is_used_at_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = RulesResponder([RuleSettings("time", "{time}")])
    try:
        for zone, hours in (("UTC0", 0), ("XYZ-5", 5), ("XYZ+7", -7)):
            monkeypatch.setenv("TZ", zone)
            before = datetime.now(UTC) + timedelta(hours=hours)
            answer = list(rules.reply("time", 1))
            after = datetime.now(UTC) + timedelta(hours=hours)
            assert answer in ([spoken_time(before)], [spoken_time(after)])
    finally:
        monkeypatch.undo()
        time.tzset()


def test_echo_yields_the_transcript() -> None:
    assert list(EchoResponder().reply("One. Two", 1)) == ["One. Two"]


def test_matcher_knows_the_complete_requests_of_the_rules() -> None:
    rules = [RuleSettings(pattern, "") for pattern in ("what time", "remind me to (.+)", "hello( there)?$", "a{2,}")]
    knows = matcher(rules)
    assert knows("What TIME is it") and knows("hello")
    assert not knows("remind me to call") and not knows("aaa") and not knows("good morning")
