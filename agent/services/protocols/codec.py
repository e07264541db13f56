"""The shared vocabulary of all protocols: events, the interfaces of client and server codecs, and ``TtsService``.

A codec is an object without sockets, clocks or threads. ``Client`` and ``Server`` of a protocol mirror each other: the
messages that one sends are the messages that the other receives. A codec serves one connection and is not reused.

The events mean, from the client to a speech service / from the service to the client:

* ``Text``: a piece of text to speak / the text that belongs to an audio message (rare).
* ``Audio``: microphone audio for the transcription service / audio of the speech, in the requested encoding.
* ``Flush``: a passage (a sentence) is complete, speak it now / the audio of one passage is complete.
* ``End``: this side sends nothing more. The first ``End`` encodes to the end mark of the protocol, a second one to
  nothing, so that closing is always safe.
* ``Transcript``: a partial or final transcript.
* ``Log``: a line for the log, never text to speak.
* ``Failure``: a message that the codec refuses, or an error that the peer reports. Codecs never raise for a message.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from agent.config.errors import Finding, no_findings
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

Message = str | bytes
"""One WebSocket message, or one Wyoming event with its payload: ``str`` is a text message, ``bytes`` a binary one."""


@distinct
class Text(NamedTuple):
    """A piece of text to speak. ``request_id`` is the protocol's own ID of the request, if it has one. Immutable."""

    text: str
    request_id: str | None = None


@distinct
class Audio(NamedTuple):
    """A run of bytes in the codec's ``encoding``. It may begin and end anywhere, also inside a sample. Immutable.

    ``sample_rate`` in Hz, if the message itself contains one; it takes precedence over the requested rate.
    """

    data: bytes
    sample_rate: int | None = None
    request_id: str | None = None

    def __repr__(self) -> str:
        return f"Audio({len(self.data)} bytes, {self.sample_rate}, {self.request_id!r})"


@distinct
class Flush(NamedTuple):
    """A passage is complete. Immutable."""

    request_id: str | None = None


@distinct
class EarlyFinal(NamedTuple):
    """Request a final of the audio so far that holds only if no more speech follows. Immutable."""


@distinct
class End(NamedTuple):
    """This side sends nothing more. Immutable.

    Attributes:
        export_id: The ID of the session's export on the transcription service.
        is_marked: Whether the peer has marked the end. ``False``: a silence, or a close in place of the mark.
    """

    export_id: str | None = None
    is_marked: bool = True


class Word(NamedTuple):
    """One recognized word; ``start_seconds`` and ``end_seconds`` count from the first sample of the session.

    Immutable.
    """

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float


@distinct
class Transcript(NamedTuple):
    """A transcript. A partial replaces the partial before it; a final replaces its partials and is not revised.

    ``is_early``: the answer to an ``EarlyFinal``. It covers the audio since the last final and holds only if no more
    speech follows. Immutable.
    """

    text: str
    is_final: bool
    words: tuple[Word, ...] = ()
    is_early: bool = False


@distinct
class Detection(NamedTuple):
    """A wake word was found; empty if the service does not name it. Immutable.

    ``at_seconds``: about the end of the word, from the first sample of the connection; ``None`` if it is unknown.
    """

    word: str
    at_seconds: float | None = None


@distinct
class Log(NamedTuple):
    """A line that the peer reports about itself. Untrusted text: escape it before it reaches a log or a terminal.

    Immutable.
    """

    message: str


@distinct
class Failure(NamedTuple):
    """A refused message or a reported error. Immutable.

    Attributes:
        service: The name of the service.
        received: An escaped excerpt of the message, without keys.
        expected: What the protocol allows at this point.
        fatal: The session cannot continue. Otherwise only this message is discarded.
        permanent: A retry is useless, as for a refused key.
        status: The HTTP status or close code, if there is one.
        retry_after_seconds: The delay that the service requests.
        is_foreign: The message belongs to another request than those of the session; only it is discarded.
        is_unknown: The message is valid, of a type that the codec does not know; only it is discarded.
        owes_end: The connection ended although the service marks the end of a passage and has not done so: the audio is
            incomplete, whatever the close code says.
    """

    service: str
    received: str
    expected: str
    fatal: bool = True
    permanent: bool = False
    status: int | None = None
    retry_after_seconds: float | None = None
    is_foreign: bool = False
    is_unknown: bool = False
    owes_end: bool = False

    def __str__(self) -> str:
        return f"{self.service} sent {self.received}; expected {self.expected}"


Event = Text | Audio | Flush | EarlyFinal | End | Transcript | Detection | Log | Failure


class Encoding(NamedTuple):
    """The encoding of ``Audio.data``. Immutable.

    Attributes:
        container: ``raw``, ``wav``, ``mp3`` or ``opus`` (Ogg Opus).
        sample_rate: The requested rate in Hz; the header of a container takes precedence.
        channels: The requested number of channels; the header of a container takes precedence.
        samples: ``s16le``, ``mulaw`` or ``alaw``; the last two in ``raw`` and ``wav`` only.
    """

    container: str
    sample_rate: int
    channels: int = 1
    samples: str = "s16le"


class Handshake(NamedTuple):
    """URL and headers of the opening handshake. Immutable. Both may hold secrets and are not part of the repr."""

    url: str
    headers: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return "Handshake()"


