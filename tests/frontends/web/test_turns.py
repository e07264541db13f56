"""The last turns and their moments."""

from __future__ import annotations

from support.timing import Clock

from agent.frontends.frontend import Notification
from agent.frontends.web.turns import MAX_TURNS, TurnLog
from agent.pipeline.actions import Record
from agent.pipeline.events import AudioArrived, Heard, PlaybackStarted, Reply, SpeechEnded
from agent.pipeline.status import CurrentUtterance, Status
from agent.pipeline.utterance import Utterance


def speaking(utterance: str, source: str = "reply") -> Status:
    return Status("speaking", "speaking", saying=CurrentUtterance(utterance, "", 0, source))


def run(log: TurnLog, clock: Clock, steps: list[tuple[float, Notification]]) -> None:
    for at, notification in steps:
        clock.now = at
        log.update(notification)


def test_turn_has_its_five_moments() -> None:
    clock = Clock()
    log = TurnLog(clock)
    reply = Utterance("r1", None, turn=1)
    steps: list[tuple[float, Notification]] = [
        (100.5, SpeechEnded(0.5)),
        (100.7, Heard("what time is it")),
        (101.0, Reply(1, "It is")),
        (101.0, speaking("r1")),
        (101.2, Reply(1, "eight.")),
        (101.25, AudioArrived("r1", "fish")),
        (101.3, PlaybackStarted("r1")),
        (103.0, Record(reply, "played", seconds=1.7)),
        (104.0, PlaybackStarted("a1")),
    ]
    run(log, clock, steps)
    (turn,) = log.turns(True)
    assert turn["moments"] == {"transcript": 0.7, "first_text": 1.0, "first_audio": 1.3, "last_audio": 3.0}
    assert (turn["heard"], turn["reply"]) == ("what time is it", "It is eight.")
    assert (turn["turn"], turn["service"], turn["state"]) == (1, "fish", "played")
    assert {"heard", "reply"}.isdisjoint(log.turns(False)[0])


def test_announcement_is_no_part_of_a_turn() -> None:
    clock = Clock()
    log = TurnLog(clock)
    steps: list[tuple[float, Notification]] = [
        (100.0, speaking("a1", "control")),
        (100.1, PlaybackStarted("a1")),
        (100.2, SpeechEnded()),
        (100.3, Heard("")),
        (100.4, Heard("hello")),
        (100.5, speaking("a2", "control")),
        (100.6, PlaybackStarted("a2")),
        (100.9, Record(Utterance("a2", "text"), "played")),
    ]
    run(log, clock, steps)
    (turn,) = log.turns(True)
    assert (turn["moments"], turn["state"]) == ({"transcript": 0.2}, None)


def test_cancelled_reply_without_audio_has_no_last_audio() -> None:
    clock = Clock()
    log = TurnLog(clock)
    reply = Utterance("r1", None, turn=1)
    run(log, clock, [(100.0, Heard("hello")), (100.0, speaking("r1")), (100.2, Record(reply, "cancelled"))])
    (turn,) = log.turns(True)
    assert (turn["moments"], turn["state"]) == ({"transcript": 0.0}, "cancelled")


def test_only_the_last_turns_are_kept() -> None:
    log = TurnLog()
    for number in range(MAX_TURNS + 5):
        log.update(Heard(f"text {number}"))
    turns = log.turns(True)
    assert [turn["turn"] for turn in turns] == list(range(MAX_TURNS + 5, 5, -1))


def test_a_reply_that_a_new_question_cancels_belongs_to_its_own_turn() -> None:
    log = TurnLog()
    for each in (Heard("play jazz"), speaking("r1"), PlaybackStarted("r1"), Heard("in the kitchen"), speaking("r1")):
        log.update(each)
    log.update(Record(Utterance("r1", None, turn=1), "cancelled"))
    assert [turn["state"] for turn in log.turns(False)] == [None, "cancelled"]
