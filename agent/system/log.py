"""Provides log handlers for terminals and the journal, which hide secrets and escape untrusted text."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TextIO
from urllib.parse import quote

from agent.system.text import escape

MAX_LINE_CHARACTERS = 4000
"""Limit of a log line: a transcript can have a megabyte."""

_MAX_TRACE_LINES = 200
_MAX_CHAINED_ERRORS = 10
_MAX_NAME = 60
_MIN_SECRET_CHARACTERS = 4
_JOURNAL_FIELDS = ("turn", "service", "utterance")
_PACKAGE = "agent"

Send = Callable[..., object]


class RepeatedWarning:
    """Logs a condition that occurs repeatedly with two lines: a warning when it begins, and a summary when it ends.

    Thread-safe. ``count`` is the number of occurrences since the condition began.

    Args:
        log: Logger for both lines.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._started_at = 0.0
        self.count = 0

    def warn(self, message: str, *args: object) -> bool:
        """Count an occurrence. Only the first one since the last ``resolved`` writes the line and returns ``True``."""
        with self._lock:
            self.count += 1
            if self.count > 1:
                return False
            self._started_at = time.monotonic()
        self._log.warning(message, *args)
        return True

    def resolved(self, message: str, *args: object) -> int:
        """End the condition and return the count. If it is not 0, write the line with count and duration."""
        with self._lock:
            count, self.count = self.count, 0
            seconds = time.monotonic() - self._started_at
        if count:
            times = "once" if count == 1 else f"{count} times"
            self._log.info(f"{message} (%s in %.1f s)", *args, times, seconds)  # the caller's message is constant
        return count


def set_up_logging(
    level: str, environ: Mapping[str, str], stream: TextIO | None = None, identifier: str = "voice-agent"
) -> None:
    """Configure the root logger. A second call replaces the handler and keeps the secrets.

    If ``stream`` is the journal, records become entries with fields (``extra={"turn": ..., "service": ...,
    "utterance": ...}``), or lines with a ``<N>`` priority prefix if the library of systemd is not installed. Otherwise
    they become lines ``time level component: message``. The component is ``extra={"component": ...}``, or the subject
    with which the message begins (``subject: event``), or the name of the thread.

    Args:
        level: debug, info, warning or error, for this package. Libraries are limited to warning, because some of them
            log keys and URLs with tokens (websocket-client 1.9.2 logs the request headers).
        environ: The environment, for ``JOURNAL_STREAM``.
        stream: Default: stderr.
        identifier: ``SYSLOG_IDENTIFIER`` of the journal entries.
    """
    stream = stream if stream is not None else sys.stderr
    handler: RedactingHandler
    if not _is_journal(stream, environ):
        handler = ConsoleHandler(stream)
    else:
        send = _journal_send()
        handler = JournalHandler(send, identifier) if send is not None else PrefixHandler(stream)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, RedactingHandler):
            handler.secrets = old.secrets
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """Change the level of this package: debug, info, warning or error."""
    logging.getLogger(_PACKAGE).setLevel(level.upper())


def hide_secret(secret: str | None) -> None:
    """Replace a secret by ``***`` in all further lines, also in its URL-encoded form.

    This is a second protection: no code may log keys at all. A secret of fewer than 4 characters is not replaced.
    """
    if secret is None or len(secret) < _MIN_SECRET_CHARACTERS:
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RedactingHandler):
            handler.secrets = tuple(
                # The longest first: a key may be the beginning of another one.
                sorted({*handler.secrets, secret, quote(secret, safe="")}, key=len, reverse=True)
            )


def hidden_secrets() -> frozenset[str]:
    """Return the secrets that the log replaces."""
    handlers = logging.getLogger().handlers
    return frozenset(secret for each in handlers if isinstance(each, RedactingHandler) for secret in each.secrets)


