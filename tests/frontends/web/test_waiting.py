"""The announcements that are spoken or wait."""

from __future__ import annotations

from agent.frontends.web.waiting import MAX_TEXT_CHARACTERS, WaitingList
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, PlaybackStarted
from agent.pipeline.utterance import Urgency, Utterance


def ids(waiting: WaitingList) -> list[object]:
    return [each["id"] for each in waiting.utterances(False)]


def test_announcements_are_listed_until_they_end() -> None:
    waiting = WaitingList()
    first, second = Utterance("a1", "one", source="web"), Utterance("a2", "two", priority=5)
    important = Utterance("a3", "three", urgency=Urgency.IMPORTANT)
    for utterance in (first, second):
        waiting.update(Announce(utterance))
    assert ids(waiting) == ["a2", "a1"]
    waiting.update(PlaybackStarted("a1"))
    waiting.update(Announce(important))
    assert ids(waiting) == ["a1", "a3", "a2"]
    waiting.update(Record(first, "played"))
    waiting.update(Record(Utterance("reply", None, turn=1), "played"))
    assert ids(waiting) == ["a3", "a2"]


def test_texts_are_listed_only_where_they_are_allowed() -> None:
    waiting = WaitingList()
    waiting.update(Announce(Utterance("a1", "x" * 1000, source="web")))
    waiting.update(Announce(Utterance("a2", None)))
    assert [each["text"] for each in waiting.utterances(True)] == ["x" * MAX_TEXT_CHARACTERS, ""]
    assert all("text" not in each for each in waiting.utterances(False))
