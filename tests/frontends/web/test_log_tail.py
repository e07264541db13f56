"""The log in memory."""

from __future__ import annotations

import io
import logging

import pytest

from agent.frontends.web.log_tail import MAX_LINES, LogTail
from agent.system.log import hide_secret, set_up_logging

log = logging.getLogger("agent.test")


@pytest.fixture
def tail() -> LogTail:
    set_up_logging("info", {}, io.StringIO())
    hide_secret("a secret of before")
    tail = LogTail()
    tail.install()
    return tail


def test_secrets_are_masked(tail: LogTail) -> None:
    hide_secret("a secret of now")
    log.warning("service: refused, key=%s, other=%s", "a secret of before", "a secret of now")
    (line,) = tail.tail()
    assert (line.level, line.text) == ("warning", "service: refused, key=***, other=***")


def test_only_the_last_lines_are_kept(tail: LogTail) -> None:
    for number in range(MAX_LINES + 10):
        log.info("line: number=%d", number)
    log.debug("line: not logged")
    lines = tail.tail()
    assert (len(lines), lines[0].text, lines[-1].text) == (
        MAX_LINES,
        "line: number=10",
        f"line: number={MAX_LINES + 9}",
    )
