from __future__ import annotations

from agent.pipeline.announcement_queue import MAX_QUEUED, MAX_QUEUED_CHARACTERS, AnnouncementQueue
from agent.pipeline.utterance import TIMER, Urgency, Utterance


def drain(queue: AnnouncementQueue) -> list[str]:
    names = []
    while (entry := queue.pop()) is not None:
        names.append(entry[0].id)
    return names


def test_order_is_important_then_rank_then_arrival() -> None:
    queue = AnnouncementQueue()
    for utterance in (
        Utterance("low", "x", priority=-1),
        Utterance("first", "x"),
        Utterance("high", "x", priority=100),
        Utterance("reply", None, turn=1),
        Utterance("second", "x"),
        Utterance("alarm", "x", priority=-100, urgency=Urgency.IMPORTANT),
        Utterance("later alarm", "x", urgency=Urgency.IMPORTANT),
    ):
        assert queue.add(utterance) is None
    assert queue.has_important and "reply" in queue and "unknown" not in queue
    assert drain(queue) == ["alarm", "later alarm", "high", "reply", "first", "second", "low"]


def test_full_queue_refuses_announcements_and_takes_a_reply_and_a_timer() -> None:
    queue = AnnouncementQueue()
    assert all(queue.add(Utterance(f"u{number}", "x")) is None for number in range(MAX_QUEUED))
    problem = queue.add(Utterance("important", "x", urgency=Urgency.IMPORTANT))
    assert problem is not None and "100 announcements" in problem
    assert queue.add(Utterance("reply", None, turn=1)) is None
    assert queue.add(Utterance("timer", "x", source=TIMER, urgency=Urgency.IMPORTANT)) is None
    assert len(queue) == MAX_QUEUED + 2


def test_all_texts_together_are_bounded() -> None:
    queue = AnnouncementQueue()
    half = MAX_QUEUED_CHARACTERS // 2
    assert queue.add(Utterance("whole", "x" * half)) is None
    assert queue.add(Utterance("pieces", None)) is None
    assert queue.append("pieces", "x" * half) is None
    for problem in (queue.append("pieces", "x"), queue.add(Utterance("more", "x"))):
        assert problem is not None and "1,000,000 characters" in problem
    assert queue.add(Utterance("timer", "Tea.", source=TIMER)) is None
    assert queue.remove("timer") is not None and queue.remove("whole") is not None
    assert queue.append("pieces", "x" * half) is None
    assert queue.pop() is not None and len(queue) == 0
    assert queue.add(Utterance("last", "x" * MAX_QUEUED_CHARACTERS)) is None


def test_removed_utterance_leaves_the_order_of_the_others() -> None:
    queue = AnnouncementQueue()
    for number in range(20):
        queue.add(Utterance(f"u{number}", None, priority=number % 3))
    removed = queue.remove("u7")
    assert removed is not None and removed.id == "u7"
    assert queue.remove("u7") is None and queue.pending_text("u7") is None
    left = [f"u{number}" for rank in (2, 1, 0) for number in range(20) if number % 3 == rank and number != 7]
    assert drain(queue) == left


def test_next_one_precedes_a_message_of_a_lower_rank() -> None:
    queue = AnnouncementQueue()
    assert not queue.precedes(0)
    queue.add(Utterance("a", "x", priority=0))
    assert not queue.precedes(0) and queue.precedes(-1)
    queue.add(Utterance("b", "x", urgency=Urgency.IMPORTANT))
    assert queue.precedes(100)