class HttpRequest(NamedTuple):
    """A plain HTTP request before the handshake (PlayAI's authorization). Immutable. Secrets are not in the repr."""

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"HttpRequest({self.method!r})"


class Client(Protocol):
    """The interface of every client codec. Not thread-safe; owned by the thread that owns the connection.

    Attributes:
        service: The name of the service.
        encoding: The encoding of the ``Audio`` that ``receive`` returns (of the ``Audio`` to send, for transcription).
        max_idle_seconds: How long the service keeps an idle connection open (``None``: without limit). A standby is
            reconnected before that.
        is_single_use: A session takes one passage only; the next one needs a new connection.
    """

    service: str
    encoding: Encoding
    max_idle_seconds: float | None
    is_single_use: bool

    @property
    def receive_timeout_seconds(self) -> float | None:
        """Seconds without a message after which the owner calls ``receive_timeout`` once; ``None``: no timeout now.

        The value may change with every message that is sent or received. The limit for the first audio of a session is
        the owner's: before that audio, a speech codec has no timeout whose event is a failure.
        """
        ...

    def handshake(self) -> Handshake:
        """Return URL and headers for the opening handshake."""
        ...

    def send(self, event: Event) -> list[Message]:
        """Encode an event."""
        ...

    def receive(self, message: Message) -> list[Event]:
        """Decode a message. Never raises."""
        ...

    def receive_timeout(self) -> list[Event]:
        """Return the events for a timeout without a message from the service.

        The owner of a codec for speech also calls it when its own limit for the first audio has passed: the codec may
        hold an error of which it does not know whether it belongs to the session.
        """
        ...

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return the events that the end of the connection means; nothing if the session had ended before."""
        ...


class Server(Protocol):
    """The interface of every server codec. Not thread-safe; owned by the thread that owns the connection."""

    service: str
    encoding: Encoding

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None:
        """Check the opening handshake. Return ``None`` to accept it, or a ``Failure`` with the HTTP status."""
        ...

    def send(self, event: Event) -> list[Message]:
        """Encode an event."""
        ...

    def receive(self, message: Message) -> list[Event]:
        """Decode a message. Never raises."""
        ...

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        """Return the events that the end of the connection means; nothing if the session had ended before."""
        ...


class KeepaliveTiming(NamedTuple):
    """When a client pings a service, and how long it waits for the pong. Immutable.

    ``ping_seconds`` ``None``: the client sends no pings.
    """

    ping_seconds: float | None = 5.0
    pong_seconds: float = 4.5


class ServerOption(NamedTuple):
    """A command line option of the local server that only one service has. Immutable.

    Without ``metavar`` the option is a switch.
    """

    flag: str
    help: str
    metavar: str | None = None


HttpResponse = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body."""


class ServerSide(NamedTuple):
    """The server side of one service in the local speech server. Immutable.

    Attributes:
        codec: Makes the server codec of one connection.
        respond: Answers a plain HTTP request: base URL of the server, method, target, headers.
        idle_seconds: A client that sends nothing for this time is disconnected.
        refusal_close_code: The WebSocket close code after a message that cannot be processed.
        wav_layout: Where RIFF headers are (``header``, ``first``); ``None``: as the server's option says.
        has_one_stream: One audio stream for the session, not one for each passage.
        reuse_seconds: The connection stays open this long after the end of an utterance, for the first message of the
            next one; then it is closed with the code 1000.
        closes_after_passage: A passage without another one behind it ends the connection, with the code 1000.
        max_message_bytes: The largest message of a client, ``None`` for the limit of all services; a larger one ends
            the connection with the code 1009.
    """

    codec: Callable[[], Server]
    respond: Callable[[str, str, str, Mapping[str, str]], HttpResponse] | None = None
    idle_seconds: float | None = None
    refusal_close_code: int = 1008
    wav_layout: str | None = "header"
    has_one_stream: bool = False
    reuse_seconds: float = 0.0
    closes_after_passage: bool = False
    max_message_bytes: int | None = None


class IssuedUrl(NamedTuple):
    """A WebSocket URL that a service issued; it holds a token. Immutable.

    ``expires_at`` in seconds since 1970, UTC; ``None`` if the service does not report it.
    """

    url: str
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"IssuedUrl(expires_at={self.expires_at})"


class UrlAuthorization(Protocol):
    """An HTTP exchange that returns the WebSocket URL of a session, as a codec without sockets.

    Not thread-safe; owned by the dialing thread.
    """

    service: str

    def request(self) -> HttpRequest: ...
    def receive(self, status: int, headers: Mapping[str, str], body: bytes) -> IssuedUrl | Failure: ...


class TtsService(NamedTuple):
    """The description of one speech service. Immutable.

    Attributes:
        name: The name in the configuration, on the command line and in logs.
        title: The name for users.
        settings: The class of the section ``synthesis.NAME``; its docstring describes the section.
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
        return "api_key" in self.settings._fields

    def url(self, settings: Any) -> str | None:
        """Return the configured URL."""
        url: str | None = getattr(settings, self.url_key)
        return url

    def speaks_at(self, path: str) -> bool:
        """Return whether a path of the local server belongs to the protocol."""
        return any(path.startswith(each[:-1]) if each.endswith("*") else path == each for each in self.paths)
