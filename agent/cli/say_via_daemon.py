"""Handing an utterance over to a running daemon, and waiting for how it ends."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

from agent.cli.interrupts import hush_signals
from agent.cli.stdin_text import TextReader
from agent.errors import AgentError, ServiceError
from agent.frontends.control.client import ControlClient
from agent.pipeline.events import Event, Stop, Utterance, UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.system.text import LONGEST_TEXT, escape
from agent.system.threads import Deadline


def say_via_daemon(client: ControlClient, text: str | None) -> int:
    """Has ``text``, or stdin as it comes, said by the daemon. Ctrl-C has the daemon be silent. Raises
    ``ServiceError`` with the reason where it could not be said; ``client`` is closed in any case."""
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    signals = hush_signals(inbox.put)
    daemon = _Daemon(client, inbox)
    daemon.start()
    reader = None
    try:
        if text is None:
            daemon.send({"begin": True})  # before there are words, so that it knows what we wait for
            reader = TextReader(daemon, "", LONGEST_TEXT, inbox.put)
            reader.start()
        else:
            daemon.say_whole(text)
        error = _wait(inbox, daemon, reader)
    finally:
        client.leave()  # first, so that a reader that is just handing something over is not kept waiting
        if reader is not None:
            reader.stop()
        daemon.join()
        client.close()
        signals.restore()
    if error is not None:
        raise error
    return 0


def _wait(inbox: queue.SimpleQueue[Event], daemon: _Daemon, reader: TextReader | None) -> AgentError | None:
    hushed = False
    while True:
        match inbox.get():
            case UtterancePlayed():
                return reader.error if reader is not None else None
            case UtteranceFailed(reason=reason):
                return ServiceError("control", reason)
            case UtteranceCancelled(reason=by):
                if reader is not None and reader.error is not None:
                    return reader.error
                if not hushed:
                    print(f"voice-agent: cancelled {escape(by)}", file=sys.stderr)
                return None
            case Stop(by):
                if reader is not None and not reader.begun:
                    return None
                hushed = True
                daemon.hush(by)


class _Daemon(threading.Thread):
    """The daemon as the synthesizer that ``TextReader`` writes to. Reads its answers and puts how the utterance ended
    into the inbox, which is also how it ends itself."""

    def __init__(self, client: ControlClient, inbox: queue.SimpleQueue[Event]) -> None:
        super().__init__(name="daemon's answers")
        self._client, self._inbox = client, inbox

    def begin(self, utterance: Utterance) -> None:
        """It has been begun already; the daemon takes it for an utterance with its first words."""

    def append_text(self, utterance: str, text: str) -> None:
        self._give(lambda: self._client.piece(text))

    def complete(self, utterance: str) -> None:
        self.send({"complete": True})

    def hush(self, by: str) -> None:
        self.send({"hush": True})

    def say_whole(self, text: str) -> None:
        self._give(lambda: self._client.say(text))

    def send(self, request: dict[str, object]) -> None:
        self._give(lambda: self._client.send(request))

    def _give(self, send: Callable[[], None]) -> None:
        try:
            send()
        except ServiceError:
            self._client.leave()  # whatever it has answered before, which may say why, is still read

    def run(self) -> None:
        try:
            self._inbox.put(self._end())
        except ServiceError as error:
            self._inbox.put(UtteranceFailed("", str(error)))

    def _end(self) -> Event:
        accepted = False
        while True:
            answer = self._client.receive(Deadline(None))
            if answer is None:
                return UtteranceFailed("", "the daemon has gone before it was said")
            state, why = answer.get("state"), str(answer.get("why", ""))
            if state == "played":
                return UtterancePlayed("", 0.0)
            if state == "cancelled":
                return UtteranceCancelled("", why)
            if state == "failed":
                return UtteranceFailed("", why)
            if "error" in answer and not accepted:
                return UtteranceFailed("", str(answer["error"]))
            if "utterance" in answer and not accepted:
                _tell_troubles(answer.get("troubles"))
            # Once it is accepted, an error only says that a piece came too late: how it ended is told all the same.
            accepted = accepted or "utterance" in answer


def _tell_troubles(troubles: object) -> None:
    """Says why nothing is heard yet, instead of waiting without a word."""
    for trouble in troubles if isinstance(troubles, list) else []:
        if isinstance(trouble, str) and trouble.startswith("no speaker"):
            print(f"voice-agent: {escape(trouble, 300)} (sudo voice-agent doctor says why)", file=sys.stderr)
