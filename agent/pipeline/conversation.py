"""The conversation: a table of states and events that decides who may speak, without a thread, a clock or a lock.

States: ``idle``, ``listening`` (the user speaks), ``thinking`` (a reply is awaited), ``speaking`` (the device speaks).
Every text that the device speaks passes through the conversation as an ``Utterance``. Each accepted utterance ends in
exactly one recorded state: played, cancelled, failed, expired or dropped.
"""

from collections.abc import Callable
from typing import Any

from agent.pipeline.actions import (
    Action,
    AppendText,
    Ask,
    CancelReply,
    DiscardUtterance,
    Duck,
    Finish,
    Listen,
    OpenGate,
    PlayFillerSound,
    PlayWakeSound,
    Prepare,
    Record,
    ReportPlayedText,
    ResumeUtterance,
    StartUtterance,
    StopPlayback,
    SuspendUtterance,
)
from agent.pipeline.announcement_queue import AnnouncementQueue, PendingText
from agent.pipeline.events import (
    Announce,
    Cancel,
    DeviceBack,
    DeviceLost,
    DeviceTimedOut,
    EchoChanged,
    Event,
    Expired,
    Heard,
    Hush,
    ListenNow,
    ListenTimedOut,
    Partial,
    PlayedText,
    Reply,
    ReplyDelayed,
    ReplyEnded,
    SpeechEnded,
    SpeechPaused,
    SpeechResumed,
    SpeechStarted,
    SpeechSuspected,
    StopWord,
    TextComplete,
    TextPiece,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
    WakePaused,
    WakeYielded,
    Woken,
    WordTimedOut,
)
from agent.pipeline.interruptions import BARGE_IN, BUSY, INTERRUPTED, MESSAGE_ARRIVED, SPOKEN_OVER
from agent.pipeline.questions import AwaitedSegment, Questions
from agent.pipeline.started_utterances import StartedUtterances, Suspended
from agent.pipeline.state import LISTEN_SECONDS, SPEAKING_SECONDS, State
from agent.pipeline.text.closing import is_closing
from agent.pipeline.utterance import Urgency, Utterance


