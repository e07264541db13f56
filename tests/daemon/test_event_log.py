from __future__ import annotations

import logging

import pytest

from agent.daemon import event_log as journal
from agent.pipeline.events import ReplyEnded


def test_an_answer_that_fails_is_a_warning_that_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever had configured a wrong key, or a program that fails, heard nothing and read nothing."""
    with caplog.at_level(logging.DEBUG):
        journal.write(ReplyEnded(1), transcripts=False)
        assert not caplog.records
        journal.write(ReplyEnded(2, "command: answer ended with exit code 3\n\x1b[2J"), transcripts=False)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "no whole answer: command: answer ended with exit code 3\\n\\x1b[2J"
