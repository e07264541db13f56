"""Log handlers: the three formats, hidden secrets, escaped text, and repeated warnings."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import threading
from typing import Any

import pytest

from agent.system.log import JournalHandler, RepeatedWarning, hide_secret, set_level, set_up_logging


class Pipe:
    """A stream with a descriptor, like stderr, and its output."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        self.reader, self.stream = os.fdopen(reader, "rb"), os.fdopen(writer, "w", encoding="utf-8")
        status = os.fstat(writer)
        self.name = f"{status.st_dev}:{status.st_ino}"

    def lines(self) -> list[str]:
        self.stream.close()
        with self.reader:
            return self.reader.read().decode().splitlines()


log = logging.getLogger("agent.pipeline.playback.speaker")


def log_to_console() -> io.StringIO:
    stream = io.StringIO()
    set_up_logging("info", {}, stream)
    return stream


def test_console_line_has_time_level_component_and_message() -> None:
    stream = log_to_console()
    thread = threading.Thread(target=lambda: log.warning("%d frames lost", 3), name="microphone")
    thread.start()
    thread.join()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} warning microphone: 3 frames lost\n", stream.getvalue())


@pytest.mark.parametrize(
    ("name", "message", "arguments", "line"),
    [
        ("agent.daemon.volume", "speaker: %s, by %s", ("muted", "control"), "speaker: muted, by control"),
        ("agent.services.service_log", "%s: message refused", ("neuphonic",), "neuphonic: message refused"),
        ("agent.daemon.daemon", "daemon ready: %s", ("listening",), "daemon ready: listening"),
        ("agent.daemon.daemon", "daemon stopped", (), "daemon: daemon stopped"),
        ("agent.pipeline.tts.session", "%s refused", ("fish",), "session: fish refused"),
        ("urllib3.connectionpool", "pool: is full", (), "urllib3: pool: is full"),
    ],
)
def test_line_of_the_main_thread_names_the_component(
    name: str, message: str, arguments: tuple[str, ...], line: str
) -> None:
    stream = log_to_console()
    logging.getLogger(name).warning(message, *arguments)
    assert stream.getvalue().endswith(f" warning {line}\n")


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("%s refused the key", "fish: fish refused the key"),
        ("fish: %s", "fish: fish"),
        ("heard: %s", "fish: heard: fish"),
    ],
)
def test_component_of_a_record_is_named_once(message: str, line: str) -> None:
    stream = log_to_console()
    log.warning(message, "fish", extra={"component": "fish"})
    assert stream.getvalue().endswith(f" warning {line}\n")


def test_journal_without_the_library_gets_priority_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
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
        "<7>speaker: a",
        "<6>speaker: b",
        "<4>speaker: c",
        "<3>speaker: d\\n<0>e",
        "<2>speaker: f",
    ]


def test_redirected_stream_is_not_the_journal() -> None:
    pipe = Pipe()
    set_up_logging("info", {"JOURNAL_STREAM": "1:2"}, pipe.stream)
    log.info("hello")
    assert pipe.lines()[0].endswith(" info speaker: hello")


def test_journal_entry_has_fields() -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    handler = JournalHandler(lambda message, **fields: sent.append((message, fields)), "speaker-test")
    text, arguments = "%s refused\n", ("fish",)
    record = logging.LogRecord(
        "agent.pipeline.tts.synthesizer", logging.WARNING, "file.py", 7, text, arguments, None, "send"
    )
    record.turn, record.service, record.utterance = 3, "fish\x1b", "u-1"
    handler.emit(record)
    message, fields = sent[0]
    assert message == "synthesizer: fish refused\\n"
    assert (fields["PRIORITY"], fields["SYSLOG_IDENTIFIER"]) == ("4", "speaker-test")
    assert (fields["TURN"], fields["SERVICE"], fields["UTTERANCE"]) == ("3", "fish\\x1b", "u-1")
    assert (fields["THREAD_NAME"], fields["LOGGER"], fields["CODE_LINE"]) == (
        "MainThread",
        "agent.pipeline.tts.synthesizer",
        7,
    )
    assert "CODE_ARGS" not in fields  # the library's own handler would write the secrets there