class Conversation:
    """Turns events into actions. Not thread-safe; owned by the main thread.

    Every state ends: each segment of speech gets one ``Heard``, each turn one ``ReplyEnded``, each ``StartUtterance``
    or ``ResumeUtterance`` one ``UtterancePlayed``, ``UtteranceCancelled`` or ``UtteranceFailed``. If the device that
    would end a state is lost, ``DeviceLost`` or ``DeviceTimedOut`` ends the state.

    Args:
        mode: ``assistant``, ``announce`` or ``captions``, as in the configuration.
        listen_while_speaking: Whether the user can interrupt the device by speaking.
        utterance_id: Returns the id of the utterance that answers a turn.
        follow_up_seconds: Time after a reply in which the user needs no wake word; ``None`` without wake words.
    """

    def __init__(
        self,
        *,
        mode: str = "assistant",
        listen_while_speaking: bool = False,
        utterance_id: Callable[[int], str] = lambda turn: f"reply-{turn}",
        follow_up_seconds: float | None = None,
    ) -> None:
        self.state = State.IDLE
        self.turn = 0
        self._asks_responder = mode == "assistant"
        self._listens_while_speaking = listen_while_speaking
        self._utterance_id = utterance_id
        self._follow_up_seconds = follow_up_seconds
        self._queue = AnnouncementQueue()
        self._started = StartedUtterances()
        self._current: Utterance | None = None
        self._is_stopping = False  # the current utterance was stopped, and its end is not reported yet
        self._user_speaks = False
        self._awaits_user = False  # after a wake word or ListenNow, until the user speaks
        self._is_gate_shut = False  # the wake gate was closed: a SpeechStarted that follows was sent before
        self._questions = Questions()
        self._is_prepared = False  # a reply to the next turn was requested before the end of its question
        self._recognizer_paused = self._microphone_lost = False
        self._speech_interrupts = True
        self._confirms_speech = False  # an echo canceller is active: other sounds may be detected as speech
        self._is_ducked = False  # the current utterance is quieter, because the user may speak
        self._spoken_over: str | None = None  # utterance that was suspended for speech without a word so far
        self._was_interrupted = False  # the speech whose transcript is awaited interrupted the device
        self._reply_open = False  # more of the reply to the current turn may arrive

    @property
    def is_busy(self) -> bool:
        """Whether a turn or an utterance is active, or an utterance is queued."""
        return self.state is not State.IDLE or len(self._queue) > 0

    @property
    def queue_length(self) -> int:
        """The number of queued utterances."""
        return len(self._queue)

    def handle(self, event: Event) -> list[Action]:
        """Return the actions for an event; none if the event has no meaning in this state."""
        rule = TABLE.get((self.state, type(event))) or TABLE.get((None, type(event)))
        return rule(self, event) if rule else []

    def close(self, reason: str) -> list[Action]:
        """Return the records of all accepted utterances that have not ended, and accept no more."""
        queued = [Record(utterance, "cancelled", f"by {reason}") for utterance in self._queue.clear()]
        return [*self._started.close(f"by {reason}"), *queued]

    # --- listening

    def _speech_started(self, event: SpeechStarted) -> list[Action]:
        self._questions.start(event.pause_seconds)
        if self._is_gate_shut:
            self._questions.ignore_last()
            return []
        # If a wake word has interrupted a reply, the speech that follows may be a stop word.
        self._user_speaks, self._was_interrupted = True, self._was_interrupted and self._awaits_user
        self._awaits_user = False
        if self._microphone_lost:
            return self._end_segment()  # a late frame from before the loss: no later frame will end this segment
        self.state = State.LISTENING if self.state is State.IDLE else self.state
        if self.state is not State.SPEAKING:
            return []
        if self._recognizer_paused or self._is_important or not self._speech_interrupts:
            # Ignore the last frames from before the recognizer was paused, and speech that must not interrupt.
            self._questions.ignore_last()
            return []
        self._was_interrupted = True
        if self._confirms_speech and self._current is not None and not self._is_stopping:
            actions = self._suspend(SPOKEN_OVER)
            self._spoken_over, self._current = self._current.id, None
        else:
            actions = self._interrupt(BARGE_IN)
        self.state = State.LISTENING
        return actions

    def _speech_suspected(self, event: SpeechSuspected) -> list[Action]:
        may_interrupt = self._speech_interrupts and not self._recognizer_paused and not self._is_important
        self._is_ducked = event.is_active and may_interrupt and not self._microphone_lost
        return [Duck(event.is_active)] if self._is_ducked or not event.is_active else []

    def _partial(self, event: Partial) -> list[Action]:
        if not event.text.strip():
            return []
        if self._spoken_over is not None:
            return self._end_spoken_over()
        if self.state is State.SPEAKING and self._was_interrupted and not self._is_important:
            actions = self._interrupt(BARGE_IN)  # the utterance had continued before this late word
            self.state = State.LISTENING
            return actions
        return []

    def _end_spoken_over(self) -> list[Action]:
        """End the utterance that was suspended for speech, because a word has followed."""
        utterance, self._spoken_over = self._spoken_over, None
        if utterance is None or not self._started.is_suspended(utterance):
            return []
        return [*self._cancel_reply(), *self._end_suspended(utterance, "cancelled", f"by {BARGE_IN}")]

    def _continue_spoken_over(self, event: WordTimedOut | None = None) -> list[Action]:
        """Continue the utterance that was suspended for speech, because no word has followed."""
        suspended, self._spoken_over = self._started.find_suspended(self._spoken_over), None
        return [] if suspended is None or self.state is State.SPEAKING else self._resume(suspended)

    def _echo_changed(self, event: EchoChanged) -> list[Action]:
        self._confirms_speech, self._speech_interrupts = True, event.mode == "speech"
        self._listens_while_speaking = event.mode != "half-duplex"
        if self.state is not State.SPEAKING or self._recognizer_paused != self._listens_while_speaking:
            return []
        self._recognizer_paused = not self._listens_while_speaking
        # A closed microphone does not report that the suspected speech has ended.
        restore = self._speech_suspected(SpeechSuspected(False)) if self._is_ducked else []
        return [*restore, Listen(self._listens_while_speaking)]

    def _speech_paused(self, event: SpeechPaused) -> list[Action]:
        is_question = self._asks_responder and self._questions.is_next and not self._is_closing(event.text)
        # The reply to an earlier turn must not be followed by one that may be discarded.
        if self.state is not State.LISTENING or self._reply_open or not is_question or not event.text:
            return []
        self._is_prepared = True
        return [Prepare(self.turn + 1, self._questions.preview(event.text))]

    def _speech_resumed(self, event: SpeechResumed) -> list[Action]:
        return self._discard_prepared()

    def _speech_ended(self, event: SpeechEnded) -> list[Action]:
        self._user_speaks = False
        return self._next_state() if self.state is State.LISTENING else []

    def _microphone_changed(self, event: DeviceLost | DeviceBack) -> list[Action]:
        if event.device == "microphone":
            self._microphone_lost = isinstance(event, DeviceLost)
        if not self._microphone_lost:
            return []
        restore = self._speech_suspected(SpeechSuspected(False)) if self._is_ducked else []
        return [*restore, *(self._end_segment() if self._user_speaks or self._awaits_user else [])]

    def _end_segment(self) -> list[Action]:
        """End the current segment. Pausing the recognizer ends its segment and returns the transcript."""
        self._user_speaks = self._awaits_user = False
        actions: list[Action] = [] if self._recognizer_paused else [Listen(False), Listen(True)]
        return actions + self._next_state() if self.state in (State.IDLE, State.LISTENING) else actions

    # While a reply is awaited, a new sound has no effect: a bang must not cancel the reply. Only a transcript with
    # words replaces the previous question, and interrupts the reply to it if that reply has started.

    def _heard(self, event: Heard) -> list[Action]:
        segment = self._questions.take()
        self._was_interrupted = False
        if not self._asks_responder:
            return []
        if self._started.find_suspended(self._spoken_over) is None:
            self._spoken_over = None  # the utterance has ended meanwhile
        if self._spoken_over is None or not segment.is_question:
            return self._heard_question(segment, event)
        if not event.text:
            return [*self._discard_prepared(), *self._continue_spoken_over()]
        return [*self._end_spoken_over(), *self._heard_question(segment, event)]

    def _heard_question(self, segment: AwaitedSegment, event: Heard) -> list[Action]:
        if not event.text or not segment.is_question or self._is_closing(event.text):
            # There is no question. The reply to an earlier turn may follow, or may have waited for this transcript.
            is_busy = self._awaits_reply or self.state is State.SPEAKING
            return [*self._discard_prepared(), *([] if is_busy else self._next_state())]
        self._is_prepared = False  # Ask accepts or discards the prepared reply
        if self._is_important:  # the important utterance ends first; the reply waits for it
            actions = [*self._cancel_reply(), *self._cancel_waiting(self._utterance_id(self.turn), BARGE_IN)]
        else:
            actions = self._interrupt(BARGE_IN) if self.state is State.SPEAKING else self._cancel_reply()
            actions += [*self._cancel_waiting(self._utterance_id(self.turn), BARGE_IN), *self._resume_listening()]
            self.state = State.THINKING
        self.turn += 1
        self._reply_open = True
        return [*actions, Ask(self.turn, self._questions.ask(segment, event.text))]

    def _listen_now(self, event: ListenNow) -> list[Action]:
        if not self._asks_responder or self._microphone_lost or self._user_speaks or self._is_important:
            return []
        actions = self._interrupt(f"{event.source}, which asked to listen")
        self._await_user()
        return [*actions, *self._resume_listening(), *self._open_gate(LISTEN_SECONDS)]

    def _woken(self, event: Woken) -> list[Action]:
        self._is_gate_shut = False
        may_interrupt = self._confirms_speech and not self._recognizer_paused and not self._is_important
        if self.state is State.SPEAKING and may_interrupt:
            actions = self._interrupt(f'the wake word "{event.word}"')
            self._await_user()
            self._was_interrupted = True
            return actions
        if self.state is State.IDLE:  # in another state only the transcript changes the state
            self._await_user()
        return []

    def _wake_yielded(self, event: WakeYielded) -> list[Action]:
        self._questions.ignore_all()  # another device answers the question
        return [*self._shut_gate(), *self._end_segment()]

    def _wake_paused(self, event: WakePaused) -> list[Action]:
        return [PlayWakeSound()] if self._awaits_user else []

    def _stop_word(self, event: StopWord) -> list[Action]:
        if self.state is not State.SPEAKING and not self._was_interrupted:
            return []
        return self._hush(Hush(f'the stop word "{event.word}"'))

    def _await_user(self) -> None:
        self._awaits_user = True
        self.state = State.LISTENING

    def _open_gate(self, seconds: float) -> list[Action]:
        if self._follow_up_seconds is None:
            return []
        self._is_gate_shut = self._is_gate_shut and not seconds
        return [OpenGate(seconds)]

    def _shut_gate(self) -> list[Action]:
        self._is_gate_shut = self._follow_up_seconds is not None
        return self._open_gate(0.0)

    def _listen_timed_out(self, event: ListenTimedOut) -> list[Action]:
        was_awaited, self._awaits_user = self._awaits_user, False
        return self._next_state() if was_awaited and self.state is State.LISTENING else []

    # --- replying

    def _reply(self, event: Reply) -> list[Action]:
        if event.turn != self.turn or not self._reply_open:
            return []
        self._questions.close()
        utterance = Utterance(self._utterance_id(event.turn), text=None, turn=event.turn)
        piece = f"{event.text}\n\n"  # the next piece must not be joined to the last word
        if self._is_accepted(utterance.id):
            return self._text_piece(TextPiece(utterance.id, piece))
        if self.state is State.THINKING and not self._queue.precedes(utterance.priority):
            # The reply starts even while the user speaks: a transcript with words interrupts it.
            return [*self._speak(utterance), AppendText(utterance.id, piece)]
        self._queue.add(utterance)
        actions = self._text_piece(TextPiece(utterance.id, piece))
        return [*actions, *self._next_state()] if self.state is State.THINKING else actions

    def _reply_delayed(self, event: ReplyDelayed) -> list[Action]:
        return [PlayFillerSound()] if event.turn == self.turn and self._reply_open and not self._user_speaks else []

    def _reply_ended(self, event: ReplyEnded) -> list[Action]:
        if event.turn != self.turn or not self._reply_open:
            return []
        self._reply_open = False
        if self._is_accepted(utterance := self._utterance_id(event.turn)):
            return self._text_complete(TextComplete(utterance))
        return self._next_state() if self.state is State.THINKING else []

    # --- announcements

    def _announce(self, event: Announce) -> list[Action]:
        utterance = event.utterance
        if utterance.urgency is Urgency.IMPORTANT and not self._is_important:
            return [*self._suspend(INTERRUPTED), *self._speak(utterance)]
        is_free = self.state is State.IDLE and not self._user_speaks
        if utterance.urgency is Urgency.NOTIFICATION and not (is_free and len(self._queue) == 0):
            return [Record(utterance, "dropped", BUSY)]
        if is_free:
            return self._speak(utterance)
        if (problem := self._queue.add(utterance)) is not None:
            return [Record(utterance, "failed", problem)]
        actions = self._end_notification() if utterance.urgency is Urgency.MESSAGE else []
        return [*actions, *self._next_state()] if self.state is State.IDLE else actions

    def _end_notification(self) -> list[Action]:
        """End a notification that is being spoken or is suspended, because a message arrived."""
        for utterance, *_ in self._started.suspended:
            if utterance.urgency is Urgency.NOTIFICATION:
                return self._end_suspended(utterance.id, "cancelled", f"by {MESSAGE_ARRIVED}")
        if self._current is None or self._is_stopping or self._current.urgency is not Urgency.NOTIFICATION:
            return []
        return self._stop(MESSAGE_ARRIVED)

    def _text_piece(self, event: TextPiece) -> list[Action]:
        if self._queue.pending_text(event.utterance) is not None:
            problem = self._queue.append(event.utterance, event.text)
            return [] if problem is None else self._end_early(event.utterance, "failed", problem)
        return [AppendText(event.utterance, event.text)] if self._is_started(event.utterance) else []

    def _text_complete(self, event: TextComplete) -> list[Action]:
        if (pending := self._queue.pending_text(event.utterance)) is not None:
            pending.is_complete = True
            return []
        return [Finish(event.utterance)] if self._is_started(event.utterance) else []

    def _hush(self, event: Hush) -> list[Action]:
        """Cancel the current, suspended and queued utterances, and ignore the transcripts of all speech until now."""
        queued = [Record(utterance, "cancelled", f"by {event.reason}") for utterance in self._queue.clear()]
        self._questions.ignore_all()
        actions = [*self._discard_prepared(), *self._interrupt(event.reason)]
        if self._awaits_user:
            self._awaits_user = False
            actions += self._shut_gate()  # words that are spoken now are not addressed to the device
        for suspended in self._started.suspended:
            actions += self._end_suspended(suspended.utterance.id, "cancelled", f"by {event.reason}")
        if self._current is None or self.state is not State.SPEAKING:
            actions += self._next_state()
        return [*actions, *queued]

    def _cancel(self, event: Cancel) -> list[Action]:
        return self._end_early(event.utterance, "cancelled", f"by {event.reason}")

    def _expired(self, event: Expired) -> list[Action]:
        return self._end_early(event.utterance, "expired", f"not audible within {event.ttl_seconds:g} s")

    def _end_early(self, utterance: str, state: str, reason: str) -> list[Action]:
        """End one queued, suspended or current utterance."""
        is_reply = self._reply_open and utterance == self._utterance_id(self.turn)
        actions = self._cancel_reply() if is_reply and self._is_accepted(utterance) else []
        if (queued := self._queue.remove(utterance)) is not None:
            return [*actions, Record(queued, state, reason)]
        if self._started.is_suspended(utterance):
            return [*actions, *self._end_suspended(utterance, state, reason)]
        if self._current is None or self._current.id != utterance or self._is_stopping:
            return actions
        self._started.expect_end(utterance, state, reason)
        return [*actions, *self._stop(reason.removeprefix("by "))]

    # --- reports of the stages

    def _played(self, event: UtterancePlayed) -> list[Action]:
        return self._record(event.utterance, "played", "", event.seconds)

    def _cancelled(self, event: UtteranceCancelled) -> list[Action]:
        is_reply = self._started.is_reply(event.utterance)
        report: list[Action] = [ReportPlayedText(event.utterance, event.seconds)] if is_reply else []
        if (end := self._started.note_stop(event)) is not None:
            return [*report, *self._record(event.utterance, *end, event.seconds, event.dropped_seconds)]
        return [*report, *(self._next_state() if self._current is None and self.state is State.SPEAKING else [])]

    def _played_text(self, event: PlayedText) -> list[Action]:
        return self._started.note_text(event)

    def _failed(self, event: UtteranceFailed) -> list[Action]:
        return self._record(event.utterance, "failed", event.reason, event.seconds)

    def _speaker_timed_out(self, event: DeviceTimedOut) -> list[Action]:
        if event.device != "speaker" or self._current is None or self.state is not State.SPEAKING:
            return []
        utterance, reason, is_late = self._current.id, f"no speaker for {event.seconds:.0f} s", self._is_stopping
        self._started.expect_end(utterance, "failed", reason)
        stop = self._stop("no speaker")  # the report shows how much was played, if it arrives before the next timeout
        return [*stop, *self._record(utterance, "failed", reason, 0.0)] if is_late else stop

    # --- shared by the rules

    @property
    def _is_important(self) -> bool:
        """Whether an important utterance is being spoken: only a hush or a cancel ends it."""
        return self._current is not None and self._current.urgency is Urgency.IMPORTANT and not self._is_stopping

    def _is_started(self, utterance: str) -> bool:
        """Whether an utterance is current or suspended."""
        return self._started.is_suspended(utterance) or (self._current is not None and self._current.id == utterance)

    def _is_accepted(self, utterance: str) -> bool:
        return self._is_started(utterance) or utterance in self._queue

    @property
    def _awaits_reply(self) -> bool:
        """Whether the reply to the current turn has not begun to arrive."""
        return self._reply_open and not self._is_accepted(self._utterance_id(self.turn))

    def _speak(self, utterance: Utterance, pending: PendingText | None = None) -> list[Action]:
        self._started.start(utterance)
        actions = [*self._start_speaking(utterance), StartUtterance(utterance)]
        if pending is not None:
            actions += [AppendText(utterance.id, "".join(pending.pieces))] if pending.pieces else []
            actions += [Finish(utterance.id)] if pending.is_complete else []
        return actions

    def _start_speaking(self, utterance: Utterance) -> list[Action]:
        self._current, self._is_stopping = utterance, False
        self._awaits_user, self._spoken_over, self._is_ducked = False, None, False
        self.state = State.SPEAKING
        self._recognizer_paused = not self._listens_while_speaking
        if self._recognizer_paused:
            return [Listen(False)]
        return self._open_gate(SPEAKING_SECONDS) if self._speech_interrupts else []

    def _suspend(self, reason: str) -> list[Action]:
        """Stop the current utterance for an important one or for the user."""
        if self._current is None or self._is_stopping:
            return []
        self._started.suspend(self._current)
        return [SuspendUtterance(self._current.id, reason)]

    def _end_suspended(self, utterance: str, state: str, reason: str) -> list[Action]:
        """End a suspended utterance: record it now, or when the stages have reported how much of it was played."""
        actions, ends_now = self._started.discard_suspended(utterance, state, reason)
        return [*actions, *self._record(utterance, state, reason, 0.0)] if ends_now else actions

    def _cancel_waiting(self, utterance: str, reason: str) -> list[Action]:
        """Cancel an utterance that is queued or suspended."""
        if (queued := self._queue.remove(utterance)) is not None:
            return [Record(queued, "cancelled", f"by {reason}")]
        if self._started.is_suspended(utterance):
            return self._end_suspended(utterance, "cancelled", f"by {reason}")
        return []

    def _stop(self, reason: str) -> list[Action]:
        self._is_stopping = True
        return [StopPlayback(reason)]

    def _interrupt(self, reason: str) -> list[Action]:
        # A queued reply that is still being written would never be complete: its request is cancelled.
        reply = self._utterance_id(self.turn)
        waiting = self._cancel_waiting(reply, reason) if self._reply_open and reply in self._queue else []
        return [*self._cancel_reply(), *waiting, *(self._stop(reason) if self._current is not None else [])]

    def _resume_listening(self) -> list[Action]:
        was_paused, self._recognizer_paused = self._recognizer_paused, False
        return [Listen(True)] if was_paused else []

    def _is_closing(self, text: str) -> bool:
        return self._follow_up_seconds is not None and is_closing(text)

    def _discard_prepared(self) -> list[Action]:
        was_prepared, self._is_prepared = self._is_prepared, False
        return [CancelReply(self.turn + 1)] if was_prepared else []

    def _cancel_reply(self) -> list[Action]:
        was_open, self._reply_open = self._reply_open, False
        return [CancelReply(self.turn)] if was_open else []

    def _record(self, utterance: str, state: str, reason: str, seconds: float, dropped: float = 0.0) -> list[Action]:
        record = self._started.record(utterance, state, reason, seconds, dropped)
        if record is None:
            return []
        actions: list[Action] = [record]
        ended = record.utterance
        is_answer = state == "played" and ended.turn > 0
        if is_answer or not (self._recognizer_paused or self._user_speaks or self._awaits_user):
            actions += self._open_gate(self._follow_up_seconds or 0.0 if is_answer else 0.0)
        if ended.turn == self.turn:
            actions += self._cancel_reply()  # the text was incomplete: the rest of the reply cannot be spoken
        if self._started.end_suspension(utterance):  # it ended before the suspension took effect
            actions.append(DiscardUtterance(utterance))
        if self._current is ended:
            self._current, self._is_stopping = None, False
        # After a barge-in the user is speaking, and the queue keeps waiting.
        is_over = self._current is None and self.state is State.SPEAKING
        return [*actions, *self._next_state()] if is_over else actions

    def _next_state(self) -> list[Action]:
        """Choose what follows: an important utterance, the user, the reply, a suspended, then a queued utterance."""
        awaits_transcript = self._questions.is_awaited
        is_waiting = len(self._queue) > 0 or len(self._started.suspended) > 0
        if self._queue.has_important and (queued := self._queue.pop()) is not None:
            return self._speak(*queued)
        if self._awaits_user or (self._user_speaks and (awaits_transcript or is_waiting)):
            self.state = State.LISTENING
        elif (awaits_transcript and self._asks_responder) or self._awaits_reply:
            self.state = State.THINKING
        elif self._started.suspended:
            return self._resume(self._started.suspended[-1])
        elif (queued := self._queue.pop()) is not None:
            return self._speak(*queued)
        else:
            self.state = State.IDLE
        return self._resume_listening()

    def _resume(self, suspended: Suspended) -> list[Action]:
        if suspended.played_seconds is None:
            self.state = State.SPEAKING  # until the stages have reported how much was played
            return []
        self._started.end_suspension(suspended.utterance.id)
        resume = ResumeUtterance(suspended.utterance, suspended.played_seconds)
        return [*self._start_speaking(suspended.utterance), resume]


