"""Describes the local speech server as a speech service."""

from __future__ import annotations

from urllib.parse import urlsplit

from agent.config.fields import key, section
from agent.services.protocols.codec import Client, TtsService
from agent.system.named_tuple import NamedTuple


@section
class Settings(NamedTuple):
    """The local speech server."""

    url: str | None = key(None, "WebSocket URL of a speech server on the network; null: the daemon starts its own")
    voice: str = key("en", "language or voice of the local engine, e.g. en, de, flite:slt, espeak:de")


def _client(settings: Settings, url: str, api_key: str | None) -> Client:
    from agent.services.protocols import neuphonic  # imported in the dialing thread, so that the daemon is ready sooner

    # "de" is a language; "espeak:de" is an engine and one of its voices.
    language, voice = ("en", settings.voice) if ":" in settings.voice else (settings.voice, "")
    base = urlsplit(url)
    # Of the protocols of the local server, Neuphonic streams both ways and marks the end of each passage.
    path = base.path if base.path.strip("/") else f"/speak/{language}"
    url = base._replace(path=path).geturl()
    return neuphonic.Client(url=url, api_key=None, temperature=None, sampling_rate=22050, voice=voice)


SERVICE = TtsService(name="local", title="the local speech server", settings=Settings, client=_client)
