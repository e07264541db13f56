"""A device without sound behind the real MQTT frontend: it plays each text at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.frontends.api.api import Api
from agent.frontends.mqtt.broker import BrokerTiming
from agent.frontends.mqtt.discovery import About
from agent.frontends.mqtt.frontend import MqttFrontend
from agent.frontends.mqtt.settings import MqttSettings
from agent.pipeline.actions import Record
from agent.pipeline.events import Announce, Event, Stored
from agent.pipeline.history import Claim
from agent.pipeline.status import Status
from agent.pipeline.utterance import Utterance
from agent.system.threads import Deadline


class Memory:
    """A history that knows no id. Thread-safe."""

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        answer(Claim())

    def read_history(self, limit: int, answer: Callable[[list[Any]], None]) -> None:
        answer([])


class SimulatedDevice:
    """One device; its MQTT thread is also its daemon."""

    def __init__(self, url: str, name: str, *, ends_as: str = "played", **settings: Any) -> None:
        self._ends_as = ends_as
        self.texts: list[str | None] = []
        self._api = Api(self._handle, history=Memory())
        values = MqttSettings(url=url, topic=f"voice-agent/{name}", **settings)
        timing = BrokerTiming(first_seconds=0.05, cap_seconds=0.1)
        self._frontend = MqttFrontend(values, self._api, About("1.2"), self._handle, timing=timing)
        self._frontend.start()
        self._frontend.notify(Status("idle", "idle", volume=70))

    def _handle(self, event: Event) -> None:
        if isinstance(event, Announce):
            self.texts.append(event.utterance.text)
            for notification in (Stored(event.utterance.id, True), Record(event.utterance, self._ends_as, "", 1.0)):
                self._api.notify(notification)
                self._frontend.notify(notification)

    def close(self) -> None:
        self._frontend.stop()
        assert self._frontend.join(Deadline(20.0))
