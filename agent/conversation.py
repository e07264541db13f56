"""Who may speak now: a table of states and events that says what is to be done. Pure: no thread, no clock, no lock.

States: ``idle``, ``listening`` (somebody speaks), ``thinking`` (an answer is on its way), ``speaking`` (the device
speaks). Everything the device ever says goes through here as an ``Utterance``, and each one that was accepted ends in
exactly one recorded state: played, cancelled or failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from enum import Enum
from typing import Any

from agent.announcements import Announcements
from agent.events import (
    Announce,
    Cancelled,
    Complete,
    Event,
    Heard,
    Hush,
    Piece,
    Reply,
    ReplyEnded,
    SpeechBegan,
    SpeechEnded,
    Spoken,
    Unspoken,
    Utterance,
)
from agent.records import dataclass


class State(Enum):
    """What the device is doing, as far as those around it can tell."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


# --- actions: what the daemon is to do


@dataclass(frozen=True, slots=True)
class Ask:
    """Give what was heard to the responder."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class Forget:
    """The answer to a turn is not wanted any more."""

    turn: int


@dataclass(frozen=True, slots=True)
class Speak:
    """Begin an utterance. Where its text is ``None``, ``Say`` and ``Finish`` follow."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Say:
    """One more piece of an utterance's text."""

    utterance: str
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The text of an utterance is complete."""

    utterance: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Not one more sample of what is being said."""

    by: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Open the microphone to the recognizer, or shut it while the device speaks."""

    open: bool


@dataclass(frozen=True, slots=True)
class Record:
    """How an utterance ended: ``played``, ``cancelled`` or ``failed``, ``why`` in words, ``seconds`` heard of it."""

    utterance: Utterance
    state: str
    why: str = ""
    seconds: float = 0.0


Action = Ask | Forget | Speak | Say | Finish | Silence | Listen | Record


@dataclass(slots=True)
class _Draft:
    """What has come so far of the text of an announcement that still waits."""

    pieces: list[str] = field(default_factory=list)
    complete: bool = False


class Conversation:
    """Events in, actions out. ``mode`` as in the configuration; ``id_of`` names the utterances of a turn."""

    def __init__(
        self,
        *,
        mode: str = "assistant",
        listen_while_speaking: bool = False,
        id_of: Callable[[int], str] = lambda turn: f"reply-{turn}",
    ) -> None:
        self.state = State.IDLE
        self.turn = 0
        self._answers = mode == "assistant"
        self._open_ear = listen_while_speaking
        self._id_of = id_of
        self._waiting = Announcements()
        self._open: dict[str, Utterance] = {}  # accepted, and not yet in a recorded state
        self._drafts: dict[str, _Draft] = {}  # of what waits, where its text is still being written
        self._speaking: Utterance | None = None
        self._replying = False  # whether the answer to the current turn is still being written

    @property
    def busy(self) -> bool:
        """Whether a turn or an utterance is under way, or one waits."""
        return self.state is not State.IDLE or len(self._waiting) > 0

    def handle(self, event: Event) -> list[Action]:
        """What is to be done now. An event that means nothing in this state gives nothing."""
        rule = TABLE.get((self.state, type(event))) or TABLE.get((None, type(event)))
        return rule(self, event) if rule else []

    def leave(self, by: str) -> list[Action]:
        """The records of all that was accepted and has not ended; nothing is accepted after this."""
        left = [*self._open.values(), *self._waiting.clear()]
        self._open.clear()
        self._drafts.clear()
        return [Record(utterance, "cancelled", f"by {by}") for utterance in left]

    # --- hearing

    def _begin_listening(self, event: SpeechBegan) -> list[Action]:
        self.state = State.LISTENING
        return []

    def _barge_in(self, event: SpeechBegan) -> list[Action]:
        if not self._open_ear:
            return []  # the last frames before the microphone was shut
        actions = self._cut("somebody spoke")
        self.state = State.LISTENING
        return actions

    def _await_transcript(self, event: SpeechEnded) -> list[Action]:
        self.state = State.THINKING if self._answers else State.IDLE
        return []

    # While an answer is awaited, a new sound changes nothing: a slammed door must not cost the answer. Only a
    # transcript that holds words does, which then takes the place of the question before it.

    def _ask(self, event: Heard) -> list[Action]:
        actions: list[Action] = []
        if not self._answers:
            return actions
        if not event.text:
            # Nothing was understood; an answer to an earlier turn may still be on its way.
            return actions if self._replying else self._rest()
        if self._replying:
            actions.append(Forget(self.turn))
        self.turn += 1
        self._replying = True
        self.state = State.THINKING
        return [*actions, Ask(self.turn, event.text)]

    # --- answering

    def _begin_reply(self, event: Reply) -> list[Action]:
        if event.turn != self.turn or not self._replying:
            return []
        utterance = Utterance(self._id_of(event.turn), text=None, turn=event.turn)
        return [*self._speak(utterance), Say(utterance.id, event.text)]

    def _continue_reply(self, event: Reply) -> list[Action]:
        if self._speaking is None or event.turn != self._speaking.turn or not self._replying:
            return []
        return [Say(self._speaking.id, event.text)]

    def _end_reply(self, event: ReplyEnded) -> list[Action]:
        if event.turn != self.turn or not self._replying:
            return []
        self._replying = False
        if self._speaking is not None and self._speaking.turn == event.turn:
            return [Finish(self._speaking.id)]
        return self._rest() if self.state is State.THINKING else []

    # --- speaking

    def _announce(self, event: Announce) -> list[Action]:
        if self.state is State.IDLE:
            return self._speak(event.utterance)
        return self._line_up(event)

    def _line_up(self, event: Announce) -> list[Action]:
        if self._waiting.add(event.utterance):
            if event.utterance.text is None:
                self._drafts[event.utterance.id] = _Draft()
            return []
        return [Record(event.utterance, "failed", "too many utterances wait already")]

    def _write(self, event: Piece) -> list[Action]:
        if (draft := self._drafts.get(event.utterance)) is not None:
            draft.pieces.append(event.text)
            return []
        return [Say(event.utterance, event.text)] if self._says(event.utterance) else []

    def _complete(self, event: Complete) -> list[Action]:
        if (draft := self._drafts.get(event.utterance)) is not None:
            draft.complete = True
            return []
        return [Finish(event.utterance)] if self._says(event.utterance) else []

    def _says(self, utterance: str) -> bool:
        return self._speaking is not None and self._speaking.id == utterance

    def _played(self, event: Spoken) -> list[Action]:
        return self._close(event.utterance, "played", "", event.seconds)

    def _cancelled(self, event: Cancelled) -> list[Action]:
        return self._close(event.utterance, "cancelled", f"by {event.by}", event.seconds)

    def _failed(self, event: Unspoken) -> list[Action]:
        return self._close(event.utterance, "failed", event.reason, event.seconds)

    def _hush(self, event: Hush) -> list[Action]:
        waiting = [Record(utterance, "cancelled", f"by {event.by}") for utterance in self._waiting.clear()]
        self._drafts.clear()
        actions = self._cut(event.by)
        if self._speaking is None and self.state is not State.LISTENING:
            actions += self._rest()
        return [*actions, *waiting]

    # --- what the rules share

    def _speak(self, utterance: Utterance) -> list[Action]:
        self._speaking = self._open[utterance.id] = utterance
        self.state = State.SPEAKING
        shut: list[Action] = [] if self._open_ear else [Listen(False)]
        actions: list[Action] = [*shut, Speak(utterance)]
        if (draft := self._drafts.pop(utterance.id, None)) is not None:
            actions += [Say(utterance.id, "".join(draft.pieces))] if draft.pieces else []
            actions += [Finish(utterance.id)] if draft.complete else []
        return actions

    def _close(self, utterance: str, state: str, why: str, seconds: float) -> list[Action]:
        ended = self._open.pop(utterance, None)
        if ended is None:
            return []
        actions: list[Action] = [Record(ended, state, why, seconds)]
        if self._speaking is not ended:
            return actions
        self._speaking = None
        if self._replying and ended.turn == self.turn:
            # It ended before its text did: whatever else the responder writes has nowhere to go.
            self._replying = False
            actions.append(Forget(self.turn))
        # After a barge-in somebody is speaking, and what waits goes on waiting.
        return [*actions, *self._rest()] if self.state is State.SPEAKING else actions

    def _cut(self, by: str) -> list[Action]:
        actions: list[Action] = []
        if self._replying:
            self._replying = False
            actions.append(Forget(self.turn))
        if self._speaking is not None:
            actions.append(Silence(by))
        return actions

    def _rest(self) -> list[Action]:
        """Says what waits, or opens the microphone and is idle."""
        waiting = self._waiting.next()
        if waiting is not None:
            return self._speak(waiting)
        was_speaking = self.state is State.SPEAKING
        self.state = State.IDLE
        return [Listen(True)] if was_speaking and not self._open_ear else []


Rule = Callable[[Conversation, Any], list[Action]]  # each takes the event it is entered for

TABLE: dict[tuple[State | None, type], Rule] = {
    (State.IDLE, SpeechBegan): Conversation._begin_listening,
    (State.SPEAKING, SpeechBegan): Conversation._barge_in,
    (State.LISTENING, SpeechEnded): Conversation._await_transcript,
    (State.IDLE, Heard): Conversation._ask,
    (State.LISTENING, Heard): Conversation._ask,
    (State.THINKING, Heard): Conversation._ask,
    (State.THINKING, Reply): Conversation._begin_reply,
    (State.SPEAKING, Reply): Conversation._continue_reply,
    (None, ReplyEnded): Conversation._end_reply,
    (None, Announce): Conversation._announce,
    (None, Piece): Conversation._write,
    (None, Complete): Conversation._complete,
    (None, Spoken): Conversation._played,
    (None, Cancelled): Conversation._cancelled,
    (None, Unspoken): Conversation._failed,
    (None, Hush): Conversation._hush,
}
