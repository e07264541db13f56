"""Text from stdin, piece by piece, and the error for invalid input."""

from __future__ import annotations

import os
import sys

import pytest

from agent.cli.stdin_text import TextReader
from agent.pipeline.events import Event, UtterancePlayed
from agent.pipeline.utterance import Utterance


class Consumer:
    """Records the calls of a reader."""

    def __init__(self) -> None:
        self.text, self.begun, self.completed, self.hushed = "", 0, 0, 0

    def begin(self, utterance: Utterance) -> None:
        self.begun += 1

    def append_text(self, utterance: str, text: str) -> None:
        self.text += text

    def complete(self, utterance: str) -> None:
        self.completed += 1

    def cancel_all(self, by: str) -> None:
        self.hushed += 1


def read(
    monkeypatch: pytest.MonkeyPatch, data: bytes, *, keeps_partial: bool = True
) -> tuple[Consumer, str, list[Event]]:
    """Read ``data`` to its end; return the consumer, the error's message and the reported events."""
    read_end, write_end = os.pipe()
    os.write(write_end, data)
    os.close(write_end)
    events: list[Event] = []
    consumer = Consumer()
    with open(read_end, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        reader = TextReader(consumer, "u", events.append, max_chars=1000, keeps_partial=keeps_partial)
        reader.start()
        reader.join(20)
        reader.stop()
    return consumer, str(reader.error or ""), events


def test_valid_text_before_an_invalid_byte_is_passed_on_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, error, _ = read(monkeypatch, b"One sentence here. Two is bad \xe4 here.")
    assert consumer.text == "One sentence here. Two is bad " and consumer.completed == 1
    assert "after 30 characters" in error and "the text before it was spoken" in error


def test_error_for_a_file_does_not_claim_that_text_was_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    _, error, _ = read(monkeypatch, b"Gr\xc3\xbc\xc3\x9fe. \xff", keeps_partial=False)
    assert "after 7 characters" in error and "no file was written" in error and "spoken" not in error


def test_an_invalid_first_byte_begins_no_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, error, events = read(monkeypatch, b"\xffOne.")
    assert consumer.begun == 0 and events == [UtterancePlayed("u", 0.0)]
    assert "after 0 characters" in error and "nothing was spoken" in error


def test_too_long_a_text_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, error, _ = read(monkeypatch, b"word " * 201)
    assert consumer.hushed == 1 and "1000 characters" in error


def test_control_characters_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer, error, _ = read(monkeypatch, b"One\x00 \x1b[1mtwo\tthree.\r\nFour.")
    assert (consumer.text, error) == ("One [1mtwo\tthree.\nFour.", "")
