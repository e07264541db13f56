"""Keeps the speech segments whose transcript is awaited, and joins the parts of a question that was ended too early."""

from __future__ import annotations

from collections import deque

from agent.system.named_tuple import NamedTuple

CONTINUATION_SECONDS = 1.5
"""Speech within this time after the end of a question that has no reply yet continues the question."""


class AwaitedSegment(NamedTuple):
    """A segment of speech whose transcript is awaited. Immutable.

    ``is_question``: its transcript is a question; otherwise the transcript is ignored. ``continues``: its transcript
    may continue the previous question.
    """

    is_question: bool = True
    continues: bool = False


class Questions:
    """The awaited segments in the order of their transcripts. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self._segments: deque[AwaitedSegment] = deque()
        self._question = ""  # the question that a segment may continue; empty if there is none

    @property
    def is_awaited(self) -> bool:
        """Whether a transcript that counts is awaited."""
        return any(segment.is_question for segment in self._segments)

    @property
    def is_next(self) -> bool:
        """Whether the next transcript counts."""
        return bool(self._segments) and self._segments[0].is_question

    def preview(self, text: str) -> str:
        """Return the question that results if ``text`` is the next transcript."""
        return self._join(self._segments[0], text)

    def start(self, pause_seconds: float) -> None:
        """Note a segment that starts ``pause_seconds`` after the last speech."""
        self._segments.append(AwaitedSegment(continues=pause_seconds <= CONTINUATION_SECONDS))

    def ignore_last(self) -> None:
        """Ignore the transcript of the newest segment."""
        self._segments[-1] = AwaitedSegment(is_question=False)

    def ignore_all(self) -> None:
        """Ignore the transcripts of all speech until now."""
        self._segments = deque([AwaitedSegment(is_question=False)] * len(self._segments))
        self._question = ""

    def take(self) -> AwaitedSegment:
        """Remove and return the segment of the next transcript."""
        return self._segments.popleft() if self._segments else AwaitedSegment()

    def ask(self, segment: AwaitedSegment, text: str) -> str:
        """Return the question: the transcript of ``segment``, after the previous question if it is continued."""
        self._question = self._join(segment, text)
        return self._question

    def close(self) -> None:
        """Prevent later segments from continuing the question, because its reply starts."""
        self._question = ""

    def _join(self, segment: AwaitedSegment, text: str) -> str:
        return f"{self._question} {text}" if segment.continues and self._question else text
