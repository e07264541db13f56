"""Sends the text of stdin to the running daemon, and waits for the end of an utterance there."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

from agent.cli.daemon_errors import print_warnings, service_errors
from agent.cli.foreground import stop_signals
from agent.cli.notice import notice
from agent.cli.stdin_text import TextReader
from agent.client import Client, ClientError, ConnectionLost, End, Speech
from agent.errors import CANCELLED_EXIT_CODE, AgentError, ServiceError
from agent.pipeline.events import Event, Stop, UtterancePlayed
from agent.pipeline.utterance import Utterance
from agent.system.named_tuple import NamedTuple
from agent.system.signals import CANCEL_SIGNALS
from agent.system.text import has_words
from agent.system.threads import Deadline

MAX_FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 580.0, 50.0
"""Longest pauses of stdin within one utterance: before the first words, and between two pieces. They are shorter than
the pauses after which the daemon completes the utterance (600 and 60 s). Words after a longer pause become another
utterance."""


class _Ended(NamedTuple):
    """An utterance has ended (``End``), or its end cannot be received (``ClientError``). Immutable."""

    end: End | ClientError


class _Sent(NamedTuple):
    """All text of stdin is sent. Immutable."""


_Inbox = queue.SimpleQueue[Event | _Ended | _Sent]


def wait_for_daemon(client: Client, speech: Speech | None, delivery: Mapping[str, Any], *, waits: bool = True) -> int:
    """Wait until the daemon has spoken. A signal cancels the utterance.

    Args:
        client: The connection to the daemon; closed at the end.
        speech: The utterance; ``None`` to send the text of stdin while it arrives.
        delivery: The options of the utterance of stdin; unused with ``speech``.
        waits: Whether to wait until the text is spoken; otherwise only until it is sent.

    Returns:
        The exit code: 0, or 3 if the utterance was cancelled or dropped.

    Raises:
        ServiceError: The daemon did not speak the text; the message has the reason of the daemon.
        UsageError: Stdin cannot be used.
    """
    inbox: _Inbox = queue.SimpleQueue()
    reader = writer = None
    target: Speech | _Writer
    waiters: list[threading.Thread] = []

    def report_end(speech: Speech) -> None:
        waiters.append(threading.Thread(target=_wait_for_end, args=(speech, inbox), name="daemon answers"))
        waiters[-1].start()

    with stop_signals(inbox.put):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CANCEL_SIGNALS)
        if speech is None:
            with service_errors():  # before the first word: the daemon reserves the id
                writer = _Writer(client, delivery, report_end, inbox)
            target = writer
            print_warnings(writer.stream.troubles, writer.stream.warnings)
            reader = TextReader(writer, "", inbox.put)
        else:
            target = speech
            report_end(speech)
        try:
            if reader is not None:
                reader.start()
            result = _wait(inbox, target, reader, writer, waits=waits)
        finally:
            client.close()  # first: this ends a blocked write of the reader
            if reader is not None:
                reader.stop()
            for waiter in waiters:
                waiter.join()
    if isinstance(result, AgentError):
        raise result
    return result


def _wait_for_end(speech: Speech, inbox: _Inbox) -> None:
    try:
        inbox.put(_Ended(speech.wait()))
    except ConnectionLost:
        inbox.put(_Ended(ConnectionLost("the daemon ended before the utterance")))
    except ClientError as error:
        inbox.put(_Ended(error))


def _wait(
    inbox: _Inbox, target: Speech | _Writer, reader: TextReader | None, writer: _Writer | None, *, waits: bool
) -> AgentError | int:
    """Return the error of an utterance, or the exit code. A signal cancels ``target``."""
    is_stopped, is_sent, ended = False, writer is None, 0
    while True:
        match inbox.get():
            case UtterancePlayed():  # reported by the reader: stdin has no words
                return (reader.error if reader is not None else None) or 0
            case _Sent():
                is_sent = True
            case _Ended(End(id, state, reason)):
                if reader is not None and reader.error is not None:
                    return reader.error
                if state in ("cancelled", "dropped"):
                    if not is_stopped:
                        notice(f"{state} {reason}" if state == "cancelled" else f"{state}: {reason}")
                    return CANCELLED_EXIT_CODE
                is_wordless = writer is not None and id in writer.wordless
                if state != "played" and not is_wordless:
                    return ServiceError("control", reason if state == "failed" else f"{state}: {reason}")
                ended += 1
            case _Ended(ClientError() as error):
                return ServiceError("control", str(error))
            case Stop():
                if writer is not None and writer.stream.id in writer.wordless:
                    return CANCELLED_EXIT_CODE
                is_stopped = True
                with contextlib.suppress(ClientError):  # _wait_for_end reports the reason
                    target.cancel()
        has_ended = ended == (1 if writer is None else writer.count)
        if is_sent and (has_ended or not waits):
            return (reader.error if reader is not None else None) or 0
        if is_stopped and has_ended:
            return CANCELLED_EXIT_CODE  # without waiting for the end of stdin, which may stay open


class _Writer:
    """Sends the text of stdin to the daemon: as one utterance, or as several if stdin pauses for long.

    If the daemon already knows the id of the utterance, its text is not sent. Thread-safe: the main thread calls only
    the constructor and ``cancel``, the reader of stdin calls the other methods.

    Args:
        client: The connection to the daemon.
        options: The options of the first utterance. Later utterances have the same ones, except for the id.
        report_end: Starts a thread that waits for the end of an utterance.
        inbox: Receives ``_Sent`` and errors.

    Attributes:
        stream: The last utterance; all earlier ones have ended.
        count: The number of utterances.
        wordless: The ids of the utterances to which no words were sent.

    Raises:
        ClientError: The daemon does not accept the first utterance.
    """

    def __init__(
        self, client: Client, options: Mapping[str, Any], report_end: Callable[[Speech], None], inbox: _Inbox
    ) -> None:
        self._client, self._report_end, self._inbox = client, report_end, inbox
        self._options = dict(options)
        self._late_text = ""  # the text after a long pause, while it has no words
        self.count = 0
        self.wordless: set[str] = set()
        self._begin(MAX_FIRST_PAUSE_SECONDS)

    def _begin(self, max_pause_seconds: float) -> None:
        self.stream = self._client.stream(**self._options)
        self._options.pop("id", None)
        self.count += 1
        if self.stream.record is None:
            self.wordless.add(self.stream.id)
        else:  # the same text or another one: the daemon cannot compare a text that has not arrived
            notice(f"the id {self.stream.id} is already known: this text is not spoken again")
        self._report_end(self.stream)
        self._pause = Deadline(max_pause_seconds)

    def begin(self, utterance: Utterance) -> None:
        """Do nothing: the constructor has sent the request, and the daemon begins with the first words."""

    def append_text(self, utterance: str, text: str) -> None:
        if self.stream.record is not None:
            return
        if self._pause.is_expired:
            text = self._late_text + text
            if not has_words(text):
                self._late_text = text
                return
            self._late_text = ""
            try:
                self.stream.finish()
                # If the next utterance had to wait for this one in the daemon, its time to live would run, and a
                # notification would be dropped.
                self.stream.wait()
                self._begin(MAX_PAUSE_SECONDS)
            except ClientError as error:
                self._inbox.put(_Ended(error))
                return
        self.wordless.discard(self.stream.id)
        with contextlib.suppress(ClientError):  # _wait_for_end reports the lost connection
            self.stream.write(text)
        self._pause = Deadline(MAX_PAUSE_SECONDS)

    def complete(self, utterance: str) -> None:
        with contextlib.suppress(ClientError):
            self.stream.finish()
        self._inbox.put(_Sent())

    def cancel(self) -> None:
        """Cancel the last utterance."""
        self.stream.cancel()

    def cancel_all(self, by: str) -> None:
        with contextlib.suppress(ClientError):
            self.stream.cancel()
