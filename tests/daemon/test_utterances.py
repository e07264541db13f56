from __future__ import annotations

from agent.daemon.utterance_store import MAX_KEPT_CHARACTERS
from agent.daemon.utterances import UtteranceTracker
from agent.pipeline.actions import AppendText, Record, StartUtterance
from agent.pipeline.events import AudioArrived
from agent.pipeline.status import CurrentUtterance
from agent.pipeline.utterance import Utterance


def test_tracker_knows_the_text_and_the_services_of_an_utterance() -> None:
    tracker = UtteranceTracker()
    assert tracker.saying is None
    utterance = Utterance("u-1", "Hello there.", priority=5, source="control")
    tracker.record_action(StartUtterance(utterance))
    for service in ("neuphonic", "local", "local"):
        tracker.update(AudioArrived("u-1", service))
    assert tracker.saying == CurrentUtterance("u-1", "Hello there.", 5, "control")
    spoken = tracker.end(Record(utterance, "played"))
    assert (spoken.excerpt, spoken.services) == ("Hello there.", ["neuphonic", "local"])
    assert tracker.saying is None


def test_text_that_arrives_in_pieces_is_cut_at_a_word() -> None:
    tracker = UtteranceTracker()
    utterance = Utterance("u-1", None)
    tracker.record_action(StartUtterance(utterance))
    for _ in range(1000):
        tracker.record_action(AppendText("u-1", "word\n"))
    assert tracker.end(Record(utterance, "played")).excerpt == " ".join(["word"] * 12) + " ..."


def test_beginning_of_a_text_is_longer_than_its_excerpt() -> None:
    text = "\n".join(["word"] * 100)
    in_pieces, complete = Utterance("u-1", None), Utterance("u-2", text)
    tracker = UtteranceTracker()
    tracker.record_action(StartUtterance(in_pieces))
    for piece in text.splitlines(keepends=True):
        tracker.record_action(AppendText("u-1", piece))
    for utterance in (in_pieces, complete):
        assert tracker.end(Record(utterance, "played")).beginning == text[:MAX_KEPT_CHARACTERS]


def test_text_without_spaces_is_cut() -> None:
    tracker = UtteranceTracker()
    tracker.record_action(StartUtterance(Utterance("u-1", "x" * 100_000)))
    assert tracker.saying is not None and tracker.saying.text == "x" * 60 + " ..."


def test_utterance_that_never_started_has_its_text() -> None:
    tracker = UtteranceTracker()
    tracker.update(AudioArrived("u-9", "local"))
    spoken = tracker.end(Record(Utterance("u-9", "queued"), "cancelled"))
    assert (spoken.excerpt, spoken.services) == ("queued", [])
