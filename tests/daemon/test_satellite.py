"""Tests of building the satellite and of the rules for its configuration."""

from __future__ import annotations

import pytest

from agent.daemon.satellite import make_satellite
from agent.frontends.api.api import Api
from agent.frontends.satellite.settings import SatelliteSettings
from agent.pipeline.events import Event
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
