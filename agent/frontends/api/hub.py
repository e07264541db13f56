"""Keeps track of the announcements, the texts in pieces and the subscriptions of other programs."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.frontends.api.caller import Caller, ProgramConnection
from agent.frontends.frontend import Notification
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, Event, Hush, Kept, NearMiss, Stored, TextComplete, TextPiece
from agent.pipeline.history import Claim, History
from agent.pipeline.status import Status
from agent.pipeline.utterance import Delivery, Utterance
from agent.system.named_tuple import NamedTuple
from agent.system.text import MAX_TEXT_CHARACTERS, has_words

# Imported by the first request: these modules need json and re, which would delay the start of the daemon.
if TYPE_CHECKING:
    from agent.frontends.api.details import DetailReaders
    from agent.frontends.api.phrase_access import PhraseAccess
    from agent.frontends.api.subscription import Subscription
    from agent.pipeline.device_control import DeviceControl

MAX_TEXTS = 32
"""Maximum number of texts that arrive in pieces at the same time."""
MAX_SUBSCRIPTIONS = 64
FIRST_PIECE_SECONDS = 600.0
"""Maximum time in seconds from ``say.begin`` to the first piece with words."""
PIECE_SECONDS = 60.0
"""Maximum time in seconds between later pieces. It is shorter, because the speaker waits for the text meanwhile."""


class TextTimeouts(NamedTuple):
    """The timeouts of a text that arrives in pieces. Immutable."""

    first_piece_seconds: float = FIRST_PIECE_SECONDS
    piece_seconds: float = PIECE_SECONDS


class _Text:
    """A text that arrives in pieces. Not thread-safe; guarded by the lock of the ``Hub``."""

    def __init__(self, utterance: Utterance, connection: ProgramConnection | None, expires_at: float) -> None:
        self.utterance, self.connection, self.expires_at = utterance, connection, expires_at
        self.length = 0
        self.is_announced = False  # a piece had words, so the text was reported as an utterance


class Hub:
    """Reports texts as announcements, and sends their ends and the events of the daemon to programs. Thread-safe.

    A callback must not block and must not call the ``Hub``.

    Args:
        report: Receives the requests as events.
        storage_problem: Returns why the volume and the mutes cannot be stored; ``None`` if they can.
        transcripts: Returns whether ``logging.transcripts`` is on. Then events contain texts even if the subscriber
            does not ask for them.
        history: The history of utterances; ``None`` without one. With a history, ``say`` is answered after the
            notification ``Stored``, which follows each accepted announcement.
        delivery_problem: Returns why an utterance cannot be delivered as requested; ``None`` if it can.
        device_control: Returns the object that sets the timers; ``None`` if the daemon has no timers.
        timing: The timeouts of texts in pieces.
    """

    def __init__(
        self,
        report: Callable[[Event], None],
        *,
        storage_problem: Callable[[], str | None] = lambda: None,
        transcripts: Callable[[], bool] = lambda: False,
        history: History | None = None,
        delivery_problem: Callable[[Delivery], str | None] = lambda delivery: None,
        device_control: Callable[[], DeviceControl | None] = lambda: None,
        timing: TextTimeouts | None = None,
    ) -> None:
        self.report, self.storage_problem = report, storage_problem
        self.status = Status("starting", "idle")
        self.started_at = time.monotonic()
        self.is_accepting = True
        self.details: DetailReaders | None = None  # set before the first request
        self.phrases: PhraseAccess | None = None  # set before the first request
        self._transcripts, self._timing = transcripts, timing or TextTimeouts()
        self.history, self.delivery_problem, self.device_control = history, delivery_problem, device_control
        # The number of near misses by wake word. A new dictionary replaces it, because other threads read it.
        self.near_misses: dict[str, int] = {}
        self._lock = threading.Lock()
        self._unanswered: dict[str, list[Callable[[bool], None]]] = {}  # by id: utterances that are not stored yet
        self._awaited: dict[str, list[ProgramConnection]] = {}  # by id: the connections that wait for the end
        # Ends that arrive before the response to a claim is sent. The program does not know the utterance until then,
        # so the response goes first.
        self._held_ends: dict[tuple[str, ProgramConnection], list[bytes]] = {}
        self._texts: dict[str, _Text] = {}
        self._subscriptions: list[Subscription] = []
        run = os.urandom(6).hex()  # a random part keeps ids unique across restarts, even if the clock is wrong
        self._ids = (f"{run}-{{source}}-{number}" for number in itertools.count(1))

    # --- for transports

    def connect(self, deliver: Callable[[bytes], None], wake: Callable[[], None]) -> ProgramConnection:
        """Return a new persistent connection; the arguments are those of ``ProgramConnection``.

        The transport must end it with ``disconnect``.
        """
        return ProgramConnection(deliver, wake)

    def disconnect(self, connection: ProgramConnection) -> None:
        """Complete the texts of a connection, end its subscription and its waits. Accepted utterances are still spoken.

        Idempotent.
        """
        connection.is_closed = True
        self.complete_texts(connection)
        if connection.subscription is not None:
            self.unsubscribe(connection.subscription)
            connection.subscription = None
        with self._lock:
            for utterance in connection.awaited:
                waiting = self._awaited.get(utterance, [])
                # While its end is held for a claim, this connection does not wait, but others may.
                if connection in waiting:
                    waiting.remove(connection)
                    if not waiting:
                        del self._awaited[utterance]
            connection.awaited.clear()

    def complete_texts(self, connection: ProgramConnection) -> None:
        """Complete the texts of a connection whose program sends no more data."""
        for utterance in sorted(connection.texts):
            self.end_text(utterance)

    def subscribe(
        self, caller: Caller, names: frozenset[str], deliver: Callable[[], None], *, texts: bool = False
    ) -> Subscription:
        """Return a new subscription. The caller must end it with ``unsubscribe``.

        Args:
            caller: The subscriber.
            names: The names of the events (``described.EVENTS``).
            deliver: Called by any thread when events are queued in the subscription. It must not block.
            texts: Whether the subscriber asks for texts. Without ``may_read_texts`` it gets no texts.

        Raises:
            RpcError: Too many programs are subscribed.
        """
        from agent.frontends.api.errors import TOO_MUCH, failure
        from agent.frontends.api.subscription import Subscription

        def has_texts() -> bool:
            return caller.may_read_texts and (texts or self._transcripts())

        subscription = Subscription(names, has_texts, deliver)
        with self._lock:
            if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
                raise failure(TOO_MUCH, f"{MAX_SUBSCRIPTIONS} programs are subscribed: try again later")
            self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. Idempotent."""
        subscription.close()
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def expire(self) -> None:
        """Complete the texts whose next piece is overdue. The control and web threads call it at least every 5 s."""
        now = time.monotonic()
        for utterance, text in list(self._texts.items()):
            if now >= text.expires_at:
                self.end_text(utterance)

    def stop_accepting(self) -> None:
        """Refuse new announcements, as the first step of the shutdown. Idempotent."""
        self.is_accepting = False

    def close(self) -> None:
        """Answer every pending ``say`` request, and report every awaited utterance as cancelled. Idempotent."""
        for utterance in list(self._unanswered):
            self._answer(utterance, durable=False)
        for utterance in sorted(self._awaited):
            self._end(utterance, "cancelled", "by the end of the daemon", 0.0)

    # --- the main thread

    def notify(self, notification: Notification) -> None:
        """Process a notification of the daemon and send its events to the subscribers. Never blocks."""
        match notification:
            case Status():
                self.status = notification
            case NearMiss(word):
                self.near_misses = {**self.near_misses, word: self.near_misses.get(word, 0) + 1}
            case Stored(utterance, durable):
                self._answer(utterance, durable)
            case Kept(utterance):
                self._forget_awaited(utterance)
            case Record(utterance, state, reason, seconds):
                self._answer(utterance.id, durable=False)  # if the utterance ended before it was stored
                self._end(utterance.id, state, reason, seconds)
        if self._subscriptions:
            self._publish(notification)

    # --- for the methods

    def next_id(self, source: str) -> str:
        """Return a new id for an utterance that comes from ``source``."""
        return next(self._ids).format(source=source)

    def announce(
        self,
        utterance: Utterance,
        connection: ProgramConnection | None,
        accepted: Callable[[bool], None],
        *,
        wait: bool,
    ) -> None:
        """Report a complete text as an announcement.

        Args:
            utterance: The text.
            connection: The connection of the caller; ``None`` without a persistent one.
            accepted: Called once when the announcement is accepted, with whether it is durable. Perhaps called by
                another thread.
            wait: Whether the connection receives the end of the utterance.
        """
        with self._lock:
            self._unanswered.setdefault(utterance.id, []).append(accepted)
        if wait and connection is not None:
            self._await(utterance.id, connection)
        self.report(Announce(utterance))
        if self.history is None:
            self._answer(utterance.id, durable=False)

    def claim(
        self,
        utterance: Utterance,
        connection: ProgramConnection | None,
        claimed: Callable[[Claim], bool],
        *,
        wait: bool,
    ) -> None:
        """Reserve an id that the client chose.

        Args:
            utterance: The text.
            connection: The connection of the caller; ``None`` without a persistent one.
            claimed: Receives the claim and responds to the program; perhaps called by another thread. Returns ``False``
                if it refuses the text.
            wait: Whether the connection receives the end of the utterance. It does not if the text is refused.
        """
        if self.history is None:
            claimed(Claim())
            return
        is_new = wait and connection is not None and utterance.id not in connection.awaited

        def answer(claim: Claim) -> None:
            is_accepted = claimed(claim)
            record = claim.record
            if connection is not None and wait:
                with self._lock:
                    held = self._held_ends.pop((utterance.id, connection), [])
                for line in held[:1]:
                    self._deliver_end(utterance.id, connection, line)
            if not is_accepted:
                if connection is not None and is_new:  # otherwise an earlier request still waits for this id
                    self._forget_wait(utterance.id, connection)
            elif record is not None and record.ended_at is not None and wait:
                self._end(record.id, record.state, record.reason, record.seconds)

        if wait and connection is not None:
            with self._lock:
                self._held_ends.setdefault((utterance.id, connection), [])
            self._await(utterance.id, connection)  # before the claim, because a known utterance may end meanwhile
        self.history.claim(utterance, answer)

    def release(self, utterance: str) -> None:
        """Free a claimed id whose text is not announced."""
        if self.history is not None:
            self.history.release(utterance)

    def begin_text(self, utterance: Utterance, connection: ProgramConnection | None, *, wait: bool) -> None:
        """Begin a text that arrives in pieces.

        Args:
            utterance: The utterance, without its text.
            connection: The connection of the caller; ``None`` without a persistent one.
            wait: Whether the connection receives the end of the utterance.

        Raises:
            RpcError: Too many texts are open, or a text with this id is open.
        """
        from agent.frontends.api.errors import ID_CONFLICT, TOO_MUCH, failure

        with self._lock:
            if utterance.id in self._texts:
                raise failure(ID_CONFLICT, f"a text with the id {utterance.id} is open")
            if len(self._texts) >= MAX_TEXTS:
                raise failure(TOO_MUCH, f"{MAX_TEXTS} texts are being sent in pieces: try again later")
            expires_at = time.monotonic() + self._timing.first_piece_seconds
            self._texts[utterance.id] = _Text(utterance, connection, expires_at)
            if connection is not None:
                connection.texts.add(utterance.id)
        if wait and connection is not None:
            self._await(utterance.id, connection)
        if connection is not None and connection.is_closed:
            self.disconnect(connection)  # again: it ended during the claim of the id, when this text was not known yet

    def append_text(self, utterance: str, piece: str) -> None:
        """Append a piece to an open text.

        The first piece with words announces the utterance. Earlier pieces are dropped: there is no text to speak yet,
        and no reason to pause the recognizer.

        Raises:
            RpcError: No text with this id is open, or the text is too long. A text that is too long is completed.
        """
        from agent.frontends.api.errors import TOO_MUCH, UNKNOWN_UTTERANCE, failure

        with self._lock:
            text = self._texts.get(utterance)
            if text is None:
                raise failure(UNKNOWN_UTTERANCE, f"no text with the id {utterance} is open")
            text.length += len(piece)
            is_too_long = text.length > MAX_TEXT_CHARACTERS
            if not is_too_long:
                self._pass_on(text, piece)
        if is_too_long:
            self.end_text(utterance)
            raise failure(TOO_MUCH, f"the text has more than {MAX_TEXT_CHARACTERS} characters: its beginning is spoken")

    def _pass_on(self, text: _Text, piece: str) -> None:
        if not text.is_announced and has_words(piece):
            text.is_announced = True
            self.report(Announce(text.utterance))
        if text.is_announced:
            text.expires_at = time.monotonic() + self._timing.piece_seconds
            if piece:
                self.report(TextPiece(text.utterance.id, piece))

    def end_text(self, utterance: str) -> bool:
        """Complete a text. Returns whether it was open.

        A text without words is not announced; its end is reported as failed.
        """
        text = self._forget_text(utterance)
        if text is None:
            return False
        if text.is_announced:
            self.report(TextComplete(utterance))
        else:
            self.release(utterance)
            self._end(utterance, "failed", "there is nothing to say: the text has no words", 0.0)
        return True

    def has_text(self, utterance: str) -> bool:
        """Return whether a text in pieces with this id is open."""
        return utterance in self._texts

    def cancel_text(self, utterance: str, reason: str) -> bool:
        """Refuse further pieces of a text.

        Returns:
            Whether this ended the text: it was open and had no words. Otherwise the caller must cancel the utterance.
        """
        text = self._forget_text(utterance)
        if text is None or text.is_announced:
            return False
        self.release(utterance)
        self._end(utterance, "cancelled", f"by {reason}", 0.0)
        return True

    def hush(self, caller: Caller) -> None:
        """Cancel the current and all queued utterances, and the open texts of the caller."""
        for text in list(self._texts.values()):
            if text.connection is caller.connection:
                self.cancel_text(text.utterance.id, caller.source)
        self.report(Hush(caller.source))

    # --- any thread

    def _await(self, utterance: str, connection: ProgramConnection) -> None:
        with self._lock:
            if utterance not in connection.awaited:
                connection.awaited.add(utterance)
                self._awaited.setdefault(utterance, []).append(connection)

    def _forget_wait(self, utterance: str, connection: ProgramConnection) -> None:
        with self._lock:
            waiting = self._awaited.get(utterance, [])
            if connection in waiting:
                waiting.remove(connection)
                if not waiting:
                    del self._awaited[utterance]
            connection.awaited.discard(utterance)
        connection.wake()  # the transport may close a connection that ended its input and waits for nothing

    def _answer(self, utterance: str, durable: bool) -> None:
        with self._lock:
            accepted = self._unanswered.pop(utterance, [])
        for each in accepted:
            each(durable)

    def _end(self, utterance: str, state: str, reason: str, seconds: float) -> None:
        """Send the end of an utterance to the connections that wait for it."""
        self._forget_text(utterance)  # an utterance may end before its text is complete
        with self._lock:
            connections = self._awaited.pop(utterance, [])
        if not connections:
            return
        from agent.frontends.api.json_rpc import encode_notification

        fields: dict[str, object] = {"id": utterance, "state": state, "reason": reason, "seconds": round(seconds, 3)}
        line = encode_notification("ended", fields)
        for connection in connections:
            with self._lock:
                held = self._held_ends.get((utterance, connection))
                if held is not None:
                    held.append(line)
                    continue
            self._deliver_end(utterance, connection, line)

    def _deliver_end(self, utterance: str, connection: ProgramConnection, line: bytes) -> None:
        connection.deliver(line)
        # Only after the delivery: the transport may close a connection that ended its input and waits for nothing.
        with self._lock:
            connection.awaited.discard(utterance)
        connection.wake()

    def _forget_awaited(self, utterance: str) -> None:
        """End the waits for an utterance without a report: it will be spoken after the restart of the daemon."""
        with self._lock:
            connections = self._awaited.pop(utterance, [])
            for connection in connections:
                connection.awaited.discard(utterance)
        for connection in connections:
            connection.wake()

    def _forget_text(self, utterance: str) -> _Text | None:
        with self._lock:
            text = self._texts.pop(utterance, None)
            if text is not None and text.connection is not None:
                text.connection.texts.discard(utterance)
            return text

    def _publish(self, notification: Notification) -> None:
        from agent.frontends.api.described import describe
        from agent.frontends.api.json_rpc import encode_notification

        with self._lock:
            subscriptions = list(self._subscriptions)
        for description in describe(notification):
            lines: dict[bool, bytes] = {}
            for subscription in subscriptions:
                if description.name not in subscription.names:
                    continue
                texts = bool(description.texts) and subscription.has_texts()
                if texts not in lines:
                    lines[texts] = encode_notification("event", description.params(texts=texts))
                subscription.put(lines[texts])
