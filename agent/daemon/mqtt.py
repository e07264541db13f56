"""Builds the MQTT frontend from the configuration."""

from __future__ import annotations

from collections.abc import Callable

from agent import __version__
from agent.daemon.choices import options
from agent.frontends.api.api import Api
from agent.frontends.mqtt.discovery import ANY_HOST, About
from agent.frontends.mqtt.frontend import MqttFrontend
from agent.frontends.web.settings import WebSettings
from agent.pipeline.events import Event
from agent.settings.model import Config

ALL_ADDRESSES = ("0.0.0.0", "::")


def make_mqtt(config: Config, api: Api, report: Callable[[Event], None]) -> MqttFrontend:
    """Build the frontend.

    Args:
        config: The configuration; ``mqtt.url`` must be an address.
        api: The methods of the daemon.
        report: Receives the events of the frontend.
    """
    mode = config.conversation.mode
    about = About(
        __version__,
        speaks=mode != "captions",
        listens=mode != "announce",
        page=_page(config.web),
        room=config.mqtt.room,
        has_button=config.button.is_used,
        selects=options(config),
    )
    return MqttFrontend(config.mqtt, api, about, report)


def _page(settings: WebSettings) -> str | None:
    """Return the address of the web page; ``None`` if other machines cannot reach the page."""
    address = settings.address
    if address is None or address.is_loopback:
        return None
    scheme = "http" if settings.certificate is None else "https"
    shown = address._replace(host=ANY_HOST) if address.host in ALL_ADDRESSES else address
    return f"{scheme}://{shown}/"