def test_library_is_used_if_the_stream_is_the_journal() -> None:
    pipe = Pipe()
    set_up_logging("info", {"JOURNAL_STREAM": pipe.name}, pipe.stream)
    assert any(isinstance(handler, JournalHandler) for handler in logging.getLogger().handlers)
    log.info("to the journal, if there is one")
    assert pipe.lines() == []


def test_untrusted_text_is_escaped() -> None:
    stream = log_to_console()
    log.info("heard %s", "stop\n2026-01-01 00:00:00.000 error main: fake\r\x1b]0;x\x07\u202e\u2028\x85")
    assert stream.getvalue().count("\n") == 1
    assert all(character.isprintable() for character in stream.getvalue().rstrip("\n"))
    assert "stop\\n2026" in stream.getvalue()


def test_long_line_is_cut() -> None:
    stream = log_to_console()
    log.info("heard %s", "x" * 1_000_000)
    assert len(stream.getvalue()) < 4200
    assert "more characters" in stream.getvalue()


def test_exception_text_is_one_line_followed_by_the_frames() -> None:
    stream = log_to_console()
    try:
        try:
            raise OSError("inner\n<0>fake")
        except OSError as error:
            raise ValueError("outer\x1b[2J") from error
    except ValueError:
        log.exception("failed")
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("error speaker: failed")
    assert lines[1] == "    ValueError: outer\\x1b[2J"
    assert f"{__file__}:" in lines[2]
    assert "    caused by" in lines
    assert "    OSError: inner\\n<0>fake" in lines
    assert all(line.isprintable() for line in lines)


def test_key_is_hidden_everywhere() -> None:
    stream = log_to_console()
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


def test_second_set_up_replaces_the_handler() -> None:
    log_to_console()
    stream = log_to_console()
    log.info("once")
    assert stream.getvalue().count("once") == 1
    assert sum(type(handler).__module__.startswith("agent.") for handler in logging.getLogger().handlers) == 1


def test_set_level_applies_to_the_package_and_libraries_stay_at_warning() -> None:
    stream = log_to_console()
    log.debug("silent")
    set_level("debug")
    log.debug("heard")
    logging.getLogger("websocket").info("a header with a key")
    logging.getLogger("urllib3.connectionpool").warning("trouble")
    assert [line.rpartition(": ")[2] for line in stream.getvalue().splitlines()] == ["heard", "trouble"]


def test_unwritable_stream_is_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipe()
    set_up_logging("info", {}, pipe.stream)
    pipe.reader.close()
    log.info("the reader is gone")
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it fails too
    set_up_logging("info", {}, full)
    log.info("the disk is full")
    closed = io.StringIO()
    set_up_logging("info", {}, closed)
    closed.close()
    log.info("the stream is closed")
    assert capsys.readouterr().err == ""
    for stream in (pipe.stream, full):
        with contextlib.suppress(OSError):
            stream.close()


def test_mismatched_arguments_are_still_logged() -> None:
    stream = log_to_console()
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__.startswith("agent.")]
    log.info("%d and %d", "one")
    assert "%d and %d ('one',)" in stream.getvalue()


def test_repeated_warning_is_two_lines_with_a_count() -> None:
    stream = log_to_console()
    warning = RepeatedWarning(log)
    assert warning.resolved("fine again") == 0
    assert warning.warn("%s refused", "fish")
    assert not any(warning.warn("%s refused", "fish") for _ in range(99))
    assert warning.count == 100
    assert warning.resolved("%s answers again", "fish") == 100
    assert warning.warn("%s refused", "fish")
    lines = [line.split("speaker: ")[1] for line in stream.getvalue().splitlines()]
    assert lines[0] == lines[2] == "fish refused"
    assert re.fullmatch(r"fish answers again \(100 times in \d+\.\d s\)", lines[1])
    assert len(lines) == 3


def test_repeated_warning_of_many_threads_is_one_line() -> None:
    stream = log_to_console()
    warning = RepeatedWarning(log)
    threads = [threading.Thread(target=lambda: [warning.warn("x") for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warning.count == 800
    assert stream.getvalue().count("\n") == 1
