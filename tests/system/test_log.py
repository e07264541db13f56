"""The log of the service: its three forms, and that nothing written into it can forge, paint or tell a key."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agent.system.log import JournalHandler, RepeatedWarning, _journal, hide_secret, set_level, set_up_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("agent")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)
    logging.captureWarnings(False)


class Pipe:
    """A stream with a descriptor, as stderr is one, and what came out of it."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader, self.stream = os.fdopen(reader, "rb"), os.fdopen(writer, "w", encoding="utf-8")
        facts = os.fstat(writer)
        self.name = f"{facts.st_dev}:{facts.st_ino}"

    def lines(self) -> list[str]:
        self.stream.close()
        with self.reader:
            return self.reader.read().decode().splitlines()


log = logging.getLogger("agent.pipeline.playback.speaker")


def for_people() -> io.StringIO:
    stream = io.StringIO()
    set_up_logging("info", {}, stream)
    return stream


def test_a_person_reads_time_level_thread_and_message() -> None:
    stream = for_people()
    thread = threading.Thread(target=lambda: log.warning("%d frames lost", 3), name="microphone")
    thread.start()
    thread.join()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warning microphone: 3 frames lost\n", stream.getvalue())


def test_the_journal_without_the_library_gets_priorities(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "systemd.journal", None)
    pipe = Pipe()
    set_up_logging("debug", {"JOURNAL_STREAM": pipe.name}, pipe.stream)
    log.debug("a")
    log.info("b")
    log.warning("c")
    log.error("d\n<0>e")
    log.critical("f")
    assert pipe.lines() == [
        "<7>MainThread: a",
        "<6>MainThread: b",
        "<4>MainThread: c",
        "<3>MainThread: d\\n<0>e",
        "<2>MainThread: f",
    ]


def test_a_stream_that_was_led_elsewhere_is_no_journal() -> None:
    pipe = Pipe()
    set_up_logging("info", {"JOURNAL_STREAM": "1:2"}, pipe.stream)
    log.info("hello")
    assert pipe.lines()[0].endswith(" info MainThread: hello")


def test_the_journal_gets_fields() -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    handler = JournalHandler(lambda message, **fields: sent.append((message, fields)), "speaker-test")
    text, arguments = "%s refused\n", ("fish",)
    record = logging.LogRecord(
        "agent.pipeline.tts.synthesizer", logging.WARNING, "file.py", 7, text, arguments, None, "send"
    )
    record.turn, record.service, record.utterance = 3, "fish\x1b", "u-1"
    handler.emit(record)
    message, fields = sent[0]
    assert message == "MainThread: fish refused\\n"
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("4", "speaker-test")
    assert (fields["TURN"], fields["SERVICE"], fields["UTTERANCE"]) == ("3", "fish\\x1b", "u-1")
    assert (fields["THREAD_NAME"], fields["LOGGER"], fields["CODE_LINE"]) == (
        "MainThread",
        "agent.pipeline.tts.synthesizer",
        7,
    )
    assert "CODE_ARGS" not in fields  # where systemd's own handler writes what was meant to be hidden


def test_systemds_library_is_used_where_stderr_is_the_journal() -> None:
    assert _journal() is not None
    pipe = Pipe()
    set_up_logging("info", {"JOURNAL_STREAM": pipe.name}, pipe.stream)
    assert any(isinstance(handler, JournalHandler) for handler in logging.getLogger().handlers)
    log.info("to the journal, or to nobody where there is none")
    assert pipe.lines() == []


def test_what_was_heard_cannot_forge_a_line_or_paint_on_a_terminal() -> None:
    stream = for_people()
    log.info("heard %s", "stop\n2026-01-01 00:00:00.000 error main: fake\r\x1b]0;x\x07\u202e\u2028\x85")
    assert stream.getvalue().count("\n") == 1
    assert all(letter.isprintable() for letter in stream.getvalue().rstrip("\n"))
    assert "stop\\n2026" in stream.getvalue()


