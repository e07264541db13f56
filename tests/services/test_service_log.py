"""What a service sends besides its business never floods the log, and too much without sense ends its session."""

from __future__ import annotations

import logging

import pytest

from agent.services.protocols.codec import Failure
from agent.services.service_log import MAX_LOG_LINES, MAX_REFUSED_MESSAGES, ServiceLog

NONSENSE = Failure("plain", "a number", "text")


def test_messages_without_sense_are_told_once_and_summed_up_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    remarks = ServiceLog("plain")
    assert [remarks.log_refused(NONSENSE) for _ in range(3)] == [None] * 3
    remarks.close()
    assert caplog.messages == [
        "plain: passed over a number; expected text",
        "plain: 3 messages of a session were passed over",
    ]


def test_too_many_messages_without_sense_are_a_reason_to_end() -> None:
    remarks = ServiceLog("plain")
    assert [remarks.log_refused(NONSENSE) for _ in range(MAX_REFUSED_MESSAGES)] == [None] * MAX_REFUSED_MESSAGES
    assert (
        remarks.log_refused(NONSENSE) == f"{MAX_REFUSED_MESSAGES + 1} of its messages made no sense, the last a number"
    )


def test_what_a_service_says_about_itself_is_written_without_escapes_and_only_so_often(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    remarks = ServiceLog("plain")
    for number in range(MAX_LOG_LINES + 5):
        remarks.log_message(f"queue \x1b[31m{number}")
    assert len(caplog.messages) == MAX_LOG_LINES
    assert caplog.messages[0].startswith("plain says: queue ") and "\x1b" not in caplog.text
