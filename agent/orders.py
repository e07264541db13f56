"""What the synthesizer is told by other threads, as letters to the one that owns its socket."""

from __future__ import annotations

from agent.connection.standby import Standby
from agent.events import Complete, Piece, Utterance
from agent.records import dataclass


@dataclass(frozen=True, slots=True)
class Begin:
    """A new utterance, which waits for its turn."""

    utterance: Utterance


@dataclass(frozen=True, slots=True)
class Hush:
    """What is said and what waits is to be dropped. ``renew``: the connections that wait as well, for others."""

    by: str
    renew: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """Other services from now on."""

    services: list[Standby]
    first_audio_seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """All is to end: ``gently`` after what waits has been said."""

    gently: bool


Order = Begin | Piece | Complete | Hush | Use | End
