"""One utterance on its way through the speech services."""

from __future__ import annotations

from dataclasses import field

from agent.audio.format import Format
from agent.connection.standby import Standby
from agent.events import Utterance
from agent.passages import Passages
from agent.records import dataclass
from agent.threads import Deadline


@dataclass(eq=False)
class Job:
    """One utterance on its way: all its passages so far, for they are needed again if a service fails."""

    utterance: Utterance
    services: list[Standby]
    text: Passages = field(default_factory=Passages)
    passages: list[str] = field(default_factory=list)
    complete: bool = False
    done: int = 0  # passages that the service at hand has been given and has answered
    ticket: int | None = None
    format: Format | None = None  # of the ticket, whatever later sessions are in
    sounded: bool = False
    again: bool = False  # the last service has been given its second chance
    since: float | None = None  # when its turn came, or its second chance: what failed before is no answer to it
    patience: Deadline = field(default_factory=lambda: Deadline(None))
    put_off: Deadline = field(default_factory=lambda: Deadline(None))  # until a busy service is asked again
    waited: bool = False  # the patience counts from the first refusal of a busy service, also through new connections
    failures: list[str] = field(default_factory=list)
