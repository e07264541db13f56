"""What is known of one stretch of speech, from its first frame to its transcript."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.audio.frames import FrameQueue
from agent.protocols.events import Transcript


@dataclass
class Stretch:
    """One stretch of speech, from the first frame to its transcript."""

    frames: FrameQueue
    sent: FrameQueue  # what a new connection would have to be told again
    finals: list[Transcript] = field(default_factory=list)
    kept: list[Transcript] = field(default_factory=list)  # what a lost connection had given, should no other come
    losses: int = 0
    partial: str = ""
    over: bool = False
    ended: bool = False  # the end mark has been given to the connection
    export_id: str | None = None
