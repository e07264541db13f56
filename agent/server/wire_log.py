"""The wire log: every message as it came and went, without its sound and without keys."""

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

_AUTHORISATION = re.compile(r'("Authorization"\s*:\s*")[^"]*(")', re.IGNORECASE)
_SOUND = re.compile(r'("audio"\s*:\s*")([^"]{64,})(")')
_MASK = "***"


class WireLog:
    """Writes one JSON object a line, complete and flushed at once, from any thread.

    ``time`` (seconds since 1970), ``connection`` (a number), ``service``, ``direction`` (``in``, ``out``), ``kind``
    (``open``, ``text``, ``binary``, ``close``) and ``summary``: a text message as it is, its sound (base64 of any
    length) as a hash of its text; of a binary message ``length`` and ``sha256``. ``events``: what the codec read in it.
    ``path`` ``None``: nothing is written. A file that cannot be opened is a ``UsageError``.
    """

    def __init__(self, path: str | None, keys: Iterable[str] = ()) -> None:
        self._keys = tuple(keys)
        self._lock = threading.Lock()
        try:
            self._file = Path(path).open("w", encoding="utf-8") if path else None  # noqa: SIM115 - kept for its life
        except OSError as error:
            raise UsageError(f"the wire log {path} cannot be written ({error.strerror}): name another file") from error

    def message(
        self, connection: int, service: str, direction: str, message: Message, events: Iterable[Any] = ()
    ) -> None:
        if self._file is None:
            return
        about: dict[str, object] = {"kind": "text" if isinstance(message, str) else "binary"}
        if isinstance(message, str):
            about["summary"] = self._masked(message)
        else:
            about["length"] = len(message)
            about["sha256"] = hashlib.sha256(message).hexdigest()
        names = [type(event).__name__ for event in events]
        self._write(connection, service, direction, about | ({"events": names} if names else {}))

    def note(self, connection: int, service: str, direction: str, kind: str, summary: str) -> None:
        """The beginning and the end of a connection, and HTTP requests."""
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
        text = _AUTHORISATION.sub(rf"\g<1>{_MASK}\g<2>", text)
        return _SOUND.sub(
            lambda found: f"{found[1]}sha256:{hashlib.sha256(found[2].encode()).hexdigest()}{found[3]}", text
        )

    def _write(self, connection: int, service: str, direction: str, about: dict[str, object]) -> None:
        line = {"time": round(time.time(), 4), "connection": connection, "service": service, "direction": direction}
        with self._lock:
            if self._file is not None:
                self._file.write(json.dumps(line | about, ensure_ascii=False) + "\n")
                self._file.flush()
