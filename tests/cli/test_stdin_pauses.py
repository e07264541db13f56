"""Text of stdin with long pauses: the daemon completes the utterance, and the next words are another one."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator

import pytest

from agent.cli import say_via_daemon
from agent.cli.say_via_daemon import wait_for_daemon
from agent.client import End

SECONDS = 30.0


class Stream:
    """An utterance of ``Daemon``. Thread-safe."""

    troubles = warnings = ()

    def __init__(self, daemon: Daemon, options: dict[str, object]) -> None:
        self.id, self.options, self.text = f"u-{len(daemon.streams) + 1}", options, ""
        self._daemon, self._finished = daemon, threading.Event()

    def write(self, text: str) -> None:
        self.text += text
        self._daemon.written.put(text)

    def finish(self) -> None:
        self._finished.set()

    def cancel(self) -> None:
        self._finished.set()

    def wait(self) -> End:
        assert self._finished.wait(SECONDS)
        return End(self.id, "played", "", 0.0)


class Daemon:
    """Takes the place of ``agent.client.Client``: plays each text when it is complete. Thread-safe."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.written: queue.SimpleQueue[str] = queue.SimpleQueue()

    def stream(self, **options: object) -> Stream:
        self.streams.append(Stream(self, options))
        return self.streams[-1]

    def close(self) -> None:
        pass


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe that the command reads as stdin."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield writer


@pytest.mark.parametrize(
    ("max_pause_seconds", "spoken"), [(0.0, ["One. ", "Two. ", "Three."]), (1000.0, ["One. Two. Three."])]
)
def test_words_after_a_long_pause_are_another_utterance(
    stdin: int, monkeypatch: pytest.MonkeyPatch, max_pause_seconds: float, spoken: list[str]
) -> None:
    monkeypatch.setattr(say_via_daemon, "MAX_PAUSE_SECONDS", max_pause_seconds)
    daemon = Daemon()

    def write() -> None:
        for piece in ("One. ", "Two. ", "Three."):
            os.write(stdin, piece.encode())
            daemon.written.get(timeout=SECONDS)
        os.close(stdin)

    thread = threading.Thread(target=write)
    thread.start()
    assert wait_for_daemon(daemon, None, {"id": "news", "priority": 3}) == 0
    thread.join()
    assert [stream.text for stream in daemon.streams] == spoken
    options = [stream.options for stream in daemon.streams]
    assert options == [{"id": "news", "priority": 3}, {"priority": 3}, {"priority": 3}][: len(spoken)]
