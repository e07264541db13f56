"""The commands in the mailbox of the synthesizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.pipeline.events import TextComplete, TextPiece
from agent.pipeline.utterance import Utterance
from agent.services.connection.standby import Standby
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from agent.pipeline.tts.phrases import Phrases


@distinct
class BeginUtterance(NamedTuple):
    """Append an utterance to the queue. Immutable."""

    utterance: Utterance


@distinct
class CancelAll(NamedTuple):
    """Cancel all utterances. ``reconnect``: also replace the standby connections. Immutable."""

    reason: str
    reconnect: bool = False


@distinct
class PlaySound(NamedTuple):
    """Play the sound after a wake word, or the filler sound while a reply is awaited. Immutable."""

    is_filler: bool = False


@distinct
class SuspendSynthesis(NamedTuple):
    """Cancel all utterances, and keep the one with the ID ``utterance`` for ``ResumeSynthesis``. Immutable."""

    utterance: str
    reason: str


@distinct
class ResumeSynthesis(NamedTuple):
    """Append the rest of a suspended utterance to the queue; ``played_seconds`` of it were played. Immutable."""

    utterance: str
    played_seconds: float


@distinct
class DiscardSuspended(NamedTuple):
    """Forget a suspended utterance. Immutable."""

    utterance: str


@distinct
class RequestPlayedText(NamedTuple):
    """Report which text of a stopped reply was audible. Immutable."""

    utterance: str
    played_seconds: float


@distinct
class ReplaceServices(NamedTuple):
    """Use other services from now on. Immutable."""

    services: list[Standby]
    first_audio_seconds: float
    language: str
    phrases: Phrases | None = None


@distinct
class EndSynthesis(NamedTuple):
    """End the stage. ``drains``: after the utterances in the queue have been spoken. Immutable."""

    drains: bool


SynthesisCommand = (
    BeginUtterance
    | TextPiece
    | TextComplete
    | CancelAll
    | PlaySound
    | SuspendSynthesis
    | ResumeSynthesis
    | DiscardSuspended
    | RequestPlayedText
    | ReplaceServices
    | EndSynthesis
)
