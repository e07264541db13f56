"""Computes which part of the sent audio a transcription service has answered."""

from __future__ import annotations

from collections import deque
from typing import Protocol

BYTES_PER_SECOND = 32000
"""Bytes of one second of audio: 16 kHz, mono, s16le."""

WINDOW_BYTES = 6 * BYTES_PER_SECOND
"""melvin-asr sends a final for each window: this much audio since the previous window (measured at commit 46e7e3f)."""

_MAX_PARTIALS = WINDOW_BYTES // BYTES_PER_SECOND
"""Only a later version of melvin-asr sends more partials than this without a final."""


class Answers(Protocol):
    """Counts the answers in one session. Not thread-safe; owned by the codec.

    Positions are numbers of bytes since the start of the session.

    Attributes:
        is_complete: Whether no message of the service is outstanding.
        final_bytes: End position of the audio that final transcripts certainly cover; ``None`` if it is unknown.
        answered_bytes: End position of the audio that finals and the last partial cover.
        padding_bytes: The amount of silence after which the service sends a final for all audio; 0 if it needs none.
    """

    @property
    def is_complete(self) -> bool: ...
    @property
    def final_bytes(self) -> int | None: ...
    @property
    def answered_bytes(self) -> int: ...
    @property
    def padding_bytes(self) -> int: ...
    def add_audio(self, size: int) -> None: ...
    def add_partial(self, *, has_words: bool = True) -> None: ...
    def add_final(self, *, is_from_words: bool = False) -> None: ...


class FrameAnswers:
    """Counts the answers of vosk-server, which answers each audio message once (asr_server.py, c2e82f0).

    Not thread-safe; owned by the codec.
    """

    padding_bytes = 0

    def __init__(self) -> None:
        self.answered_bytes = 0
        self.final_bytes: int | None = 0
        self._sent_bytes = 0
        self._unanswered: deque[int] = deque()  # end position of each unanswered message

    @property
    def is_complete(self) -> bool:
        return not self._unanswered

    def add_audio(self, size: int) -> None:
        self._sent_bytes += size
        self._unanswered.append(self._sent_bytes)

    def add_partial(self, *, has_words: bool = True) -> None:
        if self._unanswered:
            self.answered_bytes = self._unanswered.popleft()

    def add_final(self, *, is_from_words: bool = False) -> None:
        self.add_partial()
        self.final_bytes = self.answered_bytes


class WindowAnswers:
    """Counts the answers of melvin-asr: a partial for each full second, and a final for each window of six seconds.

    A window ends with the message that completes six seconds. The service computes the final from all audio since the
    last final. A slow service sends fewer partials. Later versions (d3284fa) send a final after some words or at the
    end of a sentence; then the positions of finals are unknown. Not thread-safe; owned by the codec.
    """

    def __init__(self) -> None:
        self._sent_bytes = 0
        self._final_bytes = 0
        self._window_bytes = 0  # received by the current, incomplete window
        self._windows: deque[int] = deque()  # end position of each complete window whose final has not arrived
        self._partials = 0  # since the last final
        self._answered_seconds = 0  # since the last final; empty partials of later versions do not count
        self._is_exact = True

    @property
    def is_complete(self) -> bool:
        if not self._is_exact:
            return False
        has_finals = not self._windows and not self._window_bytes
        return has_finals or self._sent_bytes - self._final_bytes <= self._partials * BYTES_PER_SECOND

    @property
    def final_bytes(self) -> int | None:
        return self._final_bytes if self._is_exact else None

    @property
    def answered_bytes(self) -> int:
        end = self._windows[0] if self._windows else self._sent_bytes
        return min(end, self._final_bytes + self._answered_seconds * BYTES_PER_SECOND)

    @property
    def padding_bytes(self) -> int:
        """The silence, in bytes, that completes the current window, so that the service sends its final."""
        return WINDOW_BYTES - self._window_bytes

    def add_audio(self, size: int) -> None:
        self._sent_bytes += size
        self._window_bytes += size
        if self._window_bytes >= WINDOW_BYTES:
            self._windows.append(self._sent_bytes)
            self._window_bytes = 0

    def add_partial(self, *, has_words: bool = True) -> None:
        self._partials += 1
        if has_words:
            self._answered_seconds = self._partials

    def add_final(self, *, is_from_words: bool = False) -> None:
        """Count a final.

        Args:
            is_from_words: Whether the final contains the confirmed words of a later version and not the text of a
                window.
        """
        if not self._windows or is_from_words or self._partials > _MAX_PARTIALS:
            self._is_exact = False
        if self._windows:
            self._final_bytes = self._windows.popleft()
        self._partials = self._answered_seconds = 0


class LateAnswers:
    """Counts nothing: the service transcribes all audio before it answers the end mark, so no wait is necessary.

    Not thread-safe; owned by the codec.
    """

    is_complete = True
    padding_bytes = 0
    answered_bytes = 0
    final_bytes: int | None = None

    def add_audio(self, size: int) -> None: ...
    def add_partial(self, *, has_words: bool = True) -> None: ...
    def add_final(self, *, is_from_words: bool = False) -> None: ...
