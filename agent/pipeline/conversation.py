"""The conversation: a table of states and events that decides who may speak, without a thread, a clock or a lock.

States: ``idle``, ``listening`` (the user speaks), ``thinking`` (a reply is awaited), ``speaking`` (the device speaks).
Every text that the device speaks passes through the conversation as an ``Utterance``. Each accepted utterance ends in
exactly one recorded state: played, cancelled or failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from agent.pipeline.announcement_queue import AnnouncementQueue, PendingText
from agent.pipeline.events import (
    Announce,
    DeviceBack,
    DeviceLost,
    DeviceTimedOut,
    Event,
    Heard,
    Hush,
    Reply,
    ReplyEnded,
    SpeechEnded,
    SpeechStarted,
    TextComplete,
    TextPiece,
    Utterance,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.system.distinct import distinct


class State(Enum):
    """The visible state of the device."""

    IDLE = "idle"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"


# --- actions: the decisions that the daemon carries out


@distinct
class Ask(NamedTuple):
    """Request a reply to a transcript. Immutable."""

    turn: int
    text: str


@distinct
class CancelReply(NamedTuple):
    """Cancel the reply of a turn. Immutable."""

    turn: int


@distinct
class StartUtterance(NamedTuple):
    """Start an utterance. Where its text is ``None``, ``AppendText`` and ``Finish`` follow. Immutable."""

    utterance: Utterance


@distinct
class AppendText(NamedTuple):
    """Add a piece to the text of an utterance. Immutable."""

    utterance: str
    text: str


@distinct
class Finish(NamedTuple):
    """Mark the text of an utterance as complete. Immutable."""

    utterance: str


@distinct
class StopPlayback(NamedTuple):
    """Cancel the current utterance; not one more sample of it is played. Immutable."""

    reason: str


@distinct
class Listen(NamedTuple):
    """Pass microphone audio to the recognizer, or stop while the device speaks. Immutable."""

    open: bool


@distinct
class Record(NamedTuple):
    """The recorded end of an utterance (``played``, ``cancelled``, ``failed``), with the seconds played and dropped.

    Immutable.
    """

    utterance: Utterance
    state: str
    reason: str = ""
    seconds: float = 0.0
    dropped_seconds: float = 0.0


Action = Ask | CancelReply | StartUtterance | AppendText | Finish | StopPlayback | Listen | Record


BARGE_IN = "user speech"
"""The reason of an utterance that the user interrupted by speaking."""


class Conversation:
    """Turns events into actions. Not thread-safe; owned by the main thread.

    Every state ends: each segment of speech has its ``Heard`` and each turn its ``ReplyEnded``; where the device that
    would end a state is lost, ``DeviceLost`` or ``DeviceTimedOut`` ends it.

    Args:
        mode: ``assistant``, ``announce`` or ``captions``, as in the configuration.
        listen_while_speaking: Whether the user can interrupt the device by speaking.
        utterance_id: Returns the id of the utterance that answers a turn.
    """

    def __init__(
        self,
        *,
        mode: str = "assistant",
        listen_while_speaking: bool = False,
        utterance_id: Callable[[int], str] = lambda turn: f"reply-{turn}",
    ) -> None:
        self.state = State.IDLE
        self.turn = 0
        self._asks_responder = mode == "assistant"
        self._listens_while_speaking = listen_while_speaking
        self._utterance_id = utterance_id
        self._queue = AnnouncementQueue()
        self._unrecorded: dict[str, Utterance] = {}  # accepted, and not yet in a recorded state
        self._current: Utterance | None = None
        self._user_speaks = False
        # One entry for each segment whose transcript is awaited: whether that transcript still counts.
        self._segments: deque[bool] = deque()
        self._recognizer_paused = False
        self._microphone_lost = False
        self._reply_open = False  # more of the reply to the current turn may arrive

    @property
    def is_busy(self) -> bool:
        """Whether a turn or an utterance is active, or an announcement is queued."""
        return self.state is not State.IDLE or len(self._queue) > 0

    @property
    def queue_length(self) -> int:
        """The number of announcements that wait."""
        return len(self._queue)

    def handle(self, event: Event) -> list[Action]:
        """Return the actions for an event; none if the event has no meaning in this state."""
        rule = TABLE.get((self.state, type(event))) or TABLE.get((None, type(event)))
        return rule(self, event) if rule else []

    def close(self, reason: str) -> list[Action]:
        """Return the records of all accepted utterances that have not ended, and accept no more."""
        left = [*self._unrecorded.values(), *self._queue.clear()]
        self._unrecorded.clear()
        return [Record(utterance, "cancelled", f"by {reason}") for utterance in left]

    # --- listening

    def _speech_started(self, event: SpeechStarted) -> list[Action]:
        self._segments.append(True)
        self._user_speaks = True
        if self._microphone_lost:
            return self._end_segment()  # a late frame from before the loss: no later frame will end this segment
        self.state = State.LISTENING if self.state is State.IDLE else self.state
        if self.state is not State.SPEAKING:
            return []
        if self._recognizer_paused:
            self._segments[-1] = False  # the last frames before the recognizer was paused: a fragment
            return []
        actions = self._interrupt(BARGE_IN)
        self.state = State.LISTENING
        return actions

    def _speech_ended(self, event: SpeechEnded) -> list[Action]:
        self._user_speaks = False
        return self._next_state() if self.state is State.LISTENING else []

    def _microphone_changed(self, event: DeviceLost | DeviceBack) -> list[Action]:
        if event.device == "microphone":
            self._microphone_lost = isinstance(event, DeviceLost)
        return self._end_segment() if self._microphone_lost and self._user_speaks else []

    def _end_segment(self) -> list[Action]:
        """End the segment of a lost microphone. Pausing the recognizer ends its segment and returns the transcript."""
        self._user_speaks = False
        actions: list[Action] = [] if self._recognizer_paused else [Listen(False), Listen(True)]
        return actions + self._next_state() if self.state in (State.IDLE, State.LISTENING) else actions

    # While a reply is awaited, a new sound has no effect: a bang must not cancel the reply. Only a transcript with
    # words replaces the previous question, and interrupts its reply if that has started.

    def _heard(self, event: Heard) -> list[Action]:
        counts = self._segments.popleft() if self._segments else True
        if not self._asks_responder:
            return []
        if not event.text or not counts:
            # No words were recognized; the reply to an earlier turn may still be on its way.
            return [] if self._reply_open or self.state is State.SPEAKING else self._next_state()
        actions = self._interrupt(BARGE_IN) if self.state is State.SPEAKING else self._cancel_reply()
        self.turn += 1
        self._reply_open = True
        self.state = State.THINKING
        return [*actions, *self._resume_listening(), Ask(self.turn, event.text)]

    # --- replying

    def _reply_started(self, event: Reply) -> list[Action]:
        if event.turn != self.turn or not self._reply_open:
            return []
        # Starts even while the user speaks: a transcript with words interrupts it.
        utterance = Utterance(self._utterance_id(event.turn), text=None, turn=event.turn)
        return [*self._speak(utterance), _sentences(utterance.id, event.text)]

    def _reply_continued(self, event: Reply) -> list[Action]:
        if self._current is None or event.turn != self._current.turn or not self._reply_open:
            return []
        return [_sentences(self._current.id, event.text)]

    def _reply_ended(self, event: ReplyEnded) -> list[Action]:
        if event.turn != self.turn or not self._reply_open:
            return []
        self._reply_open = False
        if self._current is not None and self._current.turn == event.turn:
            return [Finish(self._current.id)]
        return self._next_state() if self.state is State.THINKING else []

    # --- speaking

    def _announce(self, event: Announce) -> list[Action]:
        if self.state is State.IDLE and not self._user_speaks:
            return self._speak(event.utterance)
        if not self._queue.add(event.utterance):
            return [Record(event.utterance, "failed", "too many utterances are queued")]
        return self._next_state() if self.state is State.IDLE else []

    def _text_piece(self, event: TextPiece) -> list[Action]:
        if (pending := self._queue.pending_text(event.utterance)) is not None:
            pending.pieces.append(event.text)
            return []
        return [AppendText(event.utterance, event.text)] if self._is_current(event.utterance) else []

    def _text_complete(self, event: TextComplete) -> list[Action]:
        if (pending := self._queue.pending_text(event.utterance)) is not None:
            pending.is_complete = True
            return []
        return [Finish(event.utterance)] if self._is_current(event.utterance) else []

    def _is_current(self, utterance: str) -> bool:
        return self._current is not None and self._current.id == utterance

    def _played(self, event: UtterancePlayed) -> list[Action]:
        return self._record(event.utterance, "played", "", event.seconds)

    def _cancelled(self, event: UtteranceCancelled) -> list[Action]:
        return self._record(event.utterance, "cancelled", f"by {event.reason}", event.seconds, event.dropped_seconds)

    def _failed(self, event: UtteranceFailed) -> list[Action]:
        return self._record(event.utterance, "failed", event.reason, event.seconds)

    def _speaker_timed_out(self, event: DeviceTimedOut) -> list[Action]:
        if event.device != "speaker" or self._current is None or self.state is not State.SPEAKING:
            return []
        stop = StopPlayback(f"no {event.device}")
        reason = f"no {event.device} for {event.seconds:.0f} s"
        return [stop, *self._record(self._current.id, "failed", reason, 0.0)]

    def _hush(self, event: Hush) -> list[Action]:
        """Cancel the current and the queued utterances, and discard every transcript of speech until now."""
        queued = [Record(utterance, "cancelled", f"by {event.reason}") for utterance in self._queue.clear()]
        self._segments = deque([False] * len(self._segments))
        actions = self._interrupt(event.reason)
        if self._current is None or self.state is not State.SPEAKING:
            actions += self._next_state()
        return [*actions, *queued]

    # --- shared by the rules

    def _speak(self, utterance: Utterance, pending: PendingText | None = None) -> list[Action]:
        self._current = self._unrecorded[utterance.id] = utterance
        self.state = State.SPEAKING
        self._recognizer_paused = not self._listens_while_speaking
        actions: list[Action] = [Listen(False)] if self._recognizer_paused else []
        actions.append(StartUtterance(utterance))
        if pending is not None:
            actions += [AppendText(utterance.id, "".join(pending.pieces))] if pending.pieces else []
            actions += [Finish(utterance.id)] if pending.is_complete else []
        return actions

    def _resume_listening(self) -> list[Action]:
        was_paused, self._recognizer_paused = self._recognizer_paused, False
        return [Listen(True)] if was_paused else []

    def _cancel_reply(self) -> list[Action]:
        was_open, self._reply_open = self._reply_open, False
        return [CancelReply(self.turn)] if was_open else []

    def _record(self, utterance: str, state: str, reason: str, seconds: float, dropped: float = 0.0) -> list[Action]:
        ended = self._unrecorded.pop(utterance, None)
        if ended is None:
            return []
        actions: list[Action] = [Record(ended, state, reason, seconds, dropped)]
        if self._current is not ended:
            return actions
        self._current = None
        if ended.turn == self.turn:
            actions += self._cancel_reply()  # it ended before its text did: the rest of the reply cannot be spoken
        # After a barge-in the user is speaking, and the queue keeps waiting.
        return [*actions, *self._next_state()] if self.state is State.SPEAKING else actions

    def _interrupt(self, reason: str) -> list[Action]:
        return [*self._cancel_reply(), *([StopPlayback(reason)] if self._current is not None else [])]

    def _next_state(self) -> list[Action]:
        """Listen while the user speaks, else await the transcript, else start a queued utterance, else be idle."""
        awaits_transcript = any(self._segments)
        if self._user_speaks and (awaits_transcript or len(self._queue)):
            self.state = State.LISTENING
        elif awaits_transcript and self._asks_responder:
            self.state = State.THINKING
        elif (queued := self._queue.pop()) is not None:
            return self._speak(*queued)
        else:
            self.state = State.IDLE
        return self._resume_listening()


def _sentences(utterance: str, text: str) -> AppendText:
    """Return a piece of reply that ends its sentence: the next piece must not be joined to its last word."""
    return AppendText(utterance, f"{text}\n\n")


Rule = Callable[[Conversation, Any], list[Action]]  # each receives the event type of its table row

TABLE: dict[tuple[State | None, type], Rule] = {
    (None, SpeechStarted): Conversation._speech_started,
    (None, SpeechEnded): Conversation._speech_ended,
    (None, Heard): Conversation._heard,
    (None, DeviceLost): Conversation._microphone_changed,
    (None, DeviceBack): Conversation._microphone_changed,
    (None, DeviceTimedOut): Conversation._speaker_timed_out,
    (State.THINKING, Reply): Conversation._reply_started,
    (State.SPEAKING, Reply): Conversation._reply_continued,
    (None, ReplyEnded): Conversation._reply_ended,
    (None, Announce): Conversation._announce,
    (None, TextPiece): Conversation._text_piece,
    (None, TextComplete): Conversation._text_complete,
    (None, UtterancePlayed): Conversation._played,
    (None, UtteranceCancelled): Conversation._cancelled,
    (None, UtteranceFailed): Conversation._failed,
    (None, Hush): Conversation._hush,
}
