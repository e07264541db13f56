"""The one vocabulary of all five protocols, in both directions and on both sides.

A codec is an object without sockets, clocks or threads. ``Client`` and ``Server`` of a protocol are mirrors: what the
one sends the other receives. A codec lives as long as one connection and is used for no other.

The words mean, from the client to a speech service / from the service to the client:

* ``Text``: a piece of text to be spoken / what an audio message says of its text (rare).
* ``Audio``: microphone sound for the transcription service / sound of the reply, still in the encoding asked for.
* ``Flush``: a passage (a sentence) is complete, speak it now / the sound of one passage is complete.
* ``End``: this side has said all it is going to say. The first ``End`` gives the end mark of the protocol, a second
  one gives nothing, so closing is always safe.
* ``Transcript``: what was heard, partial or final.
* ``Log``: something worth a line in the log, never text to be spoken.
* ``Failure``: a message the codec refuses, or an error the other side reported. It never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agent.config.errors import Finding

Message = str | bytes
"""One WebSocket message: ``str`` is a text message, ``bytes`` a binary one."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text to be spoken. ``request_id`` ties it to a request where the protocol has such ids."""

    text: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Audio:
    """Sound: a run of bytes in the codec's ``encoding`` that may begin and end anywhere, in the middle of a sample too.

    ``sample_rate`` in Hz where the message itself names one; it then outranks the one asked for.
    """

    data: bytes = field(repr=False)
    sample_rate: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Flush:
    """A passage is complete."""

    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """This side has said all it is going to say. ``export_id``: where the transcription service keeps the session."""

    export_id: str | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word; ``start_seconds`` and ``end_seconds`` count from the first sample of the session."""

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard. A partial replaces the partial before it; a final closes what its partials said."""

    text: str
    is_final: bool
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True)
class Log:
    """Something the other side said about itself. Untrusted text: escape it before it reaches a log or a terminal."""

    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that was refused, or an error that was reported, in words a user understands.

    ``came`` is a short, escaped excerpt of what arrived (never a key, at most 200 characters), ``expected`` what the
    protocol allows there. ``fatal``: the session cannot go on; otherwise only that message was passed over.
    ``permanent``: asking again changes nothing (a refused key). ``status``: HTTP status or close code, where one came.
    """

    service: str
    received: str
    expected: str
    fatal: bool = True
    permanent: bool = False
    status: int | None = None
    retry_after_seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.service} sent {self.received}; expected {self.expected}"


Event = Text | Audio | Flush | End | Transcript | Log | Failure


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the bytes of ``Audio`` are to be read.

    ``container``: ``raw``, ``wav``, ``mp3`` or ``opus`` (Ogg Opus); ``flac`` where somebody asks for what only the
    service itself can give. ``samples``: ``s16le``, ``mulaw`` or ``alaw`` (the last two in ``raw`` and ``wav`` only).
    ``sample_rate`` in Hz and ``channels`` as asked for; a container's own header outranks them.
    """

    container: str
    sample_rate: int
    channels: int = 1
    samples: str = "s16le"


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a client opens its connection with. The URL and the headers may hold secrets and never show in a repr."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A plain HTTP request that comes before the handshake (PlayAI's authorisation). Never shows its secrets."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Client(Protocol):
    """The shape of every client codec.

    ``quiet_seconds``: after so long without a message, while an answer is awaited, the owner calls ``quiet()`` once;
    ``None`` when silence means nothing now. It may change with every message. ``silent_seconds``: how long the service
    keeps an unused connection open (``None``: for ever), so that a standby is renewed before. ``one_passage``: a
    session takes one passage only; the next needs a new connection.
    """

    service: str
    encoding: Encoding
    max_idle_seconds: float | None
    is_single_use: bool

    @property
    def receive_timeout_seconds(self) -> float | None: ...
    def handshake(self) -> Handshake: ...
    def send(self, event: Event) -> list[Message]: ...
    def receive(self, message: Message) -> list[Event]: ...
    def receive_timeout(self) -> list[Event]: ...
    def receive_close(self, code: int, reason: str = "") -> list[Event]: ...


class Server(Protocol):
    """The shape of every server codec. ``handshake`` answers ``None`` to accept, or a ``Failure`` with a status."""

    service: str
    encoding: Encoding

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None: ...
    def send(self, event: Event) -> list[Message]: ...
    def receive(self, message: Message) -> list[Event]: ...
    def receive_close(self, code: int, reason: str = "") -> list[Event]: ...


