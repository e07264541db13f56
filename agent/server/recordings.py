"""What is kept of each transcription session, for a while and within bounds, until somebody fetches it."""

from __future__ import annotations

import json
import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import IO

from agent.audio.format import SPEECH
from agent.server.encoders.encoder import wav_header
from agent.services.protocols.codec import Encoding, Transcript
from agent.services.protocols.transcription import write_transcript

_SPEECH = Encoding("wav", SPEECH.rate)


class Recording:
    """The sound and the finals of one session, and of no other. Sound is in a file without a name, so that nothing is
    left on the disk whatever happens. What goes beyond the bounds of its ``Exports`` is not kept."""

    def __init__(self, reserve: Callable[[int], bool]) -> None:
        self._reserve = reserve
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="voice-agent-")  # noqa: SIM115 - closed with the export
        self._lock = threading.Lock()
        self._finals: list[Transcript] = []
        self.size = 0
        self.complete = True

    def add_sound(self, pcm: bytes) -> None:
        self.complete = self.complete and self._reserve(len(pcm))
        if self.complete:
            self._file.write(pcm)
            self.size += len(pcm)

    def add_final(self, transcript: Transcript) -> None:
        self._finals.append(transcript)

    def transcript(self) -> str | None:
        """The finals as a JSON list; ``None`` where there are none, as the transcription service has it."""
        if not self._finals:
            return None
        return json.dumps([json.loads(write_transcript(final)) for final in self._finals])

    def wav(self) -> bytes | None:
        """The sound as a WAV; ``None`` where it was forgotten a moment ago."""
        with self._lock:
            if self._file.closed:
                return None
            self._file.seek(0)
            return wav_header(_SPEECH, self.size) + self._file.read(self.size)

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Exports:
    """Finished sessions by their ID (32 lower-case hex digits). The oldest goes when there are more than ``count`` of
    them, when they and what is being recorded exceed ``total_bytes``, or when it is ``life_seconds`` old."""

    def __init__(self, count: int = 64, total_bytes: int = 256 << 20, life_seconds: float = 3600.0) -> None:
        self._count, self._total_bytes, self._life_seconds = count, total_bytes, life_seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, Recording]] = OrderedDict()
        self._used = 0

    def begin(self) -> Recording:
        return Recording(self._reserve)

    def keep(self, recording: Recording) -> str:
        """Keeps a finished recording and gives its ID."""
        export_id = secrets.token_hex(16)
        with self._lock:
            self._kept[export_id] = (time.monotonic(), recording)
            self._forget_old()
        return export_id

    def drop(self, recording: Recording) -> None:
        """A session that ended without ``eof`` leaves nothing."""
        with self._lock:
            self._used -= recording.size
        recording.close()

    def find(self, export_id: str) -> Recording | None:
        with self._lock:
            self._forget_old()
            kept = self._kept.get(export_id)
            return kept[1] if kept else None

    def close(self) -> None:
        with self._lock:
            while self._kept:
                self._forget_first()

    def _reserve(self, size: int) -> bool:
        with self._lock:
            while self._used + size > self._total_bytes and self._kept:
                self._forget_first()
            if self._used + size > self._total_bytes:
                return False
            self._used += size
            return True

    def _forget_old(self) -> None:
        now = time.monotonic()
        while self._kept:
            since, _ = next(iter(self._kept.values()))
            if len(self._kept) <= self._count and now - since < self._life_seconds:
                return
            self._forget_first()

    def _forget_first(self) -> None:
        _, (_, recording) = self._kept.popitem(last=False)
        self._used -= recording.size
        recording.close()
