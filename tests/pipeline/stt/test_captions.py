"""Captions are written line by line, and no reader, however it behaves, keeps the daemon."""

from __future__ import annotations

import io
import os
import queue
import threading

import pytest

from agent.errors import AgentError
from agent.pipeline.events import Event, Stop
from agent.pipeline.stt.captions import MAX_PENDING_LINES, Captions
from agent.system.threads import Deadline

BOUND = 20.0


def test_every_line_is_written_before_the_end() -> None:
    reader, writer = os.pipe()
    captions = Captions(os.fdopen(writer, "w", encoding="ascii"), lambda event: None)
    captions.start()
    for text in ("good evening", "caf\u00e9", "long " * 500):
        captions.write(text)
    captions.close(Deadline(BOUND))
    captions._stream.close()
    with os.fdopen(reader) as lines:
        assert lines.read().splitlines() == ["good evening", "caf\\xe9", "long " * 500]


def test_a_reader_that_left_is_told_once_and_at_once() -> None:
    """``voice-agent run | head -1``: the second caption raised an error, and the end raised it again."""
    told: queue.SimpleQueue[Event] = queue.SimpleQueue()
    reader, writer = os.pipe()
    captions = Captions(os.fdopen(writer, "w"), told.put)
    captions.start()
    os.close(reader)
    stop = told.get(timeout=BOUND)
    assert isinstance(stop, Stop) and "the captions" in stop.reason
    captions.write("nobody reads this")
    captions.close(Deadline(BOUND))
    captions._stream.close()
    assert told.empty()


def test_a_reader_that_stands_still_keeps_nobody_waiting() -> None:
    """A full pipe that nobody reads held the main thread in its write: no signal ended the daemon any more."""
    reader, writer = os.pipe()
    captions = Captions(os.fdopen(writer, "w"), lambda event: None)
    captions.start()
    for _ in range(MAX_PENDING_LINES + 200):
        captions.write("x" * 400)
    patience = Deadline(BOUND)
    captions.close(Deadline(0.1))
    assert not patience.is_expired
    os.close(reader)


def test_what_could_not_be_started_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end raised RuntimeError in the place of the sentence that there are no more threads."""

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reader, writer = os.pipe()
    captions = Captions(os.fdopen(writer, "w"), lambda event: None)
    with monkeypatch.context() as patched, pytest.raises(AgentError, match="captions cannot be started"):
        patched.setattr(threading.Thread, "start", refused)
        captions.start()
    captions.close(Deadline(BOUND))
    assert captions._mailbox.fileno() < 0
    captions._stream.close()
    os.close(reader)


def test_memory_is_written_at_once() -> None:
    stream = io.StringIO()
    captions = Captions(stream, lambda event: None)
    captions.start()
    captions.write("good evening")
    captions.close(Deadline(0.0))
    assert stream.getvalue() == "good evening\n"
