"""Who may speak now: a table of states and events that says what is to be done. Pure: no thread, no clock, no lock.

States: ``idle``, ``listening`` (somebody speaks), ``thinking`` (an answer is on its way), ``speaking`` (the device
speaks). Everything the device ever says goes through here as an ``Utterance``, and each one that was accepted ends in
exactly one recorded state: played, cancelled or failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from agent.pipeline.announcement_queue import Announcements, Draft
from agent.pipeline.events import (
    Announce,
    Cancelled,
    Complete,
    DeviceBack,
    DeviceLost,
    DeviceTimedOut,
    Event,
    Heard,
    Hush,
    Piece,
    Reply,
    ReplyEnded,
    SpeechBegan,
    SpeechEnded,
    Utterance,
    UtteranceFailed,
    UtterancePlayed,
)


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
class CancelReply:
    """The answer to a turn is not wanted any more."""

    turn: int


@dataclass(frozen=True, slots=True)
class StartUtterance:
    """Begin an utterance. Where its text is ``None``, ``Say`` and ``Finish`` follow."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class AppendText:
    """One more piece of an utterance's text."""

    utterance: str
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The text of an utterance is complete."""

    utterance: str


@dataclass(frozen=True, slots=True)
class StopPlayback:
    """Not one more sample of what is being said."""

    by: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Open the microphone to the recognizer, or shut it while the device speaks."""

    open: bool


@dataclass(frozen=True, slots=True)
class Record:
    """How an utterance ended: ``played``, ``cancelled`` or ``failed``, ``why``, and what was heard and what dropped."""

    utterance: Utterance
    state: str
    why: str = ""
    seconds: float = 0.0
    dropped_seconds: float = 0.0


Action = Ask | CancelReply | StartUtterance | AppendText | Finish | StopPlayback | Listen | Record