@dataclass(frozen=True, slots=True)
class KeepaliveTiming:
    """When a client pings a service, and how long it waits for the pong. Immutable.

    ``ping_seconds`` ``None``: the client sends no pings.
    """

    ping_seconds: float | None = 5.0
    pong_seconds: float = 4.5


@dataclass(frozen=True, slots=True)
class ServerOption:
    """A command line option of the local server that only one service has. Immutable.

    Without ``metavar`` the option is a switch.
    """

    flag: str
    help: str
    metavar: str | None = None


HttpResponse = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""


@dataclass(frozen=True, slots=True)
class ServerSide:
    """What the local speech server needs to serve one service. Immutable.

    Attributes:
        codec: Makes the server codec of one connection.
        respond: Answers a plain HTTP request: base URL of the server, method, target, headers.
        idle_seconds: A client that sends nothing for so long is disconnected.
        refusal_close_code: The WebSocket close code after a message that cannot be processed.
        wav_layout: Where RIFF headers are (``header``, ``first``); ``None``: as the server's option says.
        has_one_stream: One audio stream for the session, not one for each passage.
    """

    codec: Callable[[], Server]
    respond: Callable[[str, str, str, Mapping[str, str]], HttpResponse] | None = None
    idle_seconds: float | None = None
    refusal_close_code: int = 1008
    wav_layout: str | None = "header"
    has_one_stream: bool = False


@dataclass(frozen=True, slots=True)
class IssuedUrl:
    """A WebSocket URL that a service issued; it holds a token. Immutable.

    ``expires_at`` in seconds since 1970, UTC; ``None`` where the service does not say.
    """

    url: str = field(repr=False)
    expires_at: float | None = None


class UrlAuthorization(Protocol):
    """An HTTP exchange that returns the WebSocket URL of a session, as a codec without sockets."""

    service: str

    def request(self) -> HttpRequest: ...
    def receive(self, status: int, headers: Mapping[str, str], body: bytes) -> IssuedUrl | Failure: ...


def no_findings(settings: Any) -> Iterator[Finding]:
    """The check of a service without rules between its keys."""
    yield from ()


@dataclass(frozen=True, slots=True)
class TtsService:
    """Everything that the package knows about one speech service. Immutable.

    Attributes:
        name: The name in the configuration, on the command line and in logs.
        title: The name for users.
        settings: The dataclass of the section ``synthesis.NAME``; its docstring describes the section.
        client: Makes a client codec from the settings, the URL and the API key. Raises ``ValueError`` or
            ``ConfigError`` for settings that the service refuses.
        check: Yields the rules between keys that the settings break, with keys relative to the section.
        check_used: As ``check``, for a service that ``synthesis.services`` names.
        server: Makes the server side from the API key and the values of ``server_options`` by flag; ``None``: the
            local server does not serve it.
        server_options: Its own options of the local server.
        paths: The paths of the local server where its protocol is spoken; ``*`` at the end stands for any rest.
        http_paths: The paths of the local server where ``ServerSide.respond`` answers.
        keepalive: Ping timing of a connection.
        url_key: The key that holds the URL.
        url_schemes: The URL schemes that key may have.
        authorize: Makes the HTTP exchange that returns the WebSocket URL; ``None``: ``url_key`` holds it.
        local_settings: Returns the keys that point the service to a local server, from its WebSocket base URL.
    """

    name: str
    title: str
    settings: Any
    client: Callable[[Any, str, str | None], Client]
    check: Callable[[Any], Iterator[Finding]] = no_findings
    check_used: Callable[[Any], Iterator[Finding]] = no_findings
    server: Callable[[str | None, Mapping[str, Any]], ServerSide] | None = None
    server_options: tuple[ServerOption, ...] = ()
    paths: tuple[str, ...] = ()
    http_paths: tuple[str, ...] = ()
    keepalive: KeepaliveTiming = KeepaliveTiming()
    url_key: str = "url"
    url_schemes: tuple[str, ...] = ("wss", "ws")
    authorize: Callable[[Any, str | None], UrlAuthorization] | None = None
    local_settings: Callable[[str], dict[str, Any]] = lambda base: {"url": base}

    @property
    def has_key(self) -> bool:
        """Whether the service has an API key."""
        return "api_key" in self.settings.__dataclass_fields__

    def url(self, settings: Any) -> str | None:
        """Return the configured URL."""
        url: str | None = getattr(settings, self.url_key)
        return url

    def speaks_at(self, path: str) -> bool:
        """Tell whether a path of the local server belongs to the protocol."""
        return any(path.startswith(each[:-1]) if each.endswith("*") else path == each for each in self.paths)
