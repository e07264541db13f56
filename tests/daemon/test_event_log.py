from __future__ import annotations

import logging

import pytest

from agent.daemon.event_log import log_event
from agent.pipeline.events import ReplyEnded


def test_failed_reply_is_logged_as_a_warning_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log_event(ReplyEnded(1), transcripts=False)
        assert not caplog.records
        log_event(ReplyEnded(2, "command: answer ended with exit code 3\n\x1b[2J"), transcripts=False)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "command: answer ended with exit code 3\\n\\x1b[2J" in record.getMessage()
