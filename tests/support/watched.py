"""A daemon in the thread of the test, which sees every event."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

from agent.daemon.daemon import Daemon
from agent.pipeline.actions import Record
from agent.pipeline.events import Event, Stop
from agent.pipeline.settings import PauseSettings
from agent.services.protocols import local
from agent.settings.model import Config
from agent.system.systemd import SystemdNotifier
from support.local_server import LocalServerProcess

TURN_SECONDS = 30.0


def configuration(server: LocalServerProcess, mode: str, microphone: str = "none", **responder: Any) -> Config:
    config = Config()
    return config._replace(
        microphone=config.microphone._replace(device=microphone),
        speaker=config.speaker._replace(device="none"),
        conversation=config.conversation._replace(mode=mode, silence_seconds=PauseSettings(unsure=0.2), vad="energy"),
        transcription=config.transcription._replace(url=f"{server.ws}/"),
        synthesis=config.synthesis.with_settings("local", local.Settings(url=server.ws)),
        responder=config.responder._replace(rules=(), **responder),
        server=config.server._replace(start=False),
        control=config.control._replace(socket="none"),
        shutdown_seconds=30.0,
    )


class Watched:
    """A daemon in this thread. ``when`` sees each event, and its result goes to the inbox."""

    def __init__(self, config: Config, when: Callable[[Event | Record], Event | None], **options: Any) -> None:
        self.seen: list[Event | Record] = []
        self.captions = io.StringIO()
        self._when = when
        self.daemon = Daemon(config, SystemdNotifier({}), watch=self._watch, captions=self.captions, **options)

    def _watch(self, event: Event | Record) -> None:
        self.seen.append(event)
        answer = self._when(event)
        if answer is not None:
            self.daemon.inbox.put(answer)

    def run(self, *first: Event) -> int:
        for event in first:
            self.daemon.inbox.put(event)
        timer = threading.Timer(TURN_SECONDS, self.daemon.inbox.put, [Stop("test timeout")])
        timer.start()
        try:
            return self.daemon.run()
        finally:
            timer.cancel()

    @property
    def records(self) -> list[tuple[str, str]]:
        return [(each.utterance.id, each.state) for each in self.seen if isinstance(each, Record)]
