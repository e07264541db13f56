"""Tests of building the satellite and of the rules for its configuration."""

from __future__ import annotations

import pytest

from agent.daemon.satellite import make_satellite
from agent.daemon.speech_builder import make_services
from agent.frontends.api.api import Api
from agent.frontends.satellite.settings import SatelliteSettings
from agent.pipeline.events import Event
from agent.pipeline.tts.fallback import ServiceChain
from agent.pipeline.utterance import Delivery, Utterance
from agent.services.connection.closing import BackgroundCloser
from agent.services.settings import SynthesisSettings
from agent.settings.checks import findings
from agent.settings.model import Config


def config(*services: str, **satellite: object) -> Config:
    return Config(
        satellite=SatelliteSettings(port=10700)._replace(**satellite), synthesis=SynthesisSettings(services=services)
    )


def test_the_satellite_listens_on_its_port() -> None:
    events: list[Event] = []
    made = make_satellite(config("wyoming", "local", port=0), Api(events.append), events.append)
    made.open()
    made.start()
    assert made.address[1] > 0
    made.stop()


@pytest.mark.parametrize(
    ("given", "keys"),
    [
        (config("wyoming", "local"), []),
        (config("local"), ["synthesis.services"]),
        (config("wyoming", host="a b"), ["satellite.host"]),
    ],
)
def test_a_satellite_needs_the_service_for_its_audio(given: Config, keys: list[str]) -> None:
    assert [finding.key for finding in findings(given)] == keys


@pytest.mark.parametrize(
    ("utterance", "services"),
    [
        (Utterance("a", "Dinner."), ["local"]),
        (Utterance("a", "Hello.", turn=1), ["wyoming", "local"]),
        (Utterance("a", "Home Assistant announcement 1", delivery=Delivery(service="wyoming")), ["wyoming", "local"]),
    ],
)
def test_announcements_of_the_device_are_not_offered_to_home_assistant(
    utterance: Utterance, services: list[str]
) -> None:
    standbys = make_services(config("wyoming", "local"), lambda event: None, None)
    chain = ServiceChain(standbys, BackgroundCloser(1.0))
    assert [standby.service for standby in chain.for_utterance(utterance)] == services
    alone = ServiceChain(standbys[:1], BackgroundCloser(1.0))
    assert [standby.service for standby in alone.for_utterance(utterance)] == ["wyoming"], "its error is reported"


def test_without_a_satellite_each_text_goes_to_the_first_service() -> None:
    standbys = make_services(config("wyoming", "local", port="none"), lambda event: None, None)
    chain = ServiceChain(standbys, BackgroundCloser(1.0))
    assert chain.for_utterance(Utterance("a", "Dinner.")) == standbys
