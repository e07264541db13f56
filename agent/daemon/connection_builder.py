"""Builds the connections to the services, and decides whether they use the local server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.daemon.shutdown import (
    CONNECTION_CLOSE_SECONDS,
    DIAL_GIVE_UP_SECONDS,
    STAGE_ABORT_SECONDS,
    STAGE_CLOSE_SECONDS,
)
from agent.pipeline.events import Event
from agent.pipeline.service_stage import CloseTiming
from agent.pipeline.stage import make_standby
from agent.services.connection.standby import Sound, Standby, StandbyTiming
from agent.services.service import LocalUrl, SpeechService, TranscriptionService, WakeService
from agent.settings.model import Config, ServerSettings
from agent.system.hosts import connect_host, websocket_url

if TYPE_CHECKING:
    from agent.daemon.local_server import LocalServer

CLOSE_TIMING = CloseTiming(STAGE_CLOSE_SECONDS, STAGE_ABORT_SECONDS, CONNECTION_CLOSE_SECONDS)

STANDBY_TIMING = StandbyTiming(give_up_seconds=DIAL_GIVE_UP_SECONDS, close_seconds=CONNECTION_CLOSE_SECONDS)


def standby_for(
    service: SpeechService | TranscriptionService | WakeService,
    report: Callable[[Event], None],
    eager: bool = True,
    generation: int = 0,
    report_seconds: float = 0.0,
    sound: Sound | None = None,
) -> Standby:
    """Build the connection to a service.

    Args:
        service: The service.
        report: Receives the events of the connection.
        eager: Whether to dial the next connection as soon as one is used.
        generation: Number of the configuration of the service, for the events.
        report_seconds: As for ``StandbyTiming``.
        sound: The audio of the service, if it is known before the first answer.
    """
    timing = STANDBY_TIMING._replace(report_seconds=report_seconds)
    return make_standby(
        service.name, service.open, report, config_generation=generation, eager=eager, timing=timing, sound=sound
    )


def local_server_url(config: Config, local: LocalServer | None) -> LocalUrl:
    """Return a function that returns the URL of the local server. Dialing threads call it."""
    if local is not None:
        return local.url
    url = websocket_url(connect_host(config.server.host), config.server.port)
    return lambda deadline: url


def local_server_settings(config: Config) -> ServerSettings | None:
    """Return the settings of the local server that the daemon runs; ``None`` if it needs none.

    The server loads a recognizer, which takes most of its memory, only if it is used or ``server.start`` is true.
    """
    if isinstance(config.server.start, bool):
        return config.server if config.server.start else None
    mode = config.conversation.mode
    speaks = mode != "captions" and config.synthesis.uses_own_server
    if mode != "announce" and is_local_server_url(config.transcription.url, config):
        return config.server
    if config.server.wyoming != "none":  # Wyoming clients use the voices and the recognizer
        return config.server
    return config.server._replace(recognition="none") if speaks else None


def uses_local_recognition(config: Config, local: LocalServer | None) -> bool:
    """Return whether the transcription service is the local server of this process."""
    return local is not None and is_local_server_url(config.transcription.url, config)


def is_local_server_url(url: str, config: Config) -> bool:
    """Return whether a URL is the address of the configured local server."""
    parts = urlsplit(url)
    hosts = ("127.0.0.1", "::1") if parts.hostname == "localhost" else (parts.hostname,)
    # A server on "localhost" listens only on 127.0.0.1.
    host = "127.0.0.1" if config.server.host == "localhost" else connect_host(config.server.host)
    return parts.scheme != "tcp" and host in hosts and parts.port == config.server.port
