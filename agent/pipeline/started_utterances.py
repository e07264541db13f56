"""The utterances that have started and not ended: which of them are suspended, and how each of them ends."""

from agent.pipeline.actions import Action, CorrectReply, DiscardUtterance, Record
from agent.pipeline.events import PlayedText, UtteranceCancelled
from agent.pipeline.interruptions import INTERRUPTED, SPOKEN_OVER
from agent.pipeline.utterance import Utterance
from agent.system.named_tuple import NamedTuple


class Suspended(NamedTuple):
    """An utterance that was interrupted by an important one or by the user. Immutable.

    ``played_seconds`` is ``None`` until the stages have reported how much of it was played; ``played_text`` likewise.
    """

    utterance: Utterance
    played_seconds: float | None = None
    played_text: str | None = None


class StartedUtterances:
    """Keeps each utterance from its start to its record. Not thread-safe; owned by the main thread."""

    def __init__(self) -> None:
        self._utterances: dict[str, Utterance] = {}
        self._suspended: dict[str, Suspended] = {}
        self._played_before: dict[str, float] = {}  # seconds of an utterance that were played until its last suspension
        self._ends: dict[str, tuple[str, str]] = {}  # recorded state and reason of a stopped utterance, if not default

    def start(self, utterance: Utterance) -> None:
        """Keep an utterance until ``record``."""
        self._utterances[utterance.id] = utterance

    @property
    def suspended(self) -> tuple[Suspended, ...]:
        """The suspended utterances; the last one continues first. At most an announcement and a reply."""
        return tuple(self._suspended.values())

    def is_suspended(self, utterance: str) -> bool:
        """Whether the utterance with this id is suspended."""
        return utterance in self._suspended

    def find_suspended(self, utterance: str | None) -> Suspended | None:
        """Return the suspended utterance with this id; ``None`` if there is none."""
        return self._suspended.get(utterance) if utterance is not None else None

    def suspend(self, utterance: Utterance) -> None:
        """Suspend an utterance; the stages will report how much of it was played."""
        self._suspended[utterance.id] = Suspended(utterance)

    def end_suspension(self, utterance: str) -> bool:
        """End the suspension of an utterance; return whether it was suspended."""
        return self._suspended.pop(utterance, None) is not None

    def expect_end(self, utterance: str, state: str, reason: str) -> None:
        """Set the recorded state and the reason of an utterance that is being stopped."""
        self._ends[utterance] = (state, reason)

    def note_stop(self, event: UtteranceCancelled) -> tuple[str, str] | None:
        """Note how much of a stopped utterance was played.

        Returns:
            The recorded state and the reason with which it ends; ``None`` if it is suspended.
        """
        suspended = self._suspended.get(event.utterance)
        if suspended is None or event.reason not in (INTERRUPTED, SPOKEN_OVER):
            return self._ends.get(event.utterance, ("cancelled", f"by {event.reason}"))
        self._suspended[event.utterance] = suspended._replace(played_seconds=event.seconds)
        self._played_before[event.utterance] = self._played_before.get(event.utterance, 0.0) + event.seconds
        return None

    def note_text(self, event: PlayedText) -> list[Action]:
        """Return the correction of a reply. While the utterance is suspended, keep the text and return no action."""
        if (suspended := self._suspended.get(event.utterance)) is None:
            return [CorrectReply(event.turn, event.text)]
        self._suspended[event.utterance] = suspended._replace(played_text=event.text)
        return []

    def is_reply(self, utterance: str) -> bool:
        """Whether this utterance has started and answers a turn."""
        return utterance in self._utterances and self._utterances[utterance].turn > 0

    def discard_suspended(self, utterance: str, state: str, reason: str) -> tuple[list[Action], bool]:
        """End a suspended utterance: it is not continued.

        Returns:
            The actions, and whether it ends now. If not, it ends when the stages report how much of it was played.
        """
        suspended = self._suspended.pop(utterance)
        discard = DiscardUtterance(utterance)
        if suspended.played_seconds is None:
            self.expect_end(utterance, state, reason)
            return [discard], False
        played = suspended.played_text
        correct: list[Action] = [] if played is None else [CorrectReply(suspended.utterance.turn, played)]
        return [discard, *correct], True

    def record(self, utterance: str, state: str, reason: str, seconds: float, dropped: float = 0.0) -> Record | None:
        """End an utterance and return its record; ``None`` if it has not started or has ended."""
        ended = self._utterances.pop(utterance, None)
        self._ends.pop(utterance, None)
        seconds += self._played_before.pop(utterance, 0.0)
        return None if ended is None else Record(ended, state, reason, seconds, dropped)

    def close(self, reason: str) -> list[Action]:
        """End all utterances and return their records."""
        return [record for each in [*self._utterances] if (record := self.record(each, "cancelled", reason, 0.0))]
