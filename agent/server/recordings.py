"""Stores the audio and the transcripts of finished transcription sessions, bounded in number, size and age."""

from __future__ import annotations

import json
import logging
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

log = logging.getLogger(__name__)

MAX_TEXT_BYTES = 4 << 20
"""Maximum size of one recording's transcript, as JSON. Even that of all audio in a full store is shorter."""

_SPEECH = Encoding("wav", SPEECH.rate)


class SessionRecording:
    """Audio (16 kHz mono s16le) and final transcripts of one session.

    ``add_audio`` and ``add_final`` are not thread-safe; the session calls them under its lock. After the last of these
    calls, any thread may call ``transcript``, ``wav`` and ``close``. The audio is in an unnamed temporary file, so that
    no file remains on the disk after a crash. Audio beyond the limits of the store and text beyond ``MAX_TEXT_BYTES``
    are dropped. If the file cannot be created or written, the recording is lost, and the session continues.

    Args:
        reserve: Reserves a number of bytes in the store; returns ``False`` if the store is full.

    Attributes:
        size_bytes: Size of the recorded audio.
        is_complete: Whether no audio has been dropped.
    """

    def __init__(self, reserve: Callable[[int], bool]) -> None:
        self._reserve = reserve
        self._file: IO[bytes] | None = None  # None: the recording is lost
        self._lock = threading.Lock()
        self._finals: list[str] = []  # as JSON
        self._text_bytes = 0
        self.size_bytes = 0
        self.is_complete = True
        try:
            # Without a buffer, a write error occurs in write(), not in a later read() or close().
            self._file = tempfile.TemporaryFile(prefix="voice-agent-", buffering=0)  # noqa: SIM115 - see close()
        except OSError as error:
            self._lose(error)

    @property
    def is_lost(self) -> bool:
        """Whether the file could not be created or written."""
        return self._file is None

    def add_audio(self, pcm: bytes) -> None:
        if self._file is None:
            return
        self.is_complete = self.is_complete and self._reserve(len(pcm))
        if self.is_complete:
            self.size_bytes += len(pcm)
            rest = memoryview(pcm)
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                self._lose(error)

    def add_final(self, transcript: Transcript) -> None:
        text = write_transcript(transcript)
        if self._text_bytes + len(text) <= MAX_TEXT_BYTES:
            self._text_bytes += len(text)
            self._finals.append(text)

    def transcript(self) -> str | None:
        """Return the finals as a JSON list, or ``None`` if there are none, as the transcription service does."""
        if not self._finals:
            return None
        return json.dumps([json.loads(final) for final in self._finals])

    def wav(self) -> bytes | None:
        """Return the audio as a WAV file, or ``None`` if the recording was removed or lost."""
        with self._lock:
            if self._file is None or self._file.closed:
                return None
            self._file.seek(0)
            return wav_header(_SPEECH, self.size_bytes) + self._file.read(self.size_bytes)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()

    def _lose(self, error: OSError) -> None:
        self.close()
        self._file = None
        log.warning("speech server: session cannot be recorded and gets no export, error=%s", error)


class RecordingStore:
    """Finished recordings by export ID (32 lower-case hexadecimal digits). Thread-safe.

    Args:
        max_count: Maximum number of recordings; the oldest is removed first.
        max_bytes: Maximum size of the audio of all recordings, including those in progress.
        max_age_seconds: Age at which a recording is removed.
    """

    def __init__(self, max_count: int = 64, max_bytes: int = 256 << 20, max_age_seconds: float = 3600.0) -> None:
        self._max_count, self._max_bytes, self._max_age_seconds = max_count, max_bytes, max_age_seconds
        self._lock = threading.Lock()
        self._finished: OrderedDict[str, tuple[float, SessionRecording]] = OrderedDict()
        self._used_bytes = 0

    def start(self) -> SessionRecording:
        return SessionRecording(self._reserve)

    def add(self, recording: SessionRecording) -> str:
        """Store a finished recording and return its export ID. A lost recording gets an ID, but is not stored."""
        export_id = secrets.token_hex(16)
        if recording.is_lost:
            self.discard(recording)
            return export_id
        with self._lock:
            self._finished[export_id] = (time.monotonic(), recording)
            self._enforce_limits()
        return export_id

    def discard(self, recording: SessionRecording) -> None:
        """Remove the recording of a session that gets no export."""
        with self._lock:
            self._used_bytes -= recording.size_bytes
        recording.close()

    def find(self, export_id: str) -> SessionRecording | None:
        with self._lock:
            self._enforce_limits()
            entry = self._finished.get(export_id)
            return entry[1] if entry else None

    def close(self) -> None:
        with self._lock:
            while self._finished:
                self._remove_oldest()

    def _reserve(self, size_bytes: int) -> bool:
        with self._lock:
            while self._used_bytes + size_bytes > self._max_bytes and self._finished:
                self._remove_oldest()
            if self._used_bytes + size_bytes > self._max_bytes:
                return False
            self._used_bytes += size_bytes
            return True

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        while self._finished:
            finished_at, _ = next(iter(self._finished.values()))
            if len(self._finished) <= self._max_count and now - finished_at < self._max_age_seconds:
                return
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        _, (_, recording) = self._finished.popitem(last=False)
        self._used_bytes -= recording.size_bytes
        recording.close()