def test_a_megabyte_is_no_line_of_a_log() -> None:
    stream = for_people()
    log.info("heard %s", "x" * 1_000_000)
    assert len(stream.getvalue()) < 4200
    assert "more characters" in stream.getvalue()


def test_the_text_of_an_exception_is_one_line_and_its_trace_is_kept() -> None:
    stream = for_people()
    try:
        try:
            raise OSError("inner\n<0>fake")
        except OSError as error:
            raise ValueError("outer\x1b[2J") from error
    except ValueError:
        log.exception("it broke")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("error MainThread: it broke")
    assert lines[1] == "    ValueError: outer\\x1b[2J"
    assert f"{__file__}:" in lines[2]
    assert "    because of" in lines
    assert "    OSError: inner\\n<0>fake" in lines
    assert all(line.isprintable() for line in lines)


def test_a_hidden_key_is_told_nowhere() -> None:
    stream = for_people()
    hide_secret("sk-se/cret")
    hide_secret("sk-se/cret-and-longer")
    hide_secret(None)
    hide_secret("abc")
    log.info("key %s in wss://h/?k=sk-se%%2Fcret and %s, abc", "sk-se/cret", "sk-se/cret-and-longer")
    try:
        raise ValueError("sk-se/cret")
    except ValueError:
        log.exception("broken", extra={"service": "sk-se/cret"})
    assert "cret" not in stream.getvalue()
    assert "key *** in wss://h/?k=*** and ***, abc" in stream.getvalue()
    later = io.StringIO()
    set_up_logging("info", {}, later)
    log.info("sk-se/cret")
    assert "cret" not in later.getvalue()


def test_setting_up_again_replaces_and_does_not_double() -> None:
    for_people()
    stream = for_people()
    log.info("once")
    assert stream.getvalue().count("once") == 1
    assert sum(type(handler).__module__.startswith("agent.") for handler in logging.getLogger().handlers) == 1


def test_the_level_changes_while_it_runs_and_libraries_are_heard_from_warning_on() -> None:
    stream = for_people()
    log.debug("silent")
    set_level("debug")
    log.debug("heard")
    logging.getLogger("websocket").info("a header with a key")
    logging.getLogger("urllib3.connectionpool").warning("trouble")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["heard", "trouble"]


def test_a_log_that_cannot_be_written_does_not_stop_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipe()
    set_up_logging("info", {}, pipe.stream)
    pipe.reader.close()
    log.info("nobody reads this")
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it fails too
    set_up_logging("info", {}, full)
    log.info("no room for this")
    closed = io.StringIO()
    set_up_logging("info", {}, closed)
    closed.close()
    log.info("nor this")
    assert capsys.readouterr().err == ""
    for stream in (pipe.stream, full):
        with contextlib.suppress(OSError):
            stream.close()


def test_arguments_that_do_not_fit_still_give_a_line() -> None:
    stream = for_people()
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__.startswith("agent.")]
    log.info("%d and %d", "one")
    assert "%d and %d ('one',)" in stream.getvalue()


def test_a_flood_is_two_lines_and_a_count() -> None:
    stream = for_people()
    flood = RepeatedWarning(log)
    assert flood.resolved("fine again") == 0
    assert flood.warn("%s refused", "fish")
    assert not any(flood.warn("%s refused", "fish") for _ in range(99))
    assert flood.count == 100
    assert flood.resolved("%s answers again", "fish") == 100
    assert flood.warn("%s refused", "fish")
    lines = [line.split("MainThread: ")[1] for line in stream.getvalue().splitlines()]
    assert lines[0] == lines[2] == "fish refused"
    assert re.fullmatch(r"fish answers again \(100 times in \d+\.\d s\)", lines[1])
    assert len(lines) == 3


def test_a_flood_from_many_threads_is_told_once() -> None:
    stream = for_people()
    flood = RepeatedWarning(log)
    threads = [threading.Thread(target=lambda: [flood.warn("x") for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert flood.count == 800
    assert stream.getvalue().count("\n") == 1
