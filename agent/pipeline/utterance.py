"""One text to be spoken, with its urgency and options."""

from enum import Enum

from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

NOTICE = "notice"
"""The source of the utterance that reports that no service can speak. The synthesizer holds the audio of it."""

TIMER = "timer"
"""The source of the utterance of a timer that has ended."""


class Urgency(Enum):
    """How an utterance relates to others, with the meaning of the priorities of SSIP (speech-dispatcher)."""

    IMPORTANT = "important"
    """Interrupts every utterance that is not important."""
    MESSAGE = "message"
    """Waits for its turn."""
    NOTIFICATION = "notification"
    """Is dropped while another utterance is spoken or waits."""


@distinct
class Delivery(NamedTuple):
    """The options of one utterance. Immutable.

    ``ttl_seconds``: longest time until it is audible. ``chime``: name of the sound before the text. ``volume``: in
    percent; ``None`` uses the volume of the speaker. ``service``: the service that is tried first. ``voice`` replaces
    the configured voice of that service, or of the first service. ``keep``: whether its audio may be kept as a phrase.
    ``repeat_after_restart``: whether to speak it again if the daemon was killed while it was spoken.
    """

    ttl_seconds: float | None = None
    chime: str | None = None
    volume: int | None = None
    service: str | None = None
    voice: str | None = None
    keep: bool = True
    repeat_after_restart: bool = False


@distinct
class Utterance(NamedTuple):
    """One text to be spoken. Immutable.

    ``text`` is ``None`` where the text arrives in pieces (a reply that is still being written). ``turn`` is the turn
    that it answers, 0 for an announcement. ``priority`` is the rank of a message, -100 to 100: a higher one is spoken
    first. ``source`` (``reply``, ``control``, ``say``, ...) appears in the log.
    """

    id: str
    text: str | None
    turn: int = 0
    priority: int = 0
    source: str = "reply"
    urgency: Urgency = Urgency.MESSAGE
    delivery: Delivery = Delivery()
