"""The thread that answers: heard text in, pieces of reply text out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from agent.errors import AgentError
from agent.pipeline.events import Event, Reply, ReplyEnded
from agent.pipeline.responders.responder import Responder
from agent.pipeline.stage import Stage
from agent.system.text import remove_control_characters
from agent.system.threads import Deadline

MAX_REPLY_CHARACTERS = 65_536


class ResponderWorker(Stage):
    """Answers one question after the other. For every ``ask`` there is exactly one ``ReplyEnded``, after all ``Reply``.

    ``ask`` and ``cancel`` may be called from any thread and never wait. After ``cancel(turn)`` no ``Reply`` of that
    turn is reported; its ``ReplyEnded`` comes within half a second or so, once what was asked has been told that the
    answer is not wanted. An answer whose first word has not come ``first_word_seconds`` after it was asked for
    is given up. ``stop`` lets what was asked be answered; ``abort`` breaks it off. An error that was foreseen ends the
    answer with a sentence in ``ReplyEnded``; any other ends the thread. An answer is at most 65536 characters long;
    control characters, which cannot be spoken, are taken out.
    """

    # Letters are awaited for a second, an answer in slices of a quarter; only the end of a process takes longer.
    stall_timeout = 10.0

    def __init__(
        self, answers: Responder, report: Callable[[Event], None], *, first_word_seconds: float | None = None
    ) -> None:
        super().__init__("responder", report)
        self._answers = answers
        self._first_word_seconds = first_word_seconds
        self._questions: queue.SimpleQueue[tuple[int, str] | Responder | None] = queue.SimpleQueue()
        # Held while reporting, so that a cancelled turn is silent once cancel() has returned; the inbox never waits.
        self._lock = threading.RLock()
        self._open: set[int] = set()
        self._cancelled: set[int] = set()
        self._aborted = False
        self._closed = False

    def ask(self, turn: int, text: str) -> None:
        """Wants an answer to ``text``; each ``turn`` is asked once. Once stopped, the answer is an error."""
        with self._lock:
            if not self._closed:
                self._open.add(turn)
                self._questions.put((turn, text))
                return
            self.report(ReplyEnded(turn, "nobody answers any more: voice-agent is ending"))

    def cancel(self, turn: int) -> None:
        """Does not want the answer of ``turn`` any more; harmless where it has ended."""
        with self._lock:
            if turn in self._open:
                self._cancelled.add(turn)

    def stop(self) -> None:
        with self._lock:
            if not self._closed:
                self._closed = True
                self._questions.put(None)

    def abort(self) -> None:
        with self._lock:
            self._aborted = True
            self.stop()

    def use(self, answers: Responder) -> None:
        """Somebody else answers, from the next question on."""
        with self._lock:
            if not self._closed:
                self._questions.put(answers)

    def run(self) -> None:
        try:
            while True:
                self.heartbeat()
                try:
                    question = self._questions.get(timeout=1.0)
                except queue.Empty:
                    continue
                if question is None:
                    break
                if not isinstance(question, tuple):
                    self._answers.close()
                    self._answers = question
                    continue
                turn, text = question
                error = self._answer(turn, text)
                with self._lock:
                    self._open.discard(turn)
                    self._cancelled.discard(turn)
                    self.report(ReplyEnded(turn, error))
        finally:
            self._answers.close()

    def _answer(self, turn: int, text: str) -> str | None:
        """Reports the answer piece by piece; gives the reason where it is cut short."""
        if not text.strip() or self._unwanted(turn):
            return self._why_unwanted()
        length, begun = 0, False
        first_word = Deadline(self._first_word_seconds)
        pieces = self._answers.reply(text, turn)
        try:
            for piece in pieces:
                self.heartbeat()
                if self._unwanted(turn):
                    return self._why_unwanted()
                spoken = remove_control_characters(piece)
                length += len(spoken)
                if length > MAX_REPLY_CHARACTERS:
                    return f"the answer is longer than {MAX_REPLY_CHARACTERS} characters: the rest is left out"
                begun = begun or bool(spoken.strip())
                if not begun and first_word.is_expired:
                    return f"the first word of the answer did not come within {self._first_word_seconds:g} s"
                if spoken.strip():
                    with self._lock:
                        if not self._unwanted(turn):
                            self.report(Reply(turn, spoken))
        except AgentError as error:
            return str(error)
        finally:
            pieces.close()
        return None

    def _unwanted(self, turn: int) -> bool:
        return self._aborted or turn in self._cancelled

    def _why_unwanted(self) -> str | None:
        return "the answer was broken off: voice-agent is ending" if self._aborted else None
