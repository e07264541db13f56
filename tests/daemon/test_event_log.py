from __future__ import annotations

import logging

import pytest

from agent.daemon.event_log import log_event, log_record
from agent.pipeline.actions import Record
from agent.pipeline.events import ReplyEnded
from agent.pipeline.utterance import Utterance


def test_failed_reply_is_logged_as_a_warning_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_event(ReplyEnded(1), transcripts=False)
        assert not caplog.records
        log_event(ReplyEnded(2, "command: answer ended with exit code 3\n\x1b[2J"), transcripts=False)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "command: answer ended with exit code 3\\n\\x1b[2J" in record.getMessage()


@pytest.mark.parametrize(
    ("record", "services", "text", "line"),
    [
        (Record(Utterance("u-1", "x", priority=5), "played", "", 1.94), ["fish"], None,
         "u-1: played by fish, 1.9 s, priority=5"),
        (Record(Utterance("u-1", "x"), "played", "", 1.9), ["fish", "local"], "Hello\x1b ...",
         'u-1: played by fish, local, 1.9 s, priority=0, text="Hello\\x1b ..."'),
        (Record(Utterance("u-1", "x"), "cancelled", "by control", 0.5, 0.25), ["fish"], None,
         "u-1: cancelled (by control), 0.5 s, 0.25 s of audio dropped, priority=0"),
        (Record(Utterance("u-1", "x", priority=-3), "failed", "no service"), [], "Hello",
         'u-1: failed (no service), 0.0 s, priority=-3, text="Hello"'),
    ],
)  # fmt: skip
def test_line_of_an_utterance_has_service_priority_and_words(
    caplog: pytest.LogCaptureFixture, record: Record, services: list[str], text: str | None, line: str
) -> None:
    with caplog.at_level(logging.INFO):
        log_record(record, services, text)
    (logged,) = caplog.records
    assert logged.getMessage() == line
