"""The API behind a control socket, without the rest of a daemon."""

from __future__ import annotations

import queue
from pathlib import Path

from agent.frontends.api.api import Api
from agent.frontends.api.hub import TextTimeouts
from agent.frontends.control.peer import PeerTiming
from agent.frontends.control.server import ControlServer
from agent.pipeline.events import Announce, Event
from agent.pipeline.history import History
from agent.pipeline.status import Status
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline

SECONDS = 30.0
STATUS = Status("ready to speak", "idle", (), 80)


class ControlHarness:
    """A running control server. ``inbox`` has its requests to the daemon.

    Args:
        path: The socket.
        status: The first status of the daemon.
        timing: As for ``ControlServer``.
        texts: The timing, as for ``Api``.
        history: As for ``Api``.
    """

    def __init__(
        self,
        path: Path,
        status: Status = STATUS,
        *,
        timing: PeerTiming | None = None,
        texts: TextTimeouts | None = None,
        history: History | None = None,
    ) -> None:
        self.path = path
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.api = Api(self.inbox.put, timing=texts, history=history)
        self.control = ControlServer(path, self.inbox.put, self.api, timing=timing)
        self.control.open()
        self.api.notify(status)
        self.control.start()

    def event(self) -> Event:
        """The next request."""
        return self.inbox.get(timeout=SECONDS)

    def announced(self) -> Utterance:
        """The utterance of the next request."""
        event = self.event()
        assert isinstance(event, Announce)
        return event.utterance

    def stop_accepting(self) -> None:
        """The first step of the daemon's shutdown."""
        self.api.stop_accepting()
        self.control.stop_accepting()

    def stop(self) -> None:
        """The step after the end of all utterances."""
        self.api.close()
        self.control.stop()

    def end(self) -> None:
        self.stop_accepting()
        self.stop()
        assert self.control.join(Deadline(SECONDS))