Rule = Callable[[Conversation, Any], list[Action]]  # each receives the event type of its table row

TABLE: dict[tuple[State | None, type], Rule] = {
    (None, SpeechStarted): Conversation._speech_started,
    (None, SpeechPaused): Conversation._speech_paused,
    (None, SpeechResumed): Conversation._speech_resumed,
    (None, SpeechEnded): Conversation._speech_ended,
    (None, Heard): Conversation._heard,
    (None, DeviceLost): Conversation._microphone_changed,
    (None, DeviceBack): Conversation._microphone_changed,
    (None, DeviceTimedOut): Conversation._speaker_timed_out,
    (None, Woken): Conversation._woken,
    (State.LISTENING, WakeYielded): Conversation._wake_yielded,
    (None, StopWord): Conversation._stop_word,
    (None, SpeechSuspected): Conversation._speech_suspected,
    (None, Partial): Conversation._partial,
    (None, WordTimedOut): Conversation._continue_spoken_over,
    (None, EchoChanged): Conversation._echo_changed,
    (None, PlayedText): Conversation._played_text,
    (State.LISTENING, WakePaused): Conversation._wake_paused,
    (None, ListenNow): Conversation._listen_now,
    (None, ListenTimedOut): Conversation._listen_timed_out,
    (None, Reply): Conversation._reply,
    (State.THINKING, ReplyDelayed): Conversation._reply_delayed,
    (None, ReplyEnded): Conversation._reply_ended,
    (None, Announce): Conversation._announce,
    (None, TextPiece): Conversation._text_piece,
    (None, TextComplete): Conversation._text_complete,
    (None, UtterancePlayed): Conversation._played,
    (None, UtteranceCancelled): Conversation._cancelled,
    (None, UtteranceFailed): Conversation._failed,
    (None, Hush): Conversation._hush,
    (None, Cancel): Conversation._cancel,
    (None, Expired): Conversation._expired,
}