class RedactingHandler(logging.Handler):
    """Base class that formats a record as lines without secrets and control characters. Thread-safe.

    A line contains at most ``MAX_LINE_CHARACTERS`` characters of the original text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.secrets: tuple[str, ...] = ()

    def lines(self, record: logging.LogRecord) -> list[str]:
        """Return the message, followed by the lines of the exception and of the stack, if the record has them."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # mismatched arguments: still write the line
            message = f"{record.msg} {record.args!r}"
        component = _component(record)
        if component and not message.startswith(f"{component}: "):
            message = f"{component}: {message}"
        lines = [self.clean(message)]
        if record.exc_info and record.exc_info[1] is not None:
            lines += self._format_exception(record.exc_info[1])
        if record.stack_info:
            lines += [self.clean(line) for line in record.stack_info.split("\n")[:_MAX_TRACE_LINES]]
        return lines

    def clean(self, text: str) -> str:
        """Return the text as one line without secrets, control characters and excess length."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return escape(text, MAX_LINE_CHARACTERS)

    def _format_exception(self, error: BaseException) -> list[str]:
        """Return the lines of a chain of exceptions. The text of each exception is escaped to one line."""
        lines: list[str] = []
        current: BaseException | None = error
        seen: set[int] = set()
        while current is not None and id(current) not in seen and len(seen) < _MAX_CHAINED_ERRORS:
            seen.add(id(current))
            lines.append(self.clean("".join(traceback.format_exception_only(current)).strip()))
            frames = traceback.extract_tb(current.__traceback__)[-_MAX_TRACE_LINES:]
            lines += [self.clean(f"  {frame.filename}:{frame.lineno} in {frame.name}") for frame in frames]
            current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
            if current is not None:
                lines.append("caused by")
        return lines

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Ignore the error: a full disk or a closed pipe must not stop the daemon."""


class _StreamHandler(RedactingHandler):
    """Base class that writes lines to a stream. Thread-safe."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        text = "".join(f"{line}\n" for line in self.stream_lines(record))
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.handleError(record)

    def stream_lines(self, record: logging.LogRecord) -> list[str]:
        raise NotImplementedError(f"{type(self).__name__}.stream_lines")


class ConsoleHandler(_StreamHandler):
    """Writes ``2026-11-21 10:15:00.123 info speaker: muted``; further lines of a record are indented. Thread-safe."""

    def stream_lines(self, record: logging.LogRecord) -> list[str]:
        timestamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        first, *rest = self.lines(record)
        level = record.levelname.lower()
        return [f"{timestamp}.{int(record.msecs):03d} {level} {first}", *(f"    {line}" for line in rest)]


class PrefixHandler(_StreamHandler):
    """Writes ``<4>speaker: ...``; the journal reads the priority (sd-daemon(3)) and adds the time. Thread-safe."""

    def stream_lines(self, record: logging.LogRecord) -> list[str]:
        return [f"<{_priority(record)}>{line}" for line in self.lines(record)]


class JournalHandler(RedactingHandler):
    """Sends journal entries with fields, so that ``journalctl UTTERANCE=...`` finds one utterance. Thread-safe.

    The handler of the library is not used: it sends the arguments of a record, which may contain secrets, as
    ``CODE_ARGS``.

    Args:
        send: ``systemd.journal.send``.
        identifier: Value of ``SYSLOG_IDENTIFIER``.
    """

    def __init__(self, send: Send, identifier: str) -> None:
        super().__init__()
        self._send, self._identifier = send, identifier

    def emit(self, record: logging.LogRecord) -> None:
        first, *rest = self.lines(record)
        fields = {
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "THREAD_NAME": escape(record.threadName or "?", _MAX_NAME),
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName or "",
        }
        for name in _JOURNAL_FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                fields[name.upper()] = self.clean(str(value))
        try:
            self._send("\n".join([first, *rest]), **fields)
        except OSError:
            self.handleError(record)


def _component(record: logging.LogRecord) -> str:
    """Return the component for the beginning of a line; empty if the message already begins with it."""
    component = getattr(record, "component", None)
    if component is not None:
        return escape(str(component), _MAX_NAME)
    if record.name.partition(".")[0] != _PACKAGE:
        return escape(record.name.partition(".")[0], _MAX_NAME)
    if _has_subject(str(record.msg)):
        return ""
    is_main = record.threadName in (None, "MainThread")
    return record.name.rpartition(".")[2] if is_main else escape(str(record.threadName), _MAX_NAME)


def _has_subject(message: str) -> bool:
    """Return whether a message begins with a subject, which names the component: up to three words and a colon.

    The subject may also be ``%s``: the name of a service, a worker or an utterance.
    """
    subject, colon, _ = message.partition(": ")
    words = subject.split(" ")
    return bool(colon) and (subject == "%s" or (len(words) <= 3 and all(map(str.isalpha, words))))


def _priority(record: logging.LogRecord) -> int:
    """Return the syslog priority of the level."""
    for level, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if record.levelno >= level:
            return priority
    return 7


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether a stream is connected to the journal.

    ``JOURNAL_STREAM`` names it by device and inode, so a redirected stream does not match (systemd.exec(5)).
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _journal_send() -> Send | None:
    try:
        from systemd import journal  # type: ignore[attr-defined]
    except ImportError:
        return None
    send: Send = journal.send
    return send
