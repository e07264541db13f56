"""What travels through the inbox: everything that happens to the daemon, as frozen dataclasses.

Every stage only ever says what happened; what is to be done about it is decided in one place, the conversation.
Durations are float seconds. ``turn`` counts up from 1; ``utterance`` is an id that is never used twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Utterance:
    """One thing to be said. ``text`` is ``None`` where it comes piece by piece (a reply that is still being written).

    ``priority``: a higher one is said first. ``turn``: the turn it answers, 0 for an announcement. ``source``: who
    wants it said (``reply``, ``control``, ``say``, ...), for the log.
    """

    id: str
    text: str | None
    turn: int = 0
    priority: int = 0
    source: str = "reply"


# --- hearing


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """Somebody began to speak."""


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """Whoever spoke has been silent long enough, since ``ago_seconds``: the turn is over, its transcript follows."""

    ago_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Partial:
    """The transcript so far; replaces the partial before it. Untrusted text."""

    text: str


@dataclass(frozen=True, slots=True)
class Heard:
    """The transcript of a turn (assistant) or one caption (captions). Empty where nothing was understood."""

    text: str
    words: tuple[tuple[str, float, float, float], ...] = ()
    export_id: str | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Sound that was lost on its way: where it began (seconds since the microphone opened), how long, and why."""

    start_seconds: float
    seconds: float
    reason: str


# --- answering


@dataclass(frozen=True, slots=True)
class Reply:
    """A piece of the answer, as the responder got it: sentences that can be spoken as they are, or one that is cut."""

    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class ReplyEnded:
    """The answer is complete. ``error`` says why it is cut short, where it is."""

    turn: int
    error: str | None = None


# --- speaking


@dataclass(frozen=True, slots=True)
class Announce:
    """Somebody outside wants this said."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Piece:
    """More of the text of an utterance that comes piece by piece, whether it is being said or still waits."""

    utterance: str
    text: str


@dataclass(frozen=True, slots=True)
class Complete:
    """The text of an utterance that came piece by piece is whole."""

    utterance: str


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """The first sound of an utterance is in the ring. ``service`` is the one that gave it."""

    utterance: str
    service: str


@dataclass(frozen=True, slots=True)
class SpeakingBegan:
    """The first sound of an utterance has been handed to the sink."""

    utterance: str


@dataclass(frozen=True, slots=True)
class UtterancePlayed:
    """An utterance has been heard to its end. ``silence_seconds`` were inserted in ``underruns`` gaps."""

    utterance: str
    seconds: float
    underruns: int = 0
    silence_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """An utterance was cut. ``by``: who wanted it. ``seconds`` of it had been heard; of the sound that had come for it,
    ``dropped_seconds`` never will be."""

    utterance: str
    by: str
    seconds: float = 0.0
    dropped_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class UtteranceFailed:
    """An utterance failed. ``seconds`` of it had been heard; 0 where no service gave any sound."""

    utterance: str
    reason: str
    seconds: float = 0.0


# --- the state of things


@dataclass(frozen=True, slots=True)
class ServiceDown:
    """A service cannot be used now. ``permanent``: until the configuration changes (a refused key). ``status``: the
    HTTP status or close code that it gave, if it gave one. ``reading``: from which reading of the configuration the
    connection was made, 0 for the first."""

    service: str
    reason: str
    permanent: bool = False
    status: int | None = None
    reading: int = 0


@dataclass(frozen=True, slots=True)
class ServiceUp:
    """A service that was down can be used again, after ``tries`` tries in vain."""

    service: str
    tries: int = 0
    reading: int = 0


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """``which`` is ``microphone`` or ``speaker``; it is looked for until it is back."""

    which: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceBack:
    """A sound device is in use again, after ``seconds``."""

    which: str
    seconds: float


@dataclass(frozen=True, slots=True)
class DeviceTimedOut:
    """A sound device that was lost has been wanted in vain for ``seconds``: what waits for it waits no longer."""

    which: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A worker ended with an exception it did not foresee."""

    worker: str
    error: BaseException = field(compare=False)


# --- wishes from outside


@dataclass(frozen=True, slots=True)
class Hush:
    """Be silent, now. ``by``: who wants it."""

    by: str


@dataclass(frozen=True, slots=True)
class Volume:
    """How loud the device is to speak from now on, in percent. ``by``: who wants it."""

    percent: int
    by: str


@dataclass(frozen=True, slots=True)
class Mute:
    """The speaker is to be silent from now on, or not any more; what is said goes on unheard."""

    muted: bool
    by: str


@dataclass(frozen=True, slots=True)
class MicrophoneMute:
    """The microphone is to be closed from now on, or opened again."""

    muted: bool
    by: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Read the configuration again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End in good order. ``by`` names the signal or the command."""

    by: str


Event = (
    SpeechBegan
    | SpeechEnded
    | Partial
    | Heard
    | Gap
    | Reply
    | ReplyEnded
    | Announce
    | Piece
    | Complete
    | AudioArrived
    | SpeakingBegan
    | UtterancePlayed
    | Cancelled
    | UtteranceFailed
    | ServiceDown
    | ServiceUp
    | DeviceLost
    | DeviceBack
    | DeviceTimedOut
    | Died
    | Hush
    | Volume
    | Mute
    | MicrophoneMute
    | Reload
    | Stop
)
