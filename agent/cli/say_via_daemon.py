"""Wait for the end of an utterance of the running daemon, and send it the text of stdin."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable

from agent.cli.foreground import stop_signals
from agent.cli.notice import notice
from agent.cli.stdin_text import TextReader
from agent.errors import CANCELLED_EXIT_CODE, AgentError, ServiceError
from agent.frontends.control.client import ControlClient
from agent.pipeline.events import Event, Stop, Utterance, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.system.signals import STOP_SIGNALS
from agent.system.threads import Deadline


def wait_for_daemon(client: ControlClient, *, reads_stdin: bool) -> int:
    """Wait until the daemon has spoken. A signal cancels the utterance.

    Args:
        client: The connection to the daemon; always closed at the end.
        reads_stdin: Whether to send stdin while it arrives; otherwise the text was sent already.

    Returns:
        The exit code: 0, or 3 if the utterance was cancelled.

    Raises:
        ServiceError: The daemon did not speak the text, with its reason.
        UsageError: Stdin cannot be used.
    """
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    daemon = _DaemonConsumer(client, inbox)
    reader = None
    with stop_signals(inbox.put):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        daemon.start()
        try:
            if reads_stdin:
                daemon.send({"begin": True})  # before the first word, so that the daemon reserves the utterance
                reader = TextReader(daemon, "", inbox.put)
                reader.start()
            end = _wait(inbox, daemon, reader)
        finally:
            client.shutdown()  # first: it ends a send of the reader that waits for the daemon
            if reader is not None:
                reader.stop()
            daemon.join()
            client.close()
    if isinstance(end, AgentError):
        raise end
    return end


def _wait(inbox: queue.SimpleQueue[Event], daemon: _DaemonConsumer, reader: TextReader | None) -> AgentError | int:
    """Return the error of the utterance, or the exit code."""
    is_stopped = False
    while True:
        match inbox.get():
            case UtterancePlayed():
                return (reader.error if reader is not None else None) or 0
            case UtteranceFailed(reason=reason):
                return ServiceError("control", reason)
            case UtteranceCancelled() as event:
                if reader is not None and reader.error is not None:
                    return reader.error
                if not is_stopped:
                    notice(f"cancelled {event.reason}")
                return CANCELLED_EXIT_CODE
            case Stop(name):
                if reader is not None and not reader.has_begun:
                    return CANCELLED_EXIT_CODE
                is_stopped = True
                daemon.hush(name)


class _DaemonConsumer(threading.Thread):
    """Sends pieces of text to the daemon and reports how the utterance ends.

    Thread-safe: the main thread and the reader of stdin send, this thread receives.
    """

    def __init__(self, client: ControlClient, inbox: queue.SimpleQueue[Event]) -> None:
        super().__init__(name="daemon answers")
        self._client, self._inbox = client, inbox

    def begin(self, utterance: Utterance) -> None:
        """Do nothing: the daemon has the request already and begins with the first words."""

    def append_text(self, utterance: str, text: str) -> None:
        self._send(lambda: self._client.send_text(text))

    def complete(self, utterance: str) -> None:
        self.send({"complete": True})

    def hush(self, by: str) -> None:
        self.send({"hush": True})

    def send(self, request: dict[str, object]) -> None:
        self._send(lambda: self._client.send(request))

    def _send(self, send: Callable[[], None]) -> None:
        try:
            send()
        except ServiceError:
            self._client.shutdown()  # this thread still receives the earlier responses, which may contain the reason

    def run(self) -> None:
        try:
            self._inbox.put(self._receive_end())
        except ServiceError as error:
            self._inbox.put(UtteranceFailed("", str(error)))

    def _receive_end(self) -> Event:
        """Receive answers until the utterance ends."""
        is_accepted = False
        while True:
            answer = self._client.receive(Deadline(None))
            if answer is None:
                return UtteranceFailed("", "the daemon ended before the utterance")
            state, why = answer.get("state"), str(answer.get("why", ""))
            if state == "played":
                return UtterancePlayed("", 0.0)
            if state == "cancelled":
                return UtteranceCancelled("", why)
            if state == "failed":
                return UtteranceFailed("", why)
            if "error" in answer and not is_accepted:
                return UtteranceFailed("", str(answer["error"]))
            if "utterance" in answer and not is_accepted:
                _print_speaker_trouble(answer.get("troubles"))
                for warning in _texts(answer.get("warnings")):
                    notice(warning)
            # After the acceptance an error concerns a single piece that arrived too late; the end is reported as well.
            is_accepted = is_accepted or "utterance" in answer


def _print_speaker_trouble(troubles: object) -> None:
    """Print why the utterance waits, if the daemon has no speaker."""
    for trouble in _texts(troubles):
        if trouble.startswith("no speaker"):
            notice(f"{trouble} (sudo voice-agent doctor shows the reason)")


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
