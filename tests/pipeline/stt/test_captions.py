"""Captions are written line by line, and no reader blocks the daemon."""

from __future__ import annotations

import errno
import gc
import io
import os
import queue
import threading
from pathlib import Path

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


class Disk:
    """Replaces ``os.write`` for one file: ``room`` has the bytes that fit for each write, ``None`` for all."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, descriptor: int, room: list[int | None]) -> None:
        self.written = b""
        self._descriptor, self._room, self._write = descriptor, room, os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, descriptor: int, data: bytes) -> int:
        if descriptor != self._descriptor:
            return self._write(descriptor, data)
        size = self._room.pop(0)
        if size == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written += bytes(data[:size])
        return len(data[:size])


def test_full_disk_loses_lines_and_does_not_end_the_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reported: queue.SimpleQueue[Event] = queue.SimpleQueue()
    with open(tmp_path / "captions.txt", "w", encoding="utf-8") as stream:
        disk = Disk(monkeypatch, stream.fileno(), [4, None, 0, 0, None, 3, 0, None])
        captions = Captions(stream, reported.put)
        captions.start()
        for text in ("one two", "three", "four", "five", "six seven", "eight"):
            captions.write(text)
        captions.close(Deadline(BOUND))
    assert disk.written == b"one two\nfive\nsix\neight\n", "a torn line does not continue in the next one"
    assert reported.empty()
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [each.split(", ")[0] for each in warnings] == ["captions: line not written"] * 2 + [
        "captions: lines not written"
    ]
    assert warnings[-1].endswith("count=3")


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
