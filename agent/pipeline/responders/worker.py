"""The worker that requests replies: transcripts in, pieces of reply text out."""

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
MAX_WAIT_SECONDS = 1.0


class ResponderWorker(Stage):
    """Requests one reply after the other. For every ``ask`` it reports one ``ReplyEnded``, after all ``Reply``.

    ``ask``, ``cancel``, ``replace``, ``stop`` and ``abort`` are thread-safe and never block. All other state is owned
    by the responder thread. ``stop`` lets the requested replies complete; ``abort`` cancels them. An ``AgentError``
    ends a reply with its message in ``ReplyEnded``; any other exception ends the thread. Control characters are
    removed, because they cannot be spoken.

    Args:
        responder: The source of the replies.
        report: Receives the events.
        first_word_seconds: The timeout for the first word of a reply; ``None`` for no timeout.
    """

    # The loop runs once a second, and during a reply every MAX_SILENCE_SECONDS; only the termination of a process takes
    # longer.
    stall_timeout = 10.0

    def __init__(
        self, responder: Responder, report: Callable[[Event], None], *, first_word_seconds: float | None = None
    ) -> None:
        super().__init__("responder", report)
        self._responder = responder
        self._first_word_seconds = first_word_seconds
        self._queue: queue.SimpleQueue[tuple[int, str] | Responder | None] = queue.SimpleQueue()
        # Held while reporting, so that no Reply of a turn follows the return of cancel(). The inbox never blocks.
        self._lock = threading.RLock()
        self._open_turns: set[int] = set()
        self._cancelled_turns: set[int] = set()
        self._is_aborted = False
        self._is_closed = False

    def ask(self, turn: int, text: str) -> None:
        """Request a reply to ``text``, once for each turn. After ``stop`` the reply ends with an error."""
        with self._lock:
            if not self._is_closed:
                self._open_turns.add(turn)
                self._queue.put((turn, text))
                return
            self.report(ReplyEnded(turn, "no more replies: voice-agent is shutting down"))

    def cancel(self, turn: int) -> None:
        """Cancel the reply of a turn; without effect if it has ended.

        No ``Reply`` of the turn follows. Its ``ReplyEnded`` follows within about half a second.
        """
        with self._lock:
            if turn in self._open_turns:
                self._cancelled_turns.add(turn)

    def stop(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            self.stop()

    def replace(self, responder: Responder) -> None:
        """Use another responder from the next request on."""
        with self._lock:
            if not self._is_closed:
                self._queue.put(responder)

    def run(self) -> None:
        try:
            while True:
                self.heartbeat()
                try:
                    item = self._queue.get(timeout=MAX_WAIT_SECONDS)
                except queue.Empty:
                    continue
                if item is None:
                    break
                if not isinstance(item, tuple):
                    self._responder.close()
                    self._responder = item
                    continue
                turn, text = item
                error = self._reply(turn, text)
                with self._lock:
                    self._open_turns.discard(turn)
                    self._cancelled_turns.discard(turn)
                    self.report(ReplyEnded(turn, error))
        finally:
            self._responder.close()

    def _reply(self, turn: int, text: str) -> str | None:
        """Report the pieces of a reply. Returns the error of an incomplete one."""
        if not text.strip() or self._is_cancelled(turn):
            return self._cancel_error()
        length, has_begun = 0, False
        first_word = Deadline(self._first_word_seconds)
        pieces = self._responder.reply(text, turn)
        try:
            for piece in pieces:
                self.heartbeat()
                if self._is_cancelled(turn):
                    return self._cancel_error()
                speakable = remove_control_characters(piece)
                length += len(speakable)
                if length > MAX_REPLY_CHARACTERS:
                    return f"the reply is longer than {MAX_REPLY_CHARACTERS} characters: the rest is omitted"
                has_begun = has_begun or bool(speakable.strip())
                if not has_begun and first_word.is_expired:
                    return f"the first word of the reply did not arrive within {self._first_word_seconds:g} s"
                if speakable.strip():
                    with self._lock:
                        if not self._is_cancelled(turn):
                            self.report(Reply(turn, speakable))
        except AgentError as error:
            return str(error)
        finally:
            pieces.close()
        return None

    def _is_cancelled(self, turn: int) -> bool:
        return self._is_aborted or turn in self._cancelled_turns

    def _cancel_error(self) -> str | None:
        return "the reply was cancelled: voice-agent is shutting down" if self._is_aborted else None
