"""The events of the daemon's inbox, as frozen dataclasses.

A stage only reports events. The conversation alone decides which actions follow. Durations are float seconds. ``turn``
counts up from 1. ``utterance`` is an id that is never reused.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text to be spoken. Immutable.

    ``text`` is ``None`` where the text arrives in pieces (a reply that is still being written). ``turn`` is the turn
    that it answers, 0 for an announcement. A higher ``priority`` is spoken first. ``source`` (``reply``, ``control``,
    ``say``, ...) appears in the log.
    """

    id: str
    text: str | None
    turn: int = 0
    priority: int = 0
    source: str = "reply"


# --- listening


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user started to speak."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The user has been silent for ``silence_seconds``: the turn is over and its transcript follows."""

    silence_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Partial:
    """The partial transcript; replaces the previous partial. Untrusted text."""

    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The final transcript of a turn (assistant) or one caption (captions). Empty where no words were recognized."""

    text: str
    words: tuple[tuple[str, float, float, float], ...] = ()
    export_id: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Captured audio was lost: its start (seconds since the microphone opened), its length and the reason."""

    start_seconds: float
    seconds: float
    reason: str


# --- replying


@dataclass(frozen=True, slots=True)
class Reply:
    """A piece of the reply: whole sentences, or one that is cut off."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The reply is complete; with ``error`` it is incomplete for that reason."""

    turn: int
    error: str | None = None


# --- speaking


@dataclass(frozen=True, slots=True)
class Announce:
    """An announcement from outside the daemon was requested."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class TextPiece:
    """More text of an utterance that arrives in pieces, current or still queued."""

    utterance: str
    text: str


@dataclass(frozen=True, slots=True)
class TextComplete:
    """The text of an utterance that arrives in pieces is complete."""

    utterance: str


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """The ring buffer holds the first audio of an utterance, synthesized by ``service``."""

    utterance: str
    service: str


@dataclass(frozen=True, slots=True)
class PlaybackStarted:
    """The sink received the first audio of an utterance."""

    utterance: str


@dataclass(frozen=True, slots=True)
class UtterancePlayed:
    """An utterance was played to its end, with ``silence_seconds`` inserted in ``underruns`` underruns."""

    utterance: str
    seconds: float
    underruns: int = 0
    silence_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class UtteranceCancelled:
    """An utterance was cancelled after ``seconds`` of playback; ``dropped_seconds`` of its audio were dropped."""

    utterance: str
    reason: str
    seconds: float = 0.0
    dropped_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class UtteranceFailed:
    """An utterance failed after ``seconds`` of playback (0 where no service delivered audio)."""

    utterance: str
    reason: str
    seconds: float = 0.0


# --- services, devices, workers


@dataclass(frozen=True, slots=True)
class ServiceDown:
    """A service is unavailable.

    ``permanent``: only a change can help, such as another key; the service is retried after a minute. ``status``: the
    HTTP status or close code, if the service sent one. ``config_generation``: the number of reloads before the
    connection was configured.
    """

    service: str
    reason: str
    permanent: bool = False
    status: int | None = None
    config_generation: int = 0


@dataclass(frozen=True, slots=True)
class ServiceUp:
    """A service is available again, after ``attempts`` failed attempts."""

    service: str
    attempts: int = 0
    config_generation: int = 0


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """The ``microphone`` or the ``speaker`` disappeared; its stage retries until it is back."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceBack:
    """A sound device is in use again, after ``seconds``."""

    device: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DeviceTimedOut:
    """A lost sound device did not return within ``seconds``: the utterance that waits for it fails."""

    device: str
    seconds: float


@dataclass(frozen=True, slots=True)
class WorkerCrashed:
    """A worker ended with an unexpected exception."""

    worker: str
    error: BaseException = field(compare=False)


# --- requests from outside; ``source`` and ``reason`` name the origin


@dataclass(frozen=True, slots=True)
class Hush:
    """Cancel the current and all queued utterances."""

    reason: str


@dataclass(frozen=True, slots=True)
class Volume:
    """Set the playback volume, in percent."""

    percent: int
    source: str


@dataclass(frozen=True, slots=True)
class Mute:
    """Mute or unmute the speaker. Utterances are played silently while it is muted."""

    muted: bool
    source: str


@dataclass(frozen=True, slots=True)
class MicrophoneMute:
    """Close the microphone, or open it again."""

    muted: bool
    source: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Shut down. ``reason`` names the signal or the command."""

    reason: str


Event = (
    SpeechStarted
    | SpeechEnded
    | Partial
    | Heard
    | Gap
    | Reply
    | ReplyEnded
    | Announce
    | TextPiece
    | TextComplete
    | AudioArrived
    | PlaybackStarted
    | UtterancePlayed
    | UtteranceCancelled
    | UtteranceFailed
    | ServiceDown
    | ServiceUp
    | DeviceLost
    | DeviceBack
    | DeviceTimedOut
    | WorkerCrashed
    | Hush
    | Volume
    | Mute
    | MicrophoneMute
    | Reload
    | Stop
)
