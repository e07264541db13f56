"""One utterance on its way through the speech services."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.audio.format import Format
from agent.pipeline.events import Utterance
from agent.pipeline.text_splitter import Passages
from agent.services.connection.standby import Standby
from agent.system.threads import Deadline


@dataclass(eq=False)
class SynthesisJob:
    """One utterance on its way: all its passages so far, for they are needed again if a service fails."""

    utterance: Utterance
    services: list[Standby]
    text: Passages = field(default_factory=Passages)
    passages: list[str] = field(default_factory=list)
    complete: bool = False
    done: int = 0  # passages that the service at hand has been given and has answered
    stream_id: int | None = None
    format: Format | None = None  # of the ticket, whatever later sessions are in
    sounded: bool = False
    again: bool = False  # the last service has been given its second chance
    since: float | None = None  # when its turn came, or its second chance: what failed before is no answer to it
    patience: Deadline = field(default_factory=lambda: Deadline(None))
    put_off: Deadline = field(default_factory=lambda: Deadline(None))  # until a busy service is asked again
    waited: bool = False  # the patience counts from the first refusal of a busy service, also through new connections
    failures: list[str] = field(default_factory=list)

    def end_text(self) -> None:
        """No more text comes for it; what is no whole passage yet becomes one. Twice is safe."""
        if not self.complete:
            self.passages += self.text.rest()
            self.complete = True

    def begin_patience(self) -> None:
        """Nothing has been waited for yet: a sound has come, or another service is asked."""
        self.patience, self.put_off, self.waited = Deadline(None), Deadline(None), False

    def pass_on(self, reason: str, *, broke: bool = False) -> None:
        """To the next service, from the first passage on; ``broke``: it was the connection, and another one may do."""
        failed = self.services.pop(0)
        self.failures.append(reason)
        if broke and not self.services and not self.again:
            self.again, self.since = True, None
            self.services = [failed]
        self.done = 0
        self.begin_patience()
        if self.sounded:
            self.services.clear()  # what has been heard is not begun again
