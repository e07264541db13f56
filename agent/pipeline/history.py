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
    ``dropped`` or ``interrupted`` (the daemon ended while it was spoken). The times are seconds since 1970, ``None``
    where that did not happen. ``seconds`` of its audio were played; ``services`` spoke it. ``text`` is ``None`` where
    it is not kept.
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
    """The answer to an utterance whose id was chosen by the client. Immutable.

    The id is free without ``record``. Otherwise the utterance is known and must not be announced again; with
    ``is_conflict`` it has another text.
    """

    record: HistoryRecord | None = None
    is_conflict: bool = False


class History(Protocol):
    """The memory of the daemon, for frontends. Thread-safe; callbacks may run in another thread and must not block."""

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        """Reserve an id that a client chose. Without a record in the answer the utterance must be announced."""

    def release(self, utterance: str) -> None:
        """Forget a claimed id whose text never began: nothing was announced."""

    def read_history(self, limit: int, answer: Callable[[list[HistoryRecord]], None]) -> None:
        """Pass the newest records, newest first, at most ``limit``."""
