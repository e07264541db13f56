"""The actions of the conversation: decisions that the daemon carries out."""

from agent.pipeline.utterance import Utterance
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple


@distinct
class Ask(NamedTuple):
    """Request a reply to a transcript. Immutable."""

    turn: int
    text: str


@distinct
class Prepare(NamedTuple):
    """Request a reply in advance, to a transcript that may become the final one of the turn. Immutable.

    ``Ask`` with the same text follows and accepts the reply; ``Ask`` with another text or ``CancelReply`` discards it.
    """

    turn: int
    text: str


@distinct
class CancelReply(NamedTuple):
    """Cancel the reply of a turn. Immutable."""

    turn: int


@distinct
class StartUtterance(NamedTuple):
    """Start an utterance. If its text is ``None``, ``AppendText`` and ``Finish`` follow. Immutable."""

    utterance: Utterance


@distinct
class AppendText(NamedTuple):
    """Add a piece to the text of an utterance. Immutable."""

    utterance: str
    text: str


@distinct
class Finish(NamedTuple):
    """Mark the text of an utterance as complete. Immutable."""

    utterance: str


@distinct
class StopPlayback(NamedTuple):
    """Cancel the current utterance; not one more sample of it is played. Immutable."""

    reason: str


@distinct
class SuspendUtterance(NamedTuple):
    """Stop the current utterance and keep its text; not one more sample of it is played. Immutable.

    The stages report ``UtteranceCancelled`` with the reason.
    """

    utterance: str
    reason: str


@distinct
class ResumeUtterance(NamedTuple):
    """Continue a suspended utterance from the sentence that it was in. Immutable.

    ``played_seconds``: length of the audio that was played since its last start.
    """

    utterance: Utterance
    played_seconds: float


@distinct
class DiscardUtterance(NamedTuple):
    """Forget a suspended utterance; no event follows. Immutable."""

    utterance: str


@distinct
class ReportPlayedText(NamedTuple):
    """Report the audible part of a stopped reply as ``PlayedText``. Immutable.

    ``played_seconds``: length of the audio that was played since its last start.
    """

    utterance: str
    played_seconds: float


@distinct
class CorrectReply(NamedTuple):
    """Correct the reply to a turn in the memory of the responder: only ``text`` was audible. Immutable."""

    turn: int
    text: str


@distinct
class Duck(NamedTuple):
    """Lower the volume of the utterance, or restore it. Immutable."""

    is_active: bool


@distinct
class Listen(NamedTuple):
    """Pass microphone audio to the recognizer, or stop while the device speaks. Immutable."""

    open: bool


@distinct
class PlayWakeSound(NamedTuple):
    """Play the sound that asks the user to continue after a wake word. Immutable."""


@distinct
class PlayFillerSound(NamedTuple):
    """Play the sound that announces a delayed reply to the user. Immutable."""


@distinct
class OpenGate(NamedTuple):
    """Let speech that starts within ``seconds`` begin a turn without a wake word. Immutable."""

    seconds: float


@distinct
class Record(NamedTuple):
    """The recorded end of an utterance, with the seconds played and dropped. Immutable.

    ``state`` is ``played``, ``cancelled``, ``failed``, ``expired`` or ``dropped``; after a restart also
    ``interrupted``.
    """

    utterance: Utterance
    state: str
    reason: str = ""
    seconds: float = 0.0
    dropped_seconds: float = 0.0


Action = (
    Ask
    | Prepare
    | CancelReply
    | StartUtterance
    | AppendText
    | Finish
    | StopPlayback
    | SuspendUtterance
    | ResumeUtterance
    | DiscardUtterance
    | ReportPlayedText
    | CorrectReply
    | Duck
    | Listen
    | PlayWakeSound
    | PlayFillerSound
    | OpenGate
    | Record
)
