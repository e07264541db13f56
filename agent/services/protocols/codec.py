"""Defines what all protocols share: events, the interfaces of client and server codecs, and ``TtsService``.

A codec is an object without sockets, clocks or threads. ``Client`` and ``Server`` of a protocol mirror each other: the
messages that one sends are the messages that the other receives. A codec serves one connection and is not reused.

The meaning of the events. Where it depends on the direction, the part before the slash is the meaning from the client
to the service, and the part after it is the meaning from the service to the client:

* ``Text``: a piece of text to speak / the text that belongs to an audio message (rare).
* ``Audio``: microphone audio / audio of the speech, in the requested encoding.
* ``Flush``: a passage (a sentence) is complete, speak it now / the audio of one passage is complete.
* ``EarlyFinal``: the client requests a final of the audio so far.
* ``End``: this side sends nothing more. The first ``End`` encodes to the end mark of the protocol, a second one to
  nothing, so that closing is always safe.
* ``Transcript``: a partial or final transcript.
* ``Detection``: a wake word was detected.
* ``Log``: a line for the log, never text to speak.
* ``Failure``: a message that the codec refuses, or an error that the peer reports. Codecs return a ``Failure``
  and never raise an exception for a message.
"""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from agent.config.errors import Finding, no_findings
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

Message = str | bytes
"""One WebSocket message (``str``: text, ``bytes``: binary), or one Wyoming event with its payload (``bytes``)."""


@distinct
class Text(NamedTuple):
    """A piece of text to speak. ``request_id`` is the protocol's own ID of the request, if it has one. Immutable."""

    text: str
    request_id: str | None = None


@distinct
class Audio(NamedTuple):
    """A piece of audio in the codec's ``encoding``. It may begin and end anywhere, also inside a sample. Immutable.

    ``sample_rate`` is the rate in Hz that the message itself contains, if any; it takes precedence over the requested
    rate. ``request_id`` is the protocol's own ID of the request, if it has one.
    """

    data: bytes
    sample_rate: int | None = None
    request_id: str | None = None

    def __repr__(self) -> str:
        return f"Audio({len(self.data)} bytes, {self.sample_rate}, {self.request_id!r})"


@distinct
class Flush(NamedTuple):
    """A passage is complete. ``request_id`` is the protocol's own ID of the request, if it has one. Immutable."""

    request_id: str | None = None


@distinct
class EarlyFinal(NamedTuple):
    """A request for a final of the audio so far. The final holds only if no more speech follows. Immutable."""


@distinct
class End(NamedTuple):
    """This side sends nothing more. Immutable.

    Attributes:
        export_id: The ID of the session's export on the transcription service.
        is_marked: Whether the peer has sent an end mark. ``False``: the codec concludes the end from a pause, or from a
            close of the connection.
    """

    export_id: str | None = None
    is_marked: bool = True


class Word(NamedTuple):
    """One recognized word. Immutable.

    ``start_seconds`` and ``end_seconds`` count from the first sample of the session; ``confidence`` is as the service
    reports it.
    """

    word: str
    start_seconds: float
    end_seconds: float
    confidence: float


@distinct
class Transcript(NamedTuple):
    """A partial or final transcript. Immutable.

    A partial replaces the previous partial. A final replaces the partials since the previous final and does not change
    any more. ``is_early`` marks the answer to an ``EarlyFinal``: it covers the audio since the last final and holds
    only if no more speech follows.
    """

    text: str
    is_final: bool
    words: tuple[Word, ...] = ()
    is_early: bool = False


@distinct
class Detection(NamedTuple):
    """A detected wake word. Immutable.

    ``word`` is empty if the service does not name the word. ``at_seconds`` is the approximate end of the word, counted
    from the first sample of the connection; ``None`` if it is unknown.
    """

    word: str
    at_seconds: float | None = None


@distinct
class Log(NamedTuple):
    """A line that the peer reports about itself. Immutable.

    The text is untrusted: escape it before you write it to a log or a terminal.
    """

    message: str


