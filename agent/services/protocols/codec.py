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

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

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
    final: bool
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
    came: str
    expected: str
    fatal: bool = True
    permanent: bool = False
    status: int | None = None
    retry_after_seconds: float | None = None

    def __str__(self) -> str:
        return f"{self.service} sent {self.came}; expected {self.expected}"


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
    silent_seconds: float | None
    one_passage: bool

    @property
    def quiet_seconds(self) -> float | None: ...
    def handshake(self) -> Handshake: ...
    def send(self, event: Event) -> list[Message]: ...
    def receive(self, message: Message) -> list[Event]: ...
    def quiet(self) -> list[Event]: ...
    def closed(self, code: int, reason: str = "") -> list[Event]: ...


class Server(Protocol):
    """The shape of every server codec. ``handshake`` answers ``None`` to accept, or a ``Failure`` with a status."""

    service: str
    encoding: Encoding

    def handshake(self, path: str, headers: Mapping[str, str]) -> Failure | None: ...
    def send(self, event: Event) -> list[Message]: ...
    def receive(self, message: Message) -> list[Event]: ...
    def closed(self, code: int, reason: str = "") -> list[Event]: ...
