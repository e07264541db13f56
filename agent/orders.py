"""What the synthesizer is told by other threads, as letters to the one that owns its socket."""

from __future__ import annotations

from agent.connection.standby import Standby
from agent.events import Utterance
from agent.records import dataclass


@dataclass(frozen=True, slots=True)
class Begin:
    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Piece:
    utterance: str
    text: str


@dataclass(frozen=True, slots=True)
class Complete:
    utterance: str


@dataclass(frozen=True, slots=True)
class Hush:
    by: str


@dataclass(frozen=True, slots=True)
class Use:
    services: list[Standby]
    first_audio_seconds: float


@dataclass(frozen=True, slots=True)
class End:
    gently: bool


Order = Begin | Piece | Complete | Hush | Use | End
