"""Text from stdin, piece by piece, and what is told of the piece that is none."""

from __future__ import annotations

import os
import sys

import pytest

from agent.cli.stdin_text import TextReader
from agent.pipeline.events import Event, Utterance, UtterancePlayed


class HostFacts:
    """What a synthesizer would have been told."""

    def __init__(self) -> None:
        self.text, self.begun, self.completed = "", 0, 0

    def begin(self, utterance: Utterance) -> None:
        self.begun += 1

    def say(self, utterance: str, text: str) -> None:
        self.text += text

    def complete(self, utterance: str) -> None:
        self.completed += 1

    def hush(self, by: str) -> None:
        raise AssertionError("nothing here is too long")


def _read(
    monkeypatch: pytest.MonkeyPatch, data: bytes, *, kept: bool = True
) -> tuple[HostFacts, str | None, list[Event]]:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    events: list[Event] = []
    told = HostFacts()
    with open(reading, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        reader = TextReader(told, "u", 1000, events.append, kept=kept)
        reader.start()
        reader.join(20)
        reader.stop()
    return told, None if reader.error is None else str(reader.error), events


def test_the_valid_text_before_a_bad_byte_is_handed_on_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of "One sentence here. Two is bad" with a Latin-1 letter behind it was said that "not UTF-8 after 0 characters:
    what came before was said", and nothing was."""
    told, error, _ = _read(monkeypatch, b"One sentence here. Two is bad \xe4 here.")
    assert told.text == "One sentence here. Two is bad " and told.completed == 1
    assert error is not None and "after 30 characters" in error and "what came before was said" in error


def test_where_nothing_is_kept_nobody_claims_that_something_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``--output`` no file is left, and still it was claimed that the beginning was said."""
    _, error, _ = _read(monkeypatch, b"Gr\xc3\xbc\xc3\x9fe. \xff", kept=False)
    assert error is not None and "after 7 characters" in error and "nothing was kept" in error and "said" not in error


def test_a_bad_first_byte_leaves_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """That what came before was said was claimed of no text at all, too."""
    told, error, events = _read(monkeypatch, b"\xffOne.")
    assert told.begun == 0 and events == [UtterancePlayed("u", 0.0)]
    assert error is not None and "after 0 characters" in error and "nothing was said" in error


def test_control_characters_never_reach_whoever_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """NUL and escape codes on stdin went to the services as they were."""
    told, error, _ = _read(monkeypatch, b"One\x00 \x1b[1mtwo\tthree.\r\nFour.")
    assert (told.text, error) == ("One [1mtwo\tthree.\nFour.", None)
