"""A service's invalid messages and log lines are limited in the log, and too many invalid messages end a session."""

from __future__ import annotations

import logging

import pytest

from agent.services.protocols import playai, transcription, vachana
from agent.services.protocols.codec import Client, Failure
from agent.services.service_log import MAX_LOG_LINES, MAX_REFUSED_MESSAGES, ServiceLog

REFUSED = Failure("plain", "a number", "text")


def test_log_refused_logs_the_first_message_and_close_the_total(caplog: pytest.LogCaptureFixture) -> None:
    service_log = ServiceLog("plain")
    assert [service_log.count_refused(REFUSED) for _ in range(3)] == [None] * 3
    service_log.close()
    first, total = caplog.records
    assert first.levelno == total.levelno == logging.WARNING
    assert "plain" in first.getMessage() and "a number" in first.getMessage() and "text" in first.getMessage()
    assert "refused_messages=3" in total.getMessage()


def test_log_refused_returns_the_reason_to_end_after_the_limit() -> None:
    service_log = ServiceLog("plain")
    assert [service_log.count_refused(REFUSED) for _ in range(MAX_REFUSED_MESSAGES)] == [None] * MAX_REFUSED_MESSAGES
    reason = service_log.count_refused(REFUSED)
    assert reason is not None and str(MAX_REFUSED_MESSAGES + 1) in reason and "a number" in reason


def test_log_message_escapes_and_limits_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service_log = ServiceLog("plain")
    for number in range(MAX_LOG_LINES + 5):
        service_log.log_message(f"queue \x1b[31m{number}")
    assert len(caplog.messages) == MAX_LOG_LINES
    assert "plain" in caplog.messages[0] and "queue" in caplog.messages[0] and "\x1b" not in caplog.text


def test_messages_of_other_requests_are_counted_and_never_end_a_session(caplog: pytest.LogCaptureFixture) -> None:
    service_log = ServiceLog("plain")
    foreign = Failure("plain", "the end of a", "the end of b", fatal=False, is_foreign=True)
    count = 3 * MAX_REFUSED_MESSAGES
    assert [service_log.count_refused(foreign) for _ in range(count)] == [None] * count
    service_log.close()
    first, total = caplog.messages
    assert "the end of a" in first and f"messages_of_other_requests={count}" in total


def test_messages_of_an_unknown_type_never_end_a_session_and_count_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    service_log = ServiceLog("plain")
    unknown = Failure("plain", "a word time", "audio", fatal=False, is_unknown=True)
    count = 3 * MAX_REFUSED_MESSAGES
    assert [service_log.count_refused(unknown) for _ in range(count)] == [None] * count
    assert [service_log.count_refused(REFUSED) for _ in range(MAX_REFUSED_MESSAGES)] == [None] * MAX_REFUSED_MESSAGES
    assert service_log.count_refused(REFUSED) is not None
    service_log.close()
    assert "a word time" in caplog.messages[0] and f"={count + MAX_REFUSED_MESSAGES + 1}" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("codec", "message", "is_unknown"),
    [
        (playai.Client("wss://host/path", "voice"), '{"type": "word", "request_id": "r"}', True),
        (playai.Client("wss://host/path", "voice"), '{"type": 7}', False),
        (vachana.Client("wss://host/path"), '{"type": "word"}', True),
        (vachana.Client("wss://host/path"), "{}", False),
        (transcription.Client("wss://host/path"), '{"language": "de"}', True),
        (transcription.Client("wss://host/path"), '{"text": 7}', False),
    ],
)
def test_only_a_valid_message_of_another_type_is_unknown(codec: Client, message: str, is_unknown: bool) -> None:
    (failure,) = codec.receive(message)
    assert isinstance(failure, Failure) and not failure.fatal and failure.is_unknown is is_unknown