@distinct
class Failure(NamedTuple):
    """A refused message or a reported error. Immutable.

    Attributes:
        service: The name of the service.
        received: An escaped excerpt of the message, without keys.
        expected: What the protocol allows at this point.
        fatal: Whether the session cannot continue. Otherwise only this message is discarded.
        permanent: Whether a retry is useless, for example after a refused key.
        status: The HTTP status or close code, if there is one.
        retry_after_seconds: The delay that the service requests.
        is_foreign: Whether the message belongs to a request that is not of this session. Only the message is discarded.
        is_unknown: Whether the message is valid but has a type that the codec does not know. Only the message is
            discarded.
        is_end_missing: Whether the connection ended before the end mark of a passage, although the service sends such
            marks. Then the audio is incomplete, also after a normal close code.
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
    is_end_missing: bool = False

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
    """URL and headers of the opening handshake. Immutable. The repr omits both, because they may contain secrets."""

    url: str
    headers: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return "Handshake()"


class HttpRequest(NamedTuple):
    """A plain HTTP request before the handshake (PlayAI's authorization). Immutable.

    The repr omits URL and headers, because they may contain secrets.
    """

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})

    def __repr__(self) -> str:
        return f"HttpRequest({self.method!r})"


class Client(Protocol):
    """The interface of every client codec. Not thread-safe; owned by the thread that owns the connection.

    Attributes:
        service: The name of the service.
        encoding: The encoding of the ``Audio`` that ``receive`` returns; for transcription and wake words, of the
            ``Audio`` to send.
        max_idle_seconds: How long the service keeps an idle connection open; ``None``: no limit. A standby replaces its
            connection before this time.
        is_single_use: Whether a connection serves one passage only. Then the next passage needs a new connection.
    """

    service: str
    encoding: Encoding
    max_idle_seconds: float | None
    is_single_use: bool

    @property
    def receive_timeout_seconds(self) -> float | None:
        """The owner calls ``receive_timeout`` once after this time without a message; ``None``: no timeout now.

        The value may change with every message that is sent or received. The owner itself limits the wait for the first
        audio of a session: before that audio, the timeout of a speech codec never means a failure.
        """
        ...

    def handshake(self) -> Handshake:
        """Return URL and headers for the opening handshake."""
        ...

    def send(self, event: Event) -> list[Message]:
        """Encode an event as any number of messages."""
        ...

    def receive(self, message: Message) -> list[Event]:
        """Decode a message. Never raises."""
        ...

    def receive_timeout(self) -> list[Event]:
        """Return the events that follow from ``receive_timeout_seconds`` without a message.

        The owner of a speech codec also calls this method when its own limit for the first audio has passed. Then the
        codec returns what it holds because it names an unknown request, for example an error.
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

    If ``ping_seconds`` is ``None``, the client sends no pings. See ``ConnectionTiming``.
    """

    ping_seconds: float | None = 5.0
    pong_seconds: float = 4.5


class ServerOption(NamedTuple):
    """A command line option of the local server for one service. Immutable.

    Without ``metavar`` the option is a switch without a value.
    """

    flag: str
    help: str
    metavar: str | None = None


HttpResponse = tuple[int, Mapping[str, str], bytes]
"""Status, headers and body of an HTTP response."""


class ServerSide(NamedTuple):
    """The server side of one service in the local speech server. Immutable.

    Attributes:
        codec: Creates the server codec of one connection.
        respond: Returns the response to a plain HTTP request. The arguments are the base URL of the server, and method,
            target and headers of the request.
        idle_seconds: The server disconnects a client that sends nothing for this time; ``None``: the server's default.
        refusal_close_code: The WebSocket close code after a message that cannot be processed.
        wav_layout: Position of the RIFF headers, one of ``WAV_LAYOUTS``; ``None``: the server's option decides.
        has_one_stream: Whether a session has one audio stream; otherwise each passage has its own.
        reuse_seconds: After the end of an utterance, the server waits this long for the first message of the next one.
            Then it closes the connection with the code 1000. 0: it does not wait.
        closes_after_passage: Whether the server closes the connection with the code 1000 after a passage if no other
            passage is queued.
        max_message_bytes: The largest message of a client; ``None``: the limit for all services. A larger message ends
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
    """A WebSocket URL that a service issued; the URL contains a token. Immutable.

    ``expires_at`` is in seconds since 1970 (UTC); ``None`` if the service does not report it.
    """

    url: str
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"IssuedUrl(expires_at={self.expires_at})"


class UrlAuthorization(Protocol):
    """A codec, without sockets, for the HTTP exchange that returns the WebSocket URL of a session.

    Not thread-safe; owned by the dialing thread.
    """

    service: str

    def request(self) -> HttpRequest: ...
    def receive(self, status: int, headers: Mapping[str, str], body: bytes) -> IssuedUrl | Failure: ...


class TtsService(NamedTuple):
    """The description of one speech service. Immutable.

    Attributes:
        name: The name in the configuration, on the command line and in logs.
        title: The name that is shown to users.
        settings: The class of the section ``synthesis.NAME``; its docstring describes the section.
        client: Creates a client codec from the settings, the URL and the API key. Raises ``ValueError`` or
            ``ConfigError`` for settings that the service refuses.
        check: Yields the errors in the settings that the limits of the single keys do not exclude. The keys of the
            findings are relative to the section.
        check_used: As ``check``, but called only if ``synthesis.services`` contains the service.
        server: Creates the server side from the API key and the values of ``server_options`` by flag; ``None``: the
            local server does not support the service.
        server_options: The options of the local server that concern only this service.
        paths: The paths of the local server that use the protocol; ``*`` at the end stands for any rest.
        http_paths: The paths of the local server to which ``ServerSide.respond`` responds.
        keepalive: Ping timing of a connection.
        url_key: The key of the section that holds the URL.
        url_schemes: The schemes that this URL may have.
        authorize: Creates the codec of the HTTP exchange that returns the WebSocket URL; ``None``: ``url_key`` holds
            the WebSocket URL.
        local_settings: Returns the settings with which the service uses a local server; the argument is the server's
            WebSocket base URL.
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
        """Return the configured URL; ``None`` if there is none."""
        url: str | None = getattr(settings, self.url_key)
        return url

    def speaks_at(self, path: str) -> bool:
        """Return whether a path of the local server uses the protocol of this service."""
        return any(path.startswith(each[:-1]) if each.endswith("*") else path == each for each in self.paths)
