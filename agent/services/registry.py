"""From the configuration to a connection: which codec a service speaks, with which key, at which address."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.config.secrets import Secret
from agent.errors import ConfigError, ServiceError
from agent.services.protocols.codec import Client
from agent.services.settings import Synthesis, Transcription
from agent.services.url_cache import UrlCache
from agent.system.hosts import is_private_host
from agent.system.threads import Deadline

# The network and the codecs are imported where they are used: by the thread that dials, while the daemon is ready.
if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

LocalUrl = Callable[[Deadline], str]
"""Where the local speech server listens; may wait for it to do so, and raises ``ServiceError`` where it does not."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a service that says nothing is told from one that is gone; ``ping_seconds`` ``None``: not at all."""

    ping_seconds: float | None = 5.0
    pong_seconds: float = 4.5


PULSES = {
    # Both have been seen to leave pings unanswered while they compute.
    "fish": Pulse(ping_seconds=30.0, pong_seconds=60.0),
    "transcription": Pulse(ping_seconds=10.0, pong_seconds=30.0),
}


class _Stale(ServiceError):
    """The service refuses an address that it granted itself."""


class SpeechService:
    """One speech service as the configuration describes it. ``open`` blocks and belongs into a dialling thread."""

    def __init__(self, name: str, synthesis: Synthesis, local_url: LocalUrl) -> None:
        if name not in MAKERS:
            raise ConfigError(f"there is no speech service {name!r}; there are {', '.join(MAKERS)}")
        self.name, self.synthesis, self.local_url = name, synthesis, local_url
        self.grants = UrlCache()
        self._granted_by = urlsplit(synthesis.playai.auth_url).hostname if name == "playai" else None

    def open(self, deadline: Deadline) -> Connection:
        """A connection that is ready for the first text. Raises ``ServiceError``, or ``ConfigError`` for a bad key
        or what the codec refuses."""
        try:
            return self._open(deadline)
        except _Stale:
            # Only the granted address is refused, which has grown old; whether the key is, a new one will prove.
            self.grants = UrlCache()
            return self._open(deadline)

    def codec(self, deadline: Deadline) -> Client:
        """A codec for one connection, with what it takes to know its address. Raises as ``open``."""
        try:
            codec = MAKERS[self.name](self, deadline)
        except ValueError as error:  # such as the query of an address: only the codec knows what may stand there
            raise ConfigError(f"synthesis.{self.name}: {error}") from error
        codec.service = self.name
        return codec

    def _open(self, deadline: Deadline) -> Connection:
        codec = self.codec(deadline)
        try:
            return _connect(codec, deadline, self.synthesis.allow_plaintext, self._granted_by)
        except ServiceError as error:
            if self._granted_by is None or error.status not in (401, 403):
                raise
            raise _Stale(
                self.name, "refuses the address that it granted", permanent=True, status=error.status
            ) from error

    def __repr__(self) -> str:
        return f"SpeechService({self.name!r})"


class TranscriptionService:
    """The transcription service as the configuration describes it, or the local one where ``local_url`` is given."""

    name = "transcription"

    def __init__(self, settings: Transcription, local_url: LocalUrl | None = None) -> None:
        self._settings, self._local_url = settings, local_url

    def open(self, deadline: Deadline) -> Connection:
        """A connection that is ready for the first frame. Raises ``ServiceError``, or ``ConfigError`` for a bad key."""
        from agent.services.protocols import transcription

        url = self._local_url(deadline) if self._local_url else self._settings.url
        codec = transcription.Client(
            url, _key(self.name, self._settings.api_key, url, needed=False), self._settings.dialect
        )
        return _connect(codec, deadline, self._settings.allow_plaintext)


def missing_key(name: str, synthesis: Synthesis) -> str | None:
    """Why a service cannot work for want of a key, in a sentence; ``None`` where it can."""
    if name == "local":
        return None
    settings = getattr(synthesis, name)
    url = settings.auth_url if name == "playai" else settings.url
    try:
        _key(name, settings.api_key, url, needed=True)
    except (ConfigError, ServiceError) as error:
        return str(error)
    return None


