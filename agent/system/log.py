"""A trouble that repeats: one line when it begins, one when it is over, a count between."""

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


class RepeatedWarning:
    """One kind of trouble, told twice however often it happens.

    ``happened(...)`` writes its line the first time and counts from then on; ``over(...)`` writes its line, with how
    often and how long it was, if anything had happened at all. Any thread may call both. ``count`` is how often it has
    happened since it began.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._began = 0.0
        self.count = 0

    def warn(self, message: str, *args: object) -> bool:
        """Whether this was the first time, and the line was written."""
        with self._lock:
            self.count += 1
            if self.count > 1:
                return False
            self._began = time.monotonic()
        self._log.warning(message, *args)
        return True

    def resolved(self, message: str, *args: object) -> int:
        """How often it had happened; 0, and no line, where it had not."""
        with self._lock:
            count, self.count = self.count, 0
            seconds = time.monotonic() - self._began
        if count:
            times = "once" if count == 1 else f"{count} times"
            self._log.info(f"{message} (%s in %.1f s)", *args, times, seconds)
        return count


LINE_LIMIT = 4000
"""Characters of one line; a transcript of a megabyte is no line of a log."""

_TRACE_LIMIT = 200
_SHORTEST_SECRET = 4
_FIELDS = ("turn", "service", "utterance")
_OURS = "agent"

Send = Callable[..., object]


def set_up_logging(
    level: str, environ: Mapping[str, str], stream: TextIO | None = None, identifier: str = "voice-agent"
) -> None:
    """Sends everything logged to ``stream`` (stderr), in the form of whoever reads it: with the journal's own fields
    where it is the journal and systemd's library is installed, with ``<N>`` before each line where the library is not,
    else as ``time level thread: message``.

    ``level``: debug, info, warning or error, for our own programs; libraries are heard from warning on, since some
    of them log keys and addresses with tokens. ``extra={"turn": ..., "service": ..., "utterance": ...}`` become
    fields of the journal, where ``identifier`` says which program it was. Calling it again replaces what was set up
    before; what is hidden stays hidden.
    """
    stream = stream if stream is not None else sys.stderr
    handler: RedactingHandler
    if not _is_journal(stream, environ):
        handler = ConsoleHandler(stream)
    else:
        send = _journal()
        handler = JournalHandler(send, identifier) if send is not None else PrefixHandler(stream)
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, RedactingHandler):
            handler.hidden = old.hidden
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """Changes the level while the daemon runs: debug, info, warning or error."""
    logging.getLogger(_OURS).setLevel(level.upper())


def hide_secret(secret: str | None) -> None:
    """From now on ``***`` stands in the log wherever ``secret`` would, as itself or as a part of a URL. A net below
    those who must not log keys in the first place. A text under 4 characters is no secret."""
    if secret is None or len(secret) < _SHORTEST_SECRET:
        return
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RedactingHandler):
            handler.hidden = tuple(
                # The longest first: a key may begin with another one.
                sorted({*handler.hidden, secret, quote(secret, safe="")}, key=len, reverse=True)
            )


class RedactingHandler(logging.Handler):
    """Turns a record into lines that hold no secret, no control character and no end."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: tuple[str, ...] = ()

    def lines(self, record: logging.LogRecord) -> list[str]:
        """The message, and where an exception goes with it the lines of its trace."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the arguments do not fit: rather an ugly line than none
            message = f"{record.msg} {record.args!r}"
        lines = [self.clean(message)]
        if record.exc_info and record.exc_info[1] is not None:
            lines += self._trace(record.exc_info[1])
        if record.stack_info:
            lines += [self.clean(line) for line in record.stack_info.split("\n")[:_TRACE_LIMIT]]
        return lines

    def clean(self, text: str) -> str:
        for secret in self.hidden:
            text = text.replace(secret, "***")
        return escape(text, LINE_LIMIT)

    def _trace(self, error: BaseException) -> list[str]:
        """The frames line by line, each exception's own text on one line: it may hold what somebody said."""
        lines: list[str] = []
        here: BaseException | None = error
        seen: set[int] = set()
        while here is not None and id(here) not in seen and len(seen) < 10:
            seen.add(id(here))
            lines.append(self.clean("".join(traceback.format_exception_only(here)).strip()))
            frames = traceback.extract_tb(here.__traceback__)[-_TRACE_LIMIT:]
            lines += [self.clean(f"  {frame.filename}:{frame.lineno} in {frame.name}") for frame in frames]
            here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
            if here is not None:
                lines.append("because of")
        return lines

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A log that cannot be written (a full disk, a reader that has gone) must not stop the work."""


class _Written(RedactingHandler):
    """Writes lines to a stream."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        text = "".join(f"{line}\n" for line in self.written(record))
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            self.handleError(record)

    def written(self, record: logging.LogRecord) -> list[str]:
        raise NotImplementedError("written")


class ConsoleHandler(_Written):
    """``2026-11-21 10:15:00.123 info speaker: ...``; what belongs to a line is indented below it."""

    def written(self, record: logging.LogRecord) -> list[str]:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level, thread = record.levelname.lower(), escape(record.threadName or "?", 60)
        first, *rest = self.lines(record)
        return [f"{moment}.{int(record.msecs):03d} {level} {thread}: {first}", *(f"    {line}" for line in rest)]


class PrefixHandler(_Written):
    """``<4>speaker: ...``: the journal takes the number for the priority and adds the time itself."""

    def written(self, record: logging.LogRecord) -> list[str]:
        thread = escape(record.threadName or "?", 60)
        return [f"<{_priority(record)}>{thread}: {line}" for line in self.lines(record)]


class JournalHandler(RedactingHandler):
    """Entries with fields: ``journalctl -u voice-agent UTTERANCE=...`` finds all of one utterance."""

    def __init__(self, send: Send, identifier: str) -> None:
        super().__init__()
        self._send, self._identifier = send, identifier

    def emit(self, record: logging.LogRecord) -> None:
        first, *rest = self.lines(record)
        thread = escape(record.threadName or "?", 60)
        fields = {
            "PRIORITY": str(_priority(record)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "THREAD_NAME": thread,
            "CODE_FILE": record.pathname,
            "CODE_LINE": record.lineno,
            "CODE_FUNC": record.funcName or "",
        }
        for name in _FIELDS:
            value = getattr(record, name, None)
            if value is not None:
                fields[name.upper()] = self.clean(str(value))
        try:
            self._send("\n".join([f"{thread}: {first}", *rest]), **fields)
        except OSError:
            self.handleError(record)


def _priority(record: logging.LogRecord) -> int:
    """The level as syslog counts it."""
    for level, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if record.levelno >= level:
            return priority
    return 7


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether what is written here ends in the journal: systemd says by device and inode which stream does
    (man systemd.exec, JOURNAL_STREAM), since a redirected one does not."""
    try:
        facts = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{facts.st_dev}:{facts.st_ino}"


def _journal() -> Send | None:
    try:
        from systemd import journal  # type: ignore[attr-defined]
    except ImportError:
        return None
    send: Send = journal.send
    return send
