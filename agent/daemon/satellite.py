"""Builds the satellite for Home Assistant from the configuration."""

from __future__ import annotations

import socket
from collections.abc import Callable

from agent import __version__
from agent.frontends.api.api import Api
from agent.frontends.satellite.bridge import Bridge
from agent.frontends.satellite.frontend import SatelliteFrontend
from agent.frontends.satellite.settings import VOICE_SERVICE
from agent.pipeline.events import Event
from agent.settings.model import Config


def make_satellite(config: Config, api: Api, report: Callable[[Event], None]) -> SatelliteFrontend:
    """Build the frontend.

    Args:
        config: The configuration; ``satellite.port`` must be a number.
        api: The methods of the daemon.
        report: Receives the events of the frontend.
    """
    wake = config.wake
    words = wake.spoken_words if wake.engine != "none" else ()
    name = socket.gethostname().partition(".")[0] or "voice-agent"
    bridge = Bridge(name, config.satellite.area, __version__, words)
    timer_service = next((each for each in config.synthesis.services if each != VOICE_SERVICE), None)
    return SatelliteFrontend(config.satellite, bridge, api, report, timer_service)
