"""The record of an utterance in the history, and the interface of the history."""

from collections.abc import Callable
from typing import Protocol

from agent.pipeline.utterance import Utterance
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

QUEUED, STARTED = "queued", "started"
"""The states of an utterance before it ends in a recorded state."""


@distinct
class HistoryRecord(NamedTuple):
    """One utterance, queued, spoken or ended. Immutable.

    ``state`` is ``queued``, ``started`` or the recorded end: ``played``, ``cancelled``, ``failed``, ``expired``,
    ``dropped`` or ``interrupted`` (the daemon ended while it was spoken). The times are in seconds since 1970; a time
    is ``None`` if its event has not happened. ``seconds``: length of the audio that was played. ``services``: the
    speech services that synthesized it. ``text`` is ``None`` if the text is not stored.
    """

    id: str
    state: str
    reason: str
    source: str
    urgency: str
    priority: int
    accepted_at: float
    started_at: float | None
    ended_at: float | None
    seconds: float
    services: tuple[str, ...]
    text: str | None


@distinct
class Claim(NamedTuple):
    """The result of claiming an id that the client has chosen. Immutable.

    Without ``record`` the id is free. With ``record`` the id belongs to a known utterance, which must not be announced
    again. ``is_conflict``: the known utterance has another text.
    """

    record: HistoryRecord | None = None
    is_conflict: bool = False


class History(Protocol):
    """The interface of the history for frontends. Thread-safe.

    The callbacks may run in another thread and must not block.
    """

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        """Reserve an id that a client has chosen, and pass the result to ``answer``.

        If the result has no record, the caller must announce the utterance or release the id.
        """

    def release(self, utterance: str) -> None:
        """Release a claimed id for which nothing was announced, because its text never began."""

    def read_history(self, limit: int, answer: Callable[[list[HistoryRecord]], None]) -> None:
        """Pass the newest records to ``answer``, newest first, at most ``limit``."""
