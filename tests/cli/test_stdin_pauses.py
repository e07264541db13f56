"""Text of stdin with long pauses: the daemon completes the utterance, and the next words are another one."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from agent.cli import say_via_daemon
from agent.cli.say_via_daemon import wait_for_daemon
from agent.client import ConnectionLost, End
from agent.errors import ServiceError

SECONDS = 30.0


class Stream:
    """An utterance of ``Daemon``. Thread-safe."""

    troubles = warnings = ()
    record = None

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
        return End(self.id, "played" if self.text else "failed", "", 0.0)


class Daemon:
    """Takes the place of ``agent.client.Client``: plays each text when it is complete. Thread-safe.

    It ends before utterance number ``count`` + 1.
    """

    def __init__(self, count: int = 100) -> None:
        self.streams: list[Stream] = []
        self.written: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._count = count

    def stream(self, **options: object) -> Stream:
        if len(self.streams) == self._count:
            raise ConnectionLost("the daemon has ended")
        self.streams.append(Stream(self, options))
        return self.streams[-1]

    def close(self) -> None:
        pass


class Stdin:
    """The pipe that the command reads as stdin."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write_later(self, daemon: Daemon, *pieces: str) -> None:
        """Write each piece when the daemon has the one before, and then close the pipe."""

        def write() -> None:
            for number, piece in enumerate(pieces):
                os.write(self.descriptor, piece.encode())
                if number + 1 < len(pieces):
                    daemon.written.get(timeout=SECONDS)
            os.close(self.descriptor)

        threading.Thread(target=write).start()


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stdin]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield Stdin(writer)


@pytest.mark.parametrize(
    ("max_pause_seconds", "spoken"), [(0.0, ["One. ", "Two. ", "Three."]), (1000.0, ["One. Two. Three."])]
)
def test_words_after_a_long_pause_are_another_utterance(
    stdin: Stdin, monkeypatch: pytest.MonkeyPatch, max_pause_seconds: float, spoken: list[str]
) -> None:
    monkeypatch.setattr(say_via_daemon, "MAX_PAUSE_SECONDS", max_pause_seconds)
    daemon = Daemon()
    stdin.write_later(daemon, "One. ", "Two. ", "Three.")
    assert wait_for_daemon(daemon, None, {"id": "news", "priority": 3}) == 0
    assert [stream.text for stream in daemon.streams] == spoken
    options = [stream.options for stream in daemon.streams]
    assert options == [{"id": "news", "priority": 3}, {"priority": 3}, {"priority": 3}][: len(spoken)]


def test_white_space_after_a_long_pause_is_no_utterance(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(say_via_daemon, "MAX_PAUSE_SECONDS", 0.0)
    daemon = Daemon()
    stdin.write_later(daemon, "One.", "\n")
    assert wait_for_daemon(daemon, None, {}) == 0
    assert [stream.text for stream in daemon.streams] == ["One."]


def test_first_words_may_come_after_the_daemon_has_waited_for_them(
    stdin: Stdin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(say_via_daemon, "MAX_FIRST_PAUSE_SECONDS", 0.0)
    daemon = Daemon()
    stdin.write_later(daemon, "Hello.")
    assert wait_for_daemon(daemon, None, {}) == 0
    assert [stream.text for stream in daemon.streams] == ["", "Hello."]


def test_words_that_the_daemon_does_not_accept_are_an_error(stdin: Stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(say_via_daemon, "MAX_PAUSE_SECONDS", 0.0)
    daemon = Daemon(count=1)
    stdin.write_later(daemon, "One.", "Two.")
    with pytest.raises(ServiceError, match="has ended"):
        wait_for_daemon(daemon, None, {})


def test_signal_ends_the_command_in_a_pause(stdin: Stdin) -> None:
    daemon = Daemon()

    def stop() -> None:
        daemon.written.get(timeout=SECONDS)
        daemon.streams[0].finish()  # as after a minute without words
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    os.write(stdin.descriptor, b"One.")
    assert wait_for_daemon(daemon, None, {}) == 3
    os.close(stdin.descriptor)
