"""Opens connections to the services that the configuration describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from agent.config.fields import is_section
from agent.config.secrets import Secret
from agent.errors import ConfigError, MissingKeyError, ServiceError
from agent.services import registry
from agent.services.connection.standby import Sound
from agent.services.protocols.codec import Client, KeepaliveTiming
from agent.services.settings import SynthesisSettings, TranscriptionSettings
from agent.system.hosts import is_private_host
from agent.system.threads import Deadline

# At run time the dialing thread imports the connection modules and the codecs, so that the daemon is ready sooner.
if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection, ConnectionTiming
    from agent.services.url_cache import UrlCache

LocalUrl = Callable[[Deadline], str]
"""Returns the URL of the local server. The call may block until the server listens; raises ``ServiceError``."""

TRANSCRIPTION_KEEPALIVE = KeepaliveTiming(ping_seconds=10.0, pong_seconds=30.0)
"""The timeout for a pong is long because the service answers no pings while it computes (measured)."""


class _UrlRefused(ServiceError):
    """The service refused a URL that it had issued."""


class SpeechService:
    """A speech service of the configuration. Thread-safe; ``open`` and ``create_codec`` block."""

    def __init__(
        self, name: str, synthesis: SynthesisSettings, local_url: LocalUrl, *, timing: ConnectionTiming | None = None
    ) -> None:
        """Look up the service.

        Args:
            name: Name of the service in the configuration.
            synthesis: The section ``synthesis``.
            local_url: Called for the URL if the service's section has none.
            timing: Durations of the connections; by default those of ``ConnectionTiming``, with the ping timing of the
                service.

        Raises:
            ConfigError: No service has this name.
        """
        self.name = name
        self._timing = timing
        self._service = registry.find(name)
        self._settings, self._voice = synthesis.settings(name), synthesis.voice(name)
        self._allow_plaintext, self._local_url = synthesis.allow_plaintext, local_url
        self._urls: UrlCache | None = None
        url = self._service.url(self._settings)
        self._url_issuer = urlsplit(url or "").hostname if self._service.authorize is not None else None

    def open(self, deadline: Deadline) -> Connection:
        """Return a connection that is ready for the first text.

        Raises:
            ServiceError: The service cannot be reached or refuses the connection, or its key is missing.
            ConfigError: The key cannot be read, or the codec refuses the settings.
        """
        try:
            return self._open(deadline)
        except _UrlRefused:
            # The cached URL may have expired early. The second attempt requests a new URL and shows whether that one is
            # refused, too.
            self._urls = None
            return self._open(deadline)

    def create_codec(self, deadline: Deadline) -> Client:
        """Return a codec for one connection. It may request the URL over HTTP. Raises the errors of ``open``."""
        service, settings = self._service, self._settings
        configured_url = service.url(settings)
        try:
            api_key = None
            if service.has_key:
                api_key = reveal_key(self.name, settings.api_key, configured_url or "", is_needed=True)
            if service.authorize is not None:
                from agent.services.url_cache import UrlCache

                self._urls = self._urls or UrlCache()
                url = self._urls.url(service.authorize(settings, api_key), deadline)
            else:
                url = configured_url or self._local_url(deadline)
            codec = service.client(settings, url, api_key)
        except ValueError as error:  # for example an invalid query in the URL, which only the codec checks
            raise ConfigError(f"synthesis.{self.name}: {error}") from error
        codec.service = self.name
        return codec

    def check(self) -> None:
        """Raise ``ConfigError`` if the settings cannot be used."""
        for finding in self._service.check(self._settings):
            raise ConfigError(finding.what)

    def sound(self, server: str = "") -> Sound:
        """Return the settings and the voice that identify the sound of the service.

        Args:
            server: The settings of the local speech server that change the sound. They count only if the service
                has no URL of its own and so uses that server.
        """
        settings = self._settings
        uses_server = self._service.authorize is None and self._service.url(settings) is None
        return Sound(_describe(settings) + (f", server={server!r}" if uses_server else ""), self._voice)

    def _open(self, deadline: Deadline) -> Connection:
        codec = self.create_codec(deadline)
        try:
            return _connect(
                codec, deadline, self._allow_plaintext, self._service.keepalive, self._timing, self._url_issuer
            )
        except ServiceError as error:
            if self._url_issuer is None or error.status not in (401, 403):
                raise
            host = urlsplit(codec.handshake().url).hostname
            what = f"{host} refuses the URL that {self._url_issuer} issued (HTTP {error.status})"
            remedy = "check auth_url, model and the permissions of the account"
            raise _UrlRefused(self.name, f"{what}: {remedy}", permanent=True, status=error.status) from error

    def __repr__(self) -> str:
        return f"SpeechService({self.name!r})"


class TranscriptionService:
    """The transcription service of the configuration, or the local one. Thread-safe; ``open`` blocks."""

    name = "transcription"

    def __init__(
        self,
        settings: TranscriptionSettings,
        local_url: LocalUrl | None = None,
        *,
        timing: ConnectionTiming | None = None,
    ) -> None:
        """Store the settings.

        Args:
            settings: The section of the transcription service.
            local_url: If set, called for the URL in place of ``settings.url``.
            timing: Durations of the connections; by default those of ``open``.
        """
        self._settings, self._local_url, self._timing = settings, local_url, timing

    def open(self, deadline: Deadline) -> Connection:
        """Return a connection that is ready for the first frame. Raises the errors of ``SpeechService.open``."""
        from agent.services.connection.websocket import ConnectionTiming, connect
        from agent.services.protocols import transcription

        # A service answers no pings and reads nothing while it computes, which takes ``answer_seconds`` at most.
        seconds = max(TRANSCRIPTION_KEEPALIVE.pong_seconds, self._settings.answer_seconds)
        timing = self._timing or ConnectionTiming(
            ping_seconds=TRANSCRIPTION_KEEPALIVE.ping_seconds, pong_seconds=seconds, stall_seconds=seconds
        )
        if self._settings.protocol == "wyoming":
            return self._open_wyoming(deadline, timing)
        url = self._local_url(deadline) if self._local_url else self._settings.url
        api_key = reveal_key(self.name, self._settings.api_key, url, is_needed=False)
        needs_export = self._settings.export_url is not None
        codec = transcription.Client(url, api_key, self._settings.dialect, needs_export=needs_export)
        return connect(
            codec,
            deadline,
            allow_plaintext=self._settings.allow_plaintext,
            timing=timing,
            on_response=codec.receive_handshake,
        )

    def _open_wyoming(self, deadline: Deadline, timing: ConnectionTiming) -> Connection:
        from agent.services.connection import tcp
        from agent.services.protocols.wyoming_transcription import Client

        settings = self._settings
        codec = Client(settings.url, settings.model, settings.language)
        timing = timing._replace(ping_seconds=None)  # not every server answers pings; TCP detects a lost peer
        return tcp.connect(codec, deadline, allow_plaintext=settings.allow_plaintext, timing=timing)


class WakeService:
    """A wake word detector that uses the Wyoming protocol. Thread-safe; ``open`` blocks.

    Args:
        url: URL of the detector; without a port the default port is used.
        words: Names of the wake word models.
        allow_plaintext: Allow public addresses, although the connection is not encrypted.
    """

    name = "wake"

    def __init__(self, url: str, words: Sequence[str], *, allow_plaintext: bool) -> None:
        self._url, self._words, self._allow_plaintext = url, tuple(words), allow_plaintext

    def open(self, deadline: Deadline) -> Connection:
        """Return a connection that is ready for the first frame. Raises ``ServiceError``."""
        from agent.services.connection import tcp
        from agent.services.connection.websocket import ConnectionTiming
        from agent.services.protocols.wyoming import with_port
        from agent.services.protocols.wyoming_wake import DEFAULT_PORT, Client

        codec = Client(with_port(self._url, DEFAULT_PORT), self._words)
        timing = ConnectionTiming(ping_seconds=None)  # not every server answers pings; TCP detects a lost peer
        return tcp.connect(codec, deadline, allow_plaintext=self._allow_plaintext, timing=timing)


def missing_key(name: str, synthesis: SynthesisSettings) -> str | None:
    """Return the error message for a missing or unreadable key of a service; ``None`` if there is no problem."""
    service, settings = registry.find(name), synthesis.settings(name)
    if not service.has_key:
        return None
    try:
        reveal_key(name, settings.api_key, service.url(settings) or "", is_needed=True)
    except (ConfigError, ServiceError) as error:
        return str(error)
    return None


def reveal_key(name: str, secret: Secret, url: str, *, is_needed: bool) -> str | None:
    """Return the API key of a service.

    Raises:
        MissingKeyError: There is no key, ``is_needed`` is set, and ``url`` is not on a private network.
        ConfigError: The key cannot be read.
    """
    api_key = secret.reveal()
    if api_key is None and is_needed and not is_private_host(urlsplit(url).hostname or ""):
        raise MissingKeyError(name, f"no key: put it into {secret.storage_hint}")
    return api_key


def _describe(value: Any) -> str:
    """Return a settings section as text, without its secrets."""
    if is_section(value):
        items = value._asdict().items()
        return f"({', '.join(f'{name}={_describe(item)}' for name, item in items if not isinstance(item, Secret))})"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_describe, value))}]"
    return repr(value)


def _connect(
    codec: Client,
    deadline: Deadline,
    allow_plaintext: bool,
    keepalive: KeepaliveTiming,
    timing: ConnectionTiming | None,
    url_issuer: str | None = None,
) -> Connection:
    from agent.services.connection.websocket import ConnectionTiming, connect

    timing = timing or ConnectionTiming(ping_seconds=keepalive.ping_seconds, pong_seconds=keepalive.pong_seconds)
    if urlsplit(codec.handshake().url).scheme == "tcp":
        from agent.services.connection import tcp

        return tcp.connect(cast("tcp.OpeningClient", codec), deadline, allow_plaintext=allow_plaintext, timing=timing)
    return connect(codec, deadline, allow_plaintext=allow_plaintext, timing=timing, url_issuer=url_issuer)
