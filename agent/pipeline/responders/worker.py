"""The stage that requests the reply to each transcript and reports it sentence by sentence."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.pipeline.events import Event, Reply, ReplyDelayed, ReplyEnded
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS, WORKING, Responder, Shortfall
from agent.pipeline.stage import Stage
from agent.services.settings import TextSettings
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.pipeline.text.reply import ReplyText

MAX_REPLY_CHARACTERS = 65_536
MAX_WAIT_SECONDS = 1.0
"""Longest wait for a request between two heartbeats."""
WARM_UP_SECONDS = 0.5
"""Time without a request after READY until ``Responder.warm_up`` is called. In this time the CPU is left to the threads
that open the devices and connections, and to a timer that may have to ring."""


class ReplyOptions(NamedTuple):
    """Options of replies. Immutable.

    Attributes:
        text: How the text of a reply is converted to sentences for speech.
        empty_reply: Spoken if the reply contains nothing to speak; empty for silence.
        failure_reply: Spoken if an error prevents the reply; empty for silence.
        may_prepare: Returns whether the reply to a text may start before the end of the question.
        filler_seconds: Time from the question until ``ReplyDelayed`` is reported if no word has arrived; 0 for never.
    """

    text: TextSettings = TextSettings()
    empty_reply: str = ""
    failure_reply: str = ""
    may_prepare: Callable[[str], bool] = lambda text: False
    filler_seconds: float = 0.0


class _Replacement(NamedTuple):
    responder: Responder
    options: ReplyOptions


class _Request:
    """One request for a reply. The lock of the worker protects its attributes."""

    def __init__(self, turn: int, text: str, *, is_prepared: bool) -> None:
        self.turn, self.text = turn, text
        self.is_prepared = is_prepared  # the question is not asked yet; meanwhile the events go to ``kept``
        self.is_cancelled = self.has_ended = False
        self.asked_at = time.monotonic()
        self.kept: list[Event] = []


class _Forget(NamedTuple):
    turn: int


class _Correction(NamedTuple):
    turn: int
    played_text: str | None


class _Reply:
    """One reply in progress. Not thread-safe; owned by the responder thread."""

    def __init__(self, request: _Request, text: ReplyText) -> None:
        self.request, self.text = request, text
        self.length = 0  # characters of the sentences so far
        self.has_begun = False  # whether a sentence was reported or kept
        self.is_delayed = False  # whether ReplyDelayed was reported


class ResponderWorker(Stage):
    """Requests one reply after the other. For every ``ask`` it reports one ``ReplyEnded``, after every ``Reply``.

    The events of a prepared reply are kept until its question is asked. A discarded reply causes no event, and no entry
    in the history of the responder.

    ``ask``, ``prepare``, ``cancel``, ``correct``, ``replace``, ``stop`` and ``abort`` are thread-safe and never block.
    All other state is owned by the responder thread. ``stop`` lets the requested replies complete; ``abort`` cancels
    them. An ``AgentError`` ends a reply with its message in ``ReplyEnded``; any other exception ends the thread. Each
    ``Reply`` is a sentence without hidden reasoning, without markup and without unpronounceable characters.

    Args:
        responder: The source of the replies.
        report: Receives the events.
        first_word_seconds: The timeout for the first word of a reply; ``None`` for no timeout.
        options: The options of the replies.
        pause_seconds: The time without text from the responder after which the text so far may count as a complete
            sentence.
    """

    # The heartbeat comes at least once a second, and during a reply every MAX_SILENCE_SECONDS. Loading the responder
    # and ending a program or a tool may take longer.
    stall_timeout = 10.0

    def __init__(
        self,
        responder: Responder,
        report: Callable[[Event], None],
        *,
        first_word_seconds: float | None = None,
        options: ReplyOptions | None = None,
        pause_seconds: float = MAX_SILENCE_SECONDS,
    ) -> None:
        super().__init__("responder", report)
        self._pause_seconds = pause_seconds
        self._responder = responder
        self._first_word_seconds = first_word_seconds
        self._options = options or ReplyOptions()
        self._may_prepare = self._options.may_prepare
        self._queue: queue.SimpleQueue[_Request | _Forget | _Correction | _Replacement | None] = queue.SimpleQueue()
        # Held while reporting, so that no Reply of a turn follows the return of cancel(). The inbox never blocks.
        self._lock = threading.RLock()
        self._open: dict[int, _Request] = {}  # the latest request of each turn until its end is reported
        self._is_aborted = False
        self._is_closed = False

    def ask(self, turn: int, text: str) -> None:
        """Request the reply to ``text``; call it once for each turn. After ``stop`` the reply ends with an error."""
        with self._lock:
            if self._accept_prepared(turn, text):
                return
            if not self._is_closed:
                self._put(_Request(turn, text, is_prepared=False))
                return
            self.report(ReplyEnded(turn, "no more replies: voice-agent is shutting down"))

    def prepare(self, turn: int, text: str) -> None:
        """Start the reply to ``text``, which may become the question of a turn, if ``may_prepare`` permits it.

        The events are reported after ``ask`` with the same text. ``ask`` with another text, another ``prepare`` or
        ``cancel`` discards the reply.
        """
        if not self._may_prepare(text):
            return
        with self._lock:
            self._discard_prepared(turn)
            if not self._is_closed:
                self._put(_Request(turn, text, is_prepared=True))

    def cancel(self, turn: int) -> None:
        """Cancel the reply of a turn. Has no effect if the reply has ended.

        No ``Reply`` of the turn follows this call. ``ReplyEnded`` follows within about half a second, unless the reply
        was only prepared.
        """
        with self._lock:
            self._discard_prepared(turn)
            if (request := self._open.get(turn)) is not None:
                request.is_cancelled = True

    def correct(self, turn: int, played_text: str | None) -> None:
        """Pass on to the responder which part of a reply the user has heard; ``None``: the whole reply."""
        with self._lock:
            if not self._is_closed:
                self._queue.put(_Correction(turn, played_text))

    def stop(self) -> None:
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._queue.put(None)

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            self.stop()

    def replace(self, responder: Responder, options: ReplyOptions) -> None:
        """Use another responder and other options from the next request on. Closes the current responder."""
        with self._lock:
            if not self._is_closed:
                self._may_prepare = options.may_prepare
                self._queue.put(_Replacement(responder, options))

    def run(self) -> None:
        import agent.pipeline.text.reply  # noqa: F401 - loaded after READY, before the first reply

        try:
            is_warm = False
            while True:
                self.heartbeat()
                try:
                    item = self._queue.get(timeout=MAX_WAIT_SECONDS if is_warm else WARM_UP_SECONDS)
                except queue.Empty:
                    if not is_warm:
                        self._responder.warm_up()
                        is_warm = True
                    continue
                if item is None:
                    break
                if isinstance(item, _Replacement):
                    self._responder.close()
                    self._responder, self._options = item
                    self._responder.warm_up()
                    is_warm = True
                    continue
                if isinstance(item, _Correction):
                    self._responder.correct(item.turn, item.played_text)
                    continue
                if isinstance(item, _Forget):
                    self._responder.forget(item.turn)
                    continue
                self._end(item, self._reply(item))
        finally:
            self._responder.close()

    def _put(self, request: _Request) -> None:
        self._open[request.turn] = request
        self._queue.put(request)

    def _accept_prepared(self, turn: int, text: str) -> bool:
        """Report the kept events and return ``True`` if the prepared reply is for ``text``, otherwise discard it."""
        request = self._open.get(turn)
        if request is None or not request.is_prepared or request.text != text:
            self._discard_prepared(turn)
            return False
        request.is_prepared, request.asked_at = False, time.monotonic()
        for event in request.kept:
            self.report(event)
        request.kept.clear()
        if request.has_ended:
            del self._open[turn]
        return True

    def _discard_prepared(self, turn: int) -> None:
        request = self._open.get(turn)
        if request is None or not request.is_prepared:
            return
        del self._open[turn]
        request.is_cancelled = True
        request.kept.clear()
        if request.has_ended:
            self._queue.put(_Forget(turn))

    def _end(self, request: _Request, end: ReplyEnded) -> None:
        with self._lock:
            request.has_ended = True
            is_discarded = request.is_prepared and request.is_cancelled
            if request.is_prepared:
                request.kept.append(end)
            else:
                del self._open[request.turn]
                self.report(end)
        if is_discarded:
            self._responder.forget(request.turn)

    def _reply(self, request: _Request) -> ReplyEnded:
        """Report the sentences of a reply; return the event of its end."""
        turn = request.turn
        if not request.text.strip() or self._is_cancelled(request):
            return ReplyEnded(turn, self._cancel_error())
        from agent.pipeline.text.reply import ReplyText

        text = ReplyText(self._options.text)
        reply = _Reply(request, text)
        end = self._speak_pieces(reply)
        if not reply.has_begun and not self._is_cancelled(request):
            sentence = self._options.failure_reply if end.error and not end.shortfall else self._options.empty_reply
            # No sentence replaces a reply of symbols only, such as an emoji: it is a reply, but no voice can speak it.
            if sentence.strip() and end.error and end.shortfall != "unspeakable":
                self._report_sentences(reply, [sentence])
        return end

    def _speak_pieces(self, reply: _Reply) -> ReplyEnded:
        turn, text = reply.request.turn, reply.text
        first_word = Deadline(self._first_word_seconds)
        pieces = self._responder.reply(reply.request.text, turn)
        shortfall: Shortfall | None = None
        has_symbols = False
        silence = Deadline(self._pause_seconds)  # an empty piece may come earlier: a chunk of JSON without text
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as stop:
                    shortfall = stop.value
                    break
                self.heartbeat()
                if self._is_cancelled(reply.request):
                    return ReplyEnded(turn, self._cancel_error())
                has_symbols = has_symbols or bool(piece.strip())
                if piece is WORKING:
                    first_word = Deadline(self._first_word_seconds)
                if piece:
                    sentences, silence = text.feed(piece), Deadline(self._pause_seconds)
                else:
                    sentences = text.pause() if silence.is_expired else []
                if not self._report_sentences(reply, sentences):
                    return ReplyEnded(
                        turn, f"the reply is longer than {MAX_REPLY_CHARACTERS} characters: the rest is omitted"
                    )
                if not (text.has_words or reply.has_begun):
                    self._report_delay(reply)
                if not (text.has_words or reply.has_begun) and first_word.is_expired:
                    return ReplyEnded(
                        turn, f"the first word of the reply did not arrive within {self._first_word_seconds:g} s"
                    )
            self._report_sentences(reply, text.flush())
        except AgentError as error:
            self._report_sentences(reply, text.pause())
            return ReplyEnded(turn, str(error))
        finally:
            pieces.close()
        if shortfall is None and has_symbols and not reply.has_begun:
            if text.has_words:
                shortfall = Shortfall("empty", "the reply has nothing to speak besides code, tables or hidden parts")
            else:
                shortfall = Shortfall("unspeakable", "the reply has nothing that a voice can pronounce")
        return ReplyEnded(turn) if shortfall is None else ReplyEnded(turn, shortfall.reason, shortfall.kind)

    def _report_delay(self, reply: _Reply) -> None:
        seconds, request = self._options.filler_seconds, reply.request
        with self._lock:
            is_late = not request.is_prepared and time.monotonic() - request.asked_at >= seconds
            if seconds and is_late and not reply.is_delayed and not self._is_cancelled(request):
                reply.is_delayed = True
                self.report(ReplyDelayed(request.turn))

    def _report_sentences(self, reply: _Reply, sentences: list[str]) -> bool:
        """Report or keep sentences of a reply; return ``False`` if the reply exceeds ``MAX_REPLY_CHARACTERS``."""
        for sentence in sentences:
            reply.length += len(sentence)
            if reply.length > MAX_REPLY_CHARACTERS:
                return False
            with self._lock:
                request = reply.request
                if not self._is_cancelled(request):
                    reply.has_begun = True
                    event = Reply(request.turn, sentence)
                    if request.is_prepared:
                        request.kept.append(event)
                    else:
                        self.report(event)
        return True

    def _is_cancelled(self, request: _Request) -> bool:
        return self._is_aborted or request.is_cancelled

    def _cancel_error(self) -> str | None:
        return "the reply was cancelled: voice-agent is shutting down" if self._is_aborted else None
