"""Writes all messages of the local server to a file, without audio and keys."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.errors import UsageError
from agent.services.protocols.codec import Message

_AUTHORIZATION = re.compile(r'("Authorization"\s*:\s*")[^"]*(")', re.IGNORECASE)
_AUDIO = re.compile(r'("audio"\s*:\s*")([^"]{64,})(")')
_MASK = "***"


class WireLog:
    """Writes one JSON object per line and flushes it immediately. Thread-safe.

    Fields: ``time`` (seconds since 1970), ``connection`` (a number), ``service``, ``direction`` (``in``, ``out``),
    ``kind`` (``open``, ``text``, ``binary``, ``close``; for plain HTTP the method or the status) and ``summary``. In a
    text message, a SHA-256 hash replaces base64 audio, and ``***`` replaces keys; the rest is unchanged. A binary
    message has ``length`` (bytes) and ``sha256`` instead of ``summary``. ``events`` lists the types of the codec's
    events that belong to the message. Plain HTTP has the connection number 0.

    Args:
        path: File to write; ``None`` disables the log.
        keys: Secrets to mask.

    Raises:
        UsageError: The file cannot be opened.
    """

    def __init__(self, path: str | None, keys: Iterable[str] = ()) -> None:
        self._keys = tuple(keys)
        self._lock = threading.Lock()
        try:
            self._file = Path(path).open("w", encoding="utf-8") if path else None  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise UsageError(f"the wire log {path} cannot be written ({error.strerror}): name another file") from error

    def message(
        self, connection: int, service: str, direction: str, message: Message, events: Iterable[Any] = ()
    ) -> None:
        """Log one message and the codec's events that belong to it."""
        if self._file is None:
            return
        fields: dict[str, object] = {"kind": "text" if isinstance(message, str) else "binary"}
        if isinstance(message, str):
            fields["summary"] = self._masked(message)
        else:
            fields["length"] = len(message)
            fields["sha256"] = hashlib.sha256(message).hexdigest()
        names = [type(event).__name__ for event in events]
        self._write(connection, service, direction, fields | ({"events": names} if names else {}))

    def note(self, connection: int, service: str, direction: str, kind: str, summary: str) -> None:
        """Log the opening or closing of a connection, an HTTP request or an HTTP response."""
        if self._file is not None:
            self._write(connection, service, direction, {"kind": kind, "summary": self._masked(summary)})

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def __enter__(self) -> WireLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _masked(self, text: str) -> str:
        for key in self._keys:
            text = text.replace(key, _MASK)
        text = _AUTHORIZATION.sub(rf"\g<1>{_MASK}\g<2>", text)
        return _AUDIO.sub(
            lambda match: f"{match[1]}sha256:{hashlib.sha256(match[2].encode()).hexdigest()}{match[3]}", text
        )

    def _write(self, connection: int, service: str, direction: str, fields: dict[str, object]) -> None:
        line = {"time": round(time.time(), 4), "connection": connection, "service": service, "direction": direction}
        with self._lock:
            if self._file is not None:
                self._file.write(json.dumps(line | fields, ensure_ascii=False) + "\n")
                self._file.flush()