def _connect(codec: Client, deadline: Deadline, allow_plaintext: bool, url_issuer: str | None = None) -> Connection:
    from agent.services.connection.websocket import connect

    pulse = PULSES.get(codec.service, Pulse())
    return connect(
        codec,
        deadline,
        allow_plaintext=allow_plaintext,
        ping_seconds=pulse.ping_seconds,
        pong_seconds=pulse.pong_seconds,
        url_issuer=url_issuer,
    )


def _key(name: str, secret: Secret, url: str, *, needed: bool) -> str | None:
    key = secret.reveal()
    if key is None and needed and not is_private_host(urlsplit(url).hostname or ""):
        raise ServiceError(name, f"no key: put it into {secret.home}", permanent=True)
    return key


def _neuphonic(service: SpeechService, deadline: Deadline) -> Client:
    from agent.services.protocols import neuphonic

    settings = service.synthesis.neuphonic
    return neuphonic.Client(
        url=settings.url,
        api_key=_key("neuphonic", settings.api_key, settings.url, needed=True),
        speed=settings.speed,
        temperature=settings.temperature,
        sampling_rate=settings.sampling_rate,
        voice=settings.voice,
    )


def _local(service: SpeechService, deadline: Deadline) -> Client:
    from agent.services.protocols import neuphonic

    wish = service.synthesis.local.voice
    # "de" is a language, "espeak:de" an engine with one of its voices.
    language, voice = ("en", wish) if ":" in wish else (wish, "")
    base = urlsplit(service.synthesis.local.url or service.local_url(deadline))
    # The local server speaks all five protocols; this one streams both ways and says where each passage ends.
    path = base.path if base.path.strip("/") else f"/speak/{language}"
    url = base._replace(path=path).geturl()
    return neuphonic.Client(url=url, api_key=None, temperature=None, sampling_rate=22050, voice=voice)


def _vachana(service: SpeechService, deadline: Deadline) -> Client:
    from agent.services.protocols import vachana

    settings = service.synthesis.vachana
    return vachana.Client(
        url=settings.url,
        api_key=_key("vachana", settings.api_key, settings.url, needed=True),
        voice=settings.voice,
        language=settings.language,
        model=settings.model,
        speed=settings.speed,
        audio_config=asdict(settings.audio_config),
    )


def _fish(service: SpeechService, deadline: Deadline) -> Client:
    from agent.services.protocols import fish

    settings = service.synthesis.fish
    return fish.Client(
        url=settings.url,
        api_key=_key("fish", settings.api_key, settings.url, needed=True),
        model=settings.model,
        format=settings.format,
        sample_rate=settings.sample_rate,
        latency=settings.latency,
        temperature=settings.temperature,
        top_p=settings.top_p,
        prosody=asdict(settings.prosody),
        reference_id=settings.reference_id,
        references=[{"audio": _recording(each.audio), "text": each.text} for each in settings.references],
    )


def _recording(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"the reference recording {path} cannot be read: {error.strerror}") from error


def _playai(service: SpeechService, deadline: Deadline) -> Client:
    from agent.services.protocols import playai
    from agent.services.protocols.playai_auth import Authorization

    settings = service.synthesis.playai
    key = _key("playai", settings.api_key, settings.auth_url, needed=True)
    authorization = Authorization(settings.auth_url, key, settings.user_id, settings.model)
    return playai.Client(
        url=service.grants.url(authorization, deadline),
        voice=settings.voice,
        output_format=settings.output_format,
        sample_rate=settings.sample_rate,
        speed=settings.speed,
        temperature=settings.temperature,
    )


MAKERS: dict[str, Callable[[SpeechService, Deadline], Client]] = {
    "neuphonic": _neuphonic,
    "playai": _playai,
    "vachana": _vachana,
    "fish": _fish,
    "local": _local,
}


def redirected(name: str, local_url: str) -> dict[str, Any]:
    """The keys that make a service's own protocol end at the local server, for a demonstration without a key."""
    base = urlsplit(local_url)
    http = base._replace(scheme="http").geturl().rstrip("/")
    socket = base.geturl().rstrip("/")
    return {
        "neuphonic": {"url": f"{socket}/speak/en"},
        "playai": {"auth_url": f"{http}/api/v1/tts/websocket-auth"},
        "vachana": {"url": f"{socket}/api/v1/tts"},
        "fish": {"url": f"{socket}/v1/tts/live"},
        "local": {"url": socket},
    }[name]
