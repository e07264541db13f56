"""Captions are written line by line, and no reader blocks the daemon."""

from __future__ import annotations

import gc
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


def test_close_writes_every_line() -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", encoding="ascii")
    captions = Captions(stream, lambda event: None)
    captions.start()
    for text in ("good evening", "caf\u00e9", "long " * 500):
        captions.write(text)
    captions.close(Deadline(BOUND))
    stream.close()
    with os.fdopen(reader) as lines:
        assert lines.read().splitlines() == ["good evening", "caf\\xe9", "long " * 500]


def test_closed_reader_is_reported_once() -> None:
    reported: queue.SimpleQueue[Event] = queue.SimpleQueue()
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    captions = Captions(stream, reported.put)
    captions.start()
    os.close(reader)
    stop = reported.get(timeout=BOUND)
    assert isinstance(stop, Stop) and "the captions" in stop.reason
    captions.write("unread")
    captions.close(Deadline(BOUND))
    stream.close()
    assert reported.empty()


def test_blocked_reader_does_not_block_write_and_close() -> None:
    reader, writer = os.pipe()
    captions = Captions(os.fdopen(writer, "w"), lambda event: None)
    captions.start()
    for _ in range(MAX_PENDING_LINES + 200):
        captions.write("x" * 400)
    deadline = Deadline(BOUND)
    captions.close(Deadline(0.1))
    assert not deadline.is_expired
    os.close(reader)


def test_close_works_after_a_failed_start(monkeypatch: pytest.MonkeyPatch) -> None:

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    gc.collect()  # descriptors that earlier tests left to the collector
    descriptors = len(os.listdir("/proc/self/fd"))
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    captions = Captions(stream, lambda event: None)
    with monkeypatch.context() as patched, pytest.raises(AgentError, match="captions cannot be started"):
        patched.setattr(threading.Thread, "start", refused)
        captions.start()
    captions.close(Deadline(BOUND))
    stream.close()
    os.close(reader)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_stream_in_memory_is_written_at_once() -> None:
    stream = io.StringIO()
    captions = Captions(stream, lambda event: None)
    captions.start()
    captions.write("good evening")
    captions.close(Deadline(0.0))
    assert stream.getvalue() == "good evening\n"
