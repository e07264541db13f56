"""Wait for the end of an utterance of the running daemon, and send it the text of stdin."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Mapping
from typing import Any

from agent.cli.daemon_errors import print_warnings, service_errors
from agent.cli.foreground import stop_signals
from agent.cli.notice import notice
from agent.cli.stdin_text import TextReader
from agent.client import Client, ClientError, ConnectionLost, End, Speech, TextStream
from agent.errors import CANCELLED_EXIT_CODE, AgentError, ServiceError
from agent.pipeline.events import Event, Stop, UtterancePlayed
from agent.pipeline.utterance import Utterance
from agent.system.named_tuple import NamedTuple
from agent.system.signals import STOP_SIGNALS


class _Ended(NamedTuple):
    """The utterance has ended, or the daemon. Immutable."""

    end: End | ClientError


_Inbox = queue.SimpleQueue[Event | _Ended]


def wait_for_daemon(client: Client, speech: Speech | None, delivery: Mapping[str, Any], *, waits: bool = True) -> int:
    """Wait until the daemon has spoken. A signal cancels the utterance.

    Args:
        client: The connection to the daemon; closed at the end.
        speech: The utterance; ``None`` to send the text of stdin while it arrives.
        delivery: The options of that utterance.
        waits: Whether to wait until the text is spoken, and not only until it is sent.

    Returns:
        The exit code: 0, or 3 if the utterance was cancelled or dropped.

    Raises:
        ServiceError: The daemon did not speak the text, with its reason.
        UsageError: Stdin cannot be used.
    """
    inbox: _Inbox = queue.SimpleQueue()
    reader = None
    with stop_signals(inbox.put):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        if speech is None:
            with service_errors():
                speech = client.stream(**delivery)  # before the first word, so that the daemon reserves the utterance
            print_warnings(speech.troubles, speech.warnings)
            reader = TextReader(_Writer(speech, client, inbox, waits=waits), "", inbox.put)
        waiter = threading.Thread(target=_wait_for_end, args=(speech, inbox), name="daemon answers")
        waiter.start()
        try:
            if reader is not None:
                reader.start()
            result = _wait(inbox, speech, reader)
        finally:
            client.close()  # first: it ends a write of the reader that waits for the daemon
            if reader is not None:
                reader.stop()
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


def _wait(inbox: _Inbox, speech: Speech, reader: TextReader | None) -> AgentError | int:
    """Return the error of the utterance, or the exit code."""
    is_stopped = False
    while True:
        match inbox.get():
            case UtterancePlayed():  # the text of stdin is sent, or has no words
                return (reader.error if reader is not None else None) or 0
            case _Ended(End(_, state, reason)):
                if reader is not None and reader.error is not None:
                    return reader.error
                if state == "played":
                    return 0
                if state in ("cancelled", "dropped"):
                    if not is_stopped:
                        notice(f"{state} {reason}" if state == "cancelled" else f"{state}: {reason}")
                    return CANCELLED_EXIT_CODE
                return ServiceError("control", reason if state == "failed" else f"{state}: {reason}")
            case _Ended(ClientError() as error):
                return ServiceError("control", str(error))
            case Stop():
                if reader is not None and not reader.has_begun:
                    return CANCELLED_EXIT_CODE
                is_stopped = True
                with contextlib.suppress(ClientError):  # the thread that waits reports the end
                    speech.cancel()


class _Writer:
    """Sends the text of stdin to the daemon. Thread-safe; the reader of stdin calls it."""

    def __init__(self, stream: TextStream, client: Client, inbox: _Inbox, *, waits: bool) -> None:
        self._stream, self._client, self._inbox, self._waits = stream, client, inbox, waits

    def begin(self, utterance: Utterance) -> None:
        """Do nothing: the daemon has the request already and begins with the first words."""

    def append_text(self, utterance: str, text: str) -> None:
        with contextlib.suppress(ClientError):  # the thread that waits reports the end of the connection
            self._stream.write(text)

    def complete(self, utterance: str) -> None:
        with contextlib.suppress(ClientError):
            self._stream.finish()
        if not self._waits:
            self._inbox.put(UtterancePlayed(utterance, 0.0))

    def hush(self, by: str) -> None:
        with contextlib.suppress(ClientError):
            self._stream.cancel()