class Conversation:
    """Events in, actions out. ``mode`` as in the configuration; ``id_of`` names the utterances of a turn.

    What a state waits for always comes: each stretch of speech has its ``Heard``, each turn its ``ReplyEnded``; where
    the device that would bring an end has gone, ``DeviceLost`` or ``DeviceAway`` brings it.
    """

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
        self._speaking: Utterance | None = None
        self._somebody_speaks = False
        self._stretches: deque[bool] = deque()  # begun and not yet heard: whether what was said is wanted
        self._shut = False  # the ear, because the device speaks
        self._microphone_lost = False
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
        return [Record(utterance, "cancelled", f"by {by}") for utterance in left]

    # --- hearing

    def _begin_listening(self, event: SpeechBegan) -> list[Action]:
        self._stretches.append(True)
        self._somebody_speaks = True
        if self._microphone_lost:
            return self._end_stretch()  # it was on its way when the microphone went, and nobody else will end it
        self.state = State.LISTENING if self.state is State.IDLE else self.state
        if self.state is not State.SPEAKING:
            return []
        if self._shut:
            self._stretches[-1] = False  # the last frames before the microphone was shut: a shred of something
            return []
        actions = self._cut("somebody spoke")
        self.state = State.LISTENING
        return actions

    def _await_transcript(self, event: SpeechEnded) -> list[Action]:
        self._somebody_speaks = False
        return self._rest() if self.state is State.LISTENING else []

    def _mind_microphone(self, event: DeviceLost | DeviceBack) -> list[Action]:
        if event.which == "microphone":
            self._microphone_lost = isinstance(event, DeviceLost)
        return self._end_stretch() if self._microphone_lost and self._somebody_speaks else []

    def _end_stretch(self) -> list[Action]:
        """Whoever spoke is not heard any more. An ear that is shut ends its stretch, and gives what was heard of it."""
        self._somebody_speaks = False
        actions: list[Action] = [] if self._shut else [Listen(False), Listen(True)]
        return actions + self._rest() if self.state in (State.IDLE, State.LISTENING) else actions

    # While an answer is awaited, a new sound changes nothing: a slammed door must not cost the answer. Only a
    # transcript that holds words takes the place of the question before it, and cuts its answer if that has begun.

    def _ask(self, event: Heard) -> list[Action]:
        wanted = self._stretches.popleft() if self._stretches else True
        if not self._answers:
            return []
        if not event.text or not wanted:
            # Nothing was understood; an answer to an earlier turn may still be on its way.
            return [] if self._replying or self.state is State.SPEAKING else self._rest()
        actions = self._cut("somebody spoke") if self.state is State.SPEAKING else self._forget()
        self.turn += 1
        self._replying = True
        self.state = State.THINKING
        return [*actions, *self._listen(), Ask(self.turn, event.text)]

    # --- answering

    def _begin_reply(self, event: Reply) -> list[Action]:
        if event.turn != self.turn or not self._replying:
            return []
        # Also while somebody speaks: what they say cuts it, if it turns out to be words.
        utterance = Utterance(self._id_of(event.turn), text=None, turn=event.turn)
        return [
            *self._speak(utterance),
            AppendText(utterance.id, f"{event.text}\n"),
        ]  # whole sentences, not to be glued

    def _continue_reply(self, event: Reply) -> list[Action]:
        if self._speaking is None or event.turn != self._speaking.turn or not self._replying:
            return []
        return [AppendText(self._speaking.id, f"{event.text}\n")]

    def _end_reply(self, event: ReplyEnded) -> list[Action]:
        if event.turn != self.turn or not self._replying:
            return []
        self._replying = False
        if self._speaking is not None and self._speaking.turn == event.turn:
            return [Finish(self._speaking.id)]
        return self._rest() if self.state is State.THINKING else []

    # --- speaking

    def _announce(self, event: Announce) -> list[Action]:
        if self.state is State.IDLE and not self._somebody_speaks:
            return self._speak(event.utterance)
        if not self._waiting.add(event.utterance):
            return [Record(event.utterance, "failed", "too many utterances wait already")]
        return self._rest() if self.state is State.IDLE else []

    def _write(self, event: Piece) -> list[Action]:
        if (draft := self._waiting.draft(event.utterance)) is not None:
            draft.pieces.append(event.text)
            return []
        return [AppendText(event.utterance, event.text)] if self._says(event.utterance) else []

    def _complete(self, event: Complete) -> list[Action]:
        if (draft := self._waiting.draft(event.utterance)) is not None:
            draft.complete = True
            return []
        return [Finish(event.utterance)] if self._says(event.utterance) else []

    def _says(self, utterance: str) -> bool:
        return self._speaking is not None and self._speaking.id == utterance

    def _played(self, event: UtterancePlayed) -> list[Action]:
        return self._close(event.utterance, "played", "", event.seconds)

    def _cancelled(self, event: Cancelled) -> list[Action]:
        return self._close(event.utterance, "cancelled", f"by {event.by}", event.seconds, event.dropped_seconds)

    def _failed(self, event: UtteranceFailed) -> list[Action]:
        return self._close(event.utterance, "failed", event.reason, event.seconds)

    def _give_up(self, event: DeviceTimedOut) -> list[Action]:
        if event.which != "speaker" or self._speaking is None or self.state is not State.SPEAKING:
            return []
        silence = StopPlayback(f"no {event.which}")
        why = f"no {event.which} for {event.seconds:.0f} s"
        return [silence, *self._close(self._speaking.id, "failed", why, 0.0)]

    def _hush(self, event: Hush) -> list[Action]:
        """Nothing that was said until now, by whomever, leads to a sound any more."""
        waiting = [Record(utterance, "cancelled", f"by {event.by}") for utterance in self._waiting.clear()]
        self._stretches = deque([False] * len(self._stretches))
        actions = self._cut(event.by)
        if self._speaking is None or self.state is not State.SPEAKING:
            actions += self._rest()
        return [*actions, *waiting]

    # --- what the rules share

    def _speak(self, utterance: Utterance, draft: Draft | None = None) -> list[Action]:
        self._speaking = self._open[utterance.id] = utterance
        self.state = State.SPEAKING
        self._shut = not self._open_ear
        actions: list[Action] = [Listen(False)] if self._shut else []
        actions.append(StartUtterance(utterance))
        if draft is not None:
            actions += [AppendText(utterance.id, "".join(draft.pieces))] if draft.pieces else []
            actions += [Finish(utterance.id)] if draft.complete else []
        return actions

    def _listen(self) -> list[Action]:
        """Opens the ear, where it was shut."""
        was_shut, self._shut = self._shut, False
        return [Listen(True)] if was_shut else []

    def _forget(self) -> list[Action]:
        """The answer that is on its way is not wanted."""
        was_replying, self._replying = self._replying, False
        return [CancelReply(self.turn)] if was_replying else []

    def _close(self, utterance: str, state: str, why: str, seconds: float, dropped: float = 0.0) -> list[Action]:
        ended = self._open.pop(utterance, None)
        if ended is None:
            return []
        actions: list[Action] = [Record(ended, state, why, seconds, dropped)]
        if self._speaking is not ended:
            return actions
        self._speaking = None
        if ended.turn == self.turn:
            actions += self._forget()  # it ended before its text did: whatever else is written has nowhere to go
        # After a barge-in somebody is speaking, and what waits goes on waiting.
        return [*actions, *self._rest()] if self.state is State.SPEAKING else actions

    def _cut(self, by: str) -> list[Action]:
        return [*self._forget(), *([StopPlayback(by)] if self._speaking is not None else [])]

    def _rest(self) -> list[Action]:
        """Listens to who speaks, else waits for what they said, else says what waits, else is idle."""
        wanted = any(self._stretches)
        if self._somebody_speaks and (wanted or len(self._waiting)):
            self.state = State.LISTENING
        elif wanted and self._answers:
            self.state = State.THINKING
        elif (waiting := self._waiting.next()) is not None:
            return self._speak(*waiting)
        else:
            self.state = State.IDLE
        return self._listen()


Rule = Callable[[Conversation, Any], list[Action]]  # each takes the event it is entered for

TABLE: dict[tuple[State | None, type], Rule] = {
    (None, SpeechBegan): Conversation._begin_listening,
    (None, SpeechEnded): Conversation._await_transcript,
    (None, Heard): Conversation._ask,
    (None, DeviceLost): Conversation._mind_microphone,
    (None, DeviceBack): Conversation._mind_microphone,
    (None, DeviceTimedOut): Conversation._give_up,
    (State.THINKING, Reply): Conversation._begin_reply,
    (State.SPEAKING, Reply): Conversation._continue_reply,
    (None, ReplyEnded): Conversation._end_reply,
    (None, Announce): Conversation._announce,
    (None, Piece): Conversation._write,
    (None, Complete): Conversation._complete,
    (None, UtterancePlayed): Conversation._played,
    (None, Cancelled): Conversation._cancelled,
    (None, UtteranceFailed): Conversation._failed,
    (None, Hush): Conversation._hush,
}
