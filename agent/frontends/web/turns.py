"""Collects the last turns, with their texts and times, from the notifications of the daemon."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import AudioArrived, Heard, PlaybackStarted, Reply, SpeechEnded
from agent.pipeline.status import Status

MAX_TURNS = 20
MAX_TEXT_CHARACTERS = 500
TRANSCRIPT, FIRST_TEXT, FIRST_AUDIO, LAST_AUDIO = "transcript", "first_text", "first_audio", "last_audio"


class _Turn:
    """One turn. Not thread-safe; guarded by the lock of its ``TurnLog``.

    ``ended_at`` is the monotonic time of the end of speech. ``time`` is the same moment in seconds since 1970.
    """

    def __init__(self, number: int, ended_at: float, time: float, heard: str) -> None:
        self.number, self.ended_at, self.time, self.heard = number, ended_at, time, heard
        self.reply = ""
        self.utterance: str | None = None  # the id of the utterance that speaks the reply
        self.service: str | None = None
        self.state: str | None = None  # the state in which the utterance has ended
        self.moments: dict[str, float] = {}  # by name: seconds after the end of speech


class TurnLog:
    """Keeps the last ``MAX_TURNS`` turns. Thread-safe.

    Args:
        clock: Returns the monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._turns: deque[_Turn] = deque(maxlen=MAX_TURNS)
        self._speech_ended_at: float | None = None
        self._count = 0

    def update(self, notification: Notification) -> None:
        """Process a notification. Called by the main thread."""
        with self._lock:
            self._update(notification)

    def turns(self, with_texts: bool) -> list[dict[str, object]]:
        """Return the turns, the last one first. ``moments`` are in seconds after the end of speech."""
        with self._lock:
            return [
                {
                    "turn": turn.number,
                    "time": round(turn.time, 3),
                    "moments": dict(turn.moments),
                    "service": turn.service,
                    "state": turn.state,
                    **({"heard": turn.heard, "reply": turn.reply} if with_texts else {}),
                }
                for turn in reversed(self._turns)
            ]

    def _update(self, notification: Notification) -> None:
        now = self._clock()
        turn = self._turns[-1] if self._turns else None
        match notification:
            case SpeechEnded(silence_seconds):
                self._speech_ended_at = now - silence_seconds
            case Heard(text) if text:
                self._count += 1
                ended_at = now if self._speech_ended_at is None else self._speech_ended_at
                self._speech_ended_at = None
                turn = _Turn(self._count, ended_at, time.time() - (now - ended_at), text[:MAX_TEXT_CHARACTERS])
                turn.moments[TRANSCRIPT] = round(now - ended_at, 3)
                self._turns.append(turn)
            case Reply(_, text) if turn is not None:
                turn.reply = f"{turn.reply} {text}".strip()[:MAX_TEXT_CHARACTERS]
                self._note(turn, FIRST_TEXT, now)
            case Status(saying=saying) if saying is not None and saying.source == "reply":
                # The current utterance may still be the reply to the previous turn, which is being cancelled.
                if turn is not None and turn.utterance is None and self._turn_of(saying.utterance) is None:
                    turn.utterance = saying.utterance
            case AudioArrived(utterance, service) if (turn := self._turn_of(utterance)) is not None:
                turn.service = service
            case PlaybackStarted(utterance) if (turn := self._turn_of(utterance)) is not None:
                self._note(turn, FIRST_AUDIO, now)
            case Record(utterance, state) if (turn := self._turn_of(utterance.id)) is not None:
                turn.state = state
                if FIRST_AUDIO in turn.moments:
                    self._note(turn, LAST_AUDIO, now)

    def _turn_of(self, utterance: str) -> _Turn | None:
        return next((turn for turn in reversed(self._turns) if turn.utterance == utterance), None)

    @staticmethod
    def _note(turn: _Turn, name: str, now: float) -> None:
        turn.moments.setdefault(name, round(now - turn.ended_at, 3))
