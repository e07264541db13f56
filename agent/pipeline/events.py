"""The events of the daemon's inbox, as named tuples.

A stage only reports events. The conversation alone decides which actions follow. Durations are float seconds. ``turn``
counts up from 1. ``utterance`` is an id that is never reused.
"""

import math
from typing import TYPE_CHECKING

from agent.pipeline.utterance import Utterance
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:  # most daemons have no timer
    from agent.pipeline.timers import Changes, Timer

# --- listening


@distinct
class Woken(NamedTuple):
    """The user said a wake word; the question follows. ``level``: of the wake word, in dBFS. Immutable."""

    word: str
    level: float = -96.0


@distinct
class WakeYielded(NamedTuple):
    """Another ``device`` in the room has heard the wake word louder, and answers. Immutable."""

    device: str


@distinct
class WakePaused(NamedTuple):
    """The user has paused after a wake word, and waits for a reaction of the device. Immutable."""


@distinct
class NearMiss(NamedTuple):
    """A sound was similar to a wake word; its ``score`` (0 to 1) is below the threshold. Immutable."""

    word: str
    score: float


@distinct
class StopWord(NamedTuple):
    """The user said a stop word, which cancels all utterances. Immutable."""

    word: str


@distinct
class SpeechStarted(NamedTuple):
    """The user started to speak. Immutable.

    ``pause_seconds``: time since the end of the previous speech; infinite for the first speech.
    """

    pause_seconds: float = math.inf


@distinct
class SpeechPaused(NamedTuple):
    """The user is silent for a short time after ``text``, which may be the whole question. Untrusted text. Immutable.

    ``SpeechResumed``, or ``SpeechEnded`` and ``Heard`` follow.
    """

    text: str


@distinct
class SpeechResumed(NamedTuple):
    """The user continues the question after ``SpeechPaused``. Immutable."""


@distinct
class SpeechSuspected(NamedTuple):
    """A sound that may be speech of the user has started while the device speaks, or has ended. Immutable.

    ``is_active``: whether it has started.
    """

    is_active: bool


@distinct
class WordTimedOut(NamedTuple):
    """No word followed the speech that suspended an utterance. Immutable."""


@distinct
class EchoChanged(NamedTuple):
    """The echo canceller has new measures. Immutable.

    ``mode`` names what may interrupt the device: ``half-duplex`` (nothing, because the microphone is closed while the
    device speaks), ``word`` (a wake word or a stop word) or ``speech``. ``reason`` explains the mode. ``is_problem``:
    the mode is not the configured one, and waiting does not change it. The measures are ``None`` until they are known:
    the delay of the echo, the drift of the speaker's clock against the clock of the microphone in parts per million,
    and the echo return loss of the canceller in decibels.
    """

    mode: str
    reason: str
    delay_seconds: float | None = None
    drift_ppm: float | None = None
    return_loss_db: float | None = None
    is_problem: bool = False


@distinct
class SpeechEnded(NamedTuple):
    """The segment has ended; its transcript follows. Immutable.

    ``silence_seconds``: silence at the end of the segment. It is short if the segment ended at its maximum length, or
    because the microphone was closed.
    """

    silence_seconds: float = 0.0


@distinct
class Partial(NamedTuple):
    """The partial transcript; replaces the previous partial. Untrusted text. Immutable."""

    text: str


@distinct
class Heard(NamedTuple):
    """The final transcript of a segment, or one caption; empty if no words were recognized. Untrusted text. Immutable.

    ``words``: each recognized word with its start and end (seconds since the start of the session) and its confidence.
    ``export_id``: ID of the session's export on the transcription service.
    """

    text: str
    words: tuple[tuple[str, float, float, float], ...] = ()
    export_id: str | None = None


MICROPHONE_OVERRUN = "the microphone overflowed"
FRAME_QUEUE_OVERRUN = "the frame queue was full"
"""The reasons of a ``Gap`` that the machine caused by being too slow."""


@distinct
class Gap(NamedTuple):
    """Captured audio was lost: its start (since the microphone opened), its length and the reason. Immutable."""

    start_seconds: float
    seconds: float
    reason: str


# --- replying


@distinct
class Reply(NamedTuple):
    """A piece of the reply: whole sentences, or a sentence that is cut off. Immutable."""

    turn: int
    text: str


@distinct
class ReplyDelayed(NamedTuple):
    """The first word of the reply to a turn is late, so the user should hear the filler sound. Immutable."""

    turn: int


@distinct
class ReplyEnded(NamedTuple):
    """The reply is complete; with ``error`` it is incomplete for that reason. Immutable.

    ``shortfall`` is the kind of an answer that is missing although the request worked: ``empty``, ``tool_call``,
    ``refusal``, ``filtered``, ``length`` (the limit of tokens) or ``unspeakable``.
    """

    turn: int
    error: str | None = None
    shortfall: str | None = None


# --- speaking


@distinct
class Announce(NamedTuple):
    """An announcement was requested, by a frontend or a timer. Immutable."""

    utterance: Utterance


@distinct
class TextPiece(NamedTuple):
    """The next text of an utterance whose text arrives in pieces: current, suspended or queued. Immutable."""

    utterance: str
    text: str


@distinct
class TextComplete(NamedTuple):
    """The text of an utterance whose text arrives in pieces is complete. Immutable."""

    utterance: str


@distinct
class Stored(NamedTuple):
    """An announcement was accepted. Immutable.

    ``durable``: it is on the disk and survives a loss of power. Otherwise it is in memory only.
    """

    utterance: str
    durable: bool


@distinct
class Kept(NamedTuple):
    """The daemon ends; an announcement that was not audible yet will be spoken after the restart. Immutable."""

    utterance: str


@distinct
class RestoredUtterance(NamedTuple):
    """An announcement from before the restart. Immutable.

    ``remaining_seconds``: what is left of its time to live; ``None`` if it has none.
    """

    utterance: Utterance
    remaining_seconds: float | None = None


@distinct
class LostUtterance(NamedTuple):
    """An announcement from before the restart that is not spoken; ``state`` and ``reason`` are its end. Immutable."""

    utterance: Utterance
    state: str
    reason: str


@distinct
class Restored(NamedTuple):
    """The announcements from before the restart, in their order. Immutable.

    ``utterances`` are still to be spoken; ``lost`` have ended: ``interrupted``, ``failed`` or ``expired``.
    """

    utterances: tuple[RestoredUtterance, ...] = ()
    lost: tuple[LostUtterance, ...] = ()


@distinct
class AudioArrived(NamedTuple):
    """The ring buffer holds the first audio of an utterance, synthesized by ``service``. Immutable.

    ``is_phrase``: the audio comes from the disk.
    """

    utterance: str
    service: str
    is_phrase: bool = False


@distinct
class PlaybackStarted(NamedTuple):
    """The sink received the first audio of an utterance. Immutable."""

    utterance: str


@distinct
class Underruns(NamedTuple):
    """An utterance had ``times`` playback underruns; ``silence_seconds`` of silence were inserted. Immutable.

    Reported before the event that ends or suspends the utterance.
    """

    utterance: str
    times: int
    silence_seconds: float


@distinct
class UtterancePlayed(NamedTuple):
    """An utterance was played to its end. Immutable."""

    utterance: str
    seconds: float


@distinct
class UtteranceCancelled(NamedTuple):
    """An utterance was cancelled after ``seconds`` of playback; ``dropped_seconds`` were dropped. Immutable."""

    utterance: str
    reason: str
    seconds: float = 0.0
    dropped_seconds: float = 0.0


@distinct
class UtteranceFailed(NamedTuple):
    """An utterance failed after ``seconds`` of playback. Immutable.

    ``no_service``: no speech service delivered audio, and none refused this text.
    """

    utterance: str
    reason: str
    seconds: float = 0.0
    no_service: bool = False


@distinct
class PlayedText(NamedTuple):
    """The part of the reply to a turn that was audible before the reply was stopped. Immutable."""

    utterance: str
    turn: int
    text: str


@distinct
class TimersChanged(NamedTuple):
    """All timers, after a change; the next one first. Immutable. ``changes``: the timers that have changed, and how."""

    timers: tuple["Timer", ...]
    changes: "Changes" = ()


@distinct
class TimersRestored(NamedTuple):
    """The timers from before a restart. Immutable."""

    timers: tuple["Timer", ...]


# --- services, devices, workers


@distinct
class ServiceDown(NamedTuple):
    """A service is unavailable. Immutable.

    ``permanent``: only a change can help, such as another key; the service is retried after a minute. ``status``: the
    HTTP status or close code, if the service sent one. ``config_generation``: the number of reloads before the
    connection was configured.
    """

    service: str
    reason: str
    permanent: bool = False
    status: int | None = None
    config_generation: int = 0


@distinct
class ServiceConnected(NamedTuple):
    """A service accepted a connection for the first time. It has not delivered a result yet. Immutable."""

    service: str
    config_generation: int = 0


@distinct
class ServiceUp(NamedTuple):
    """A service is available again, after ``attempts`` failed attempts. Immutable."""

    service: str
    attempts: int = 0
    config_generation: int = 0


@distinct
class BreakerChanged(NamedTuple):
    """The circuit breaker of a service is ``closed``, ``open`` or ``half-open`` now. Immutable."""

    service: str
    state: str
    config_generation: int = 0


@distinct
class DeviceLost(NamedTuple):
    """The ``microphone`` or the ``speaker`` disappeared; its stage retries until it is back. Immutable."""

    device: str
    reason: str


@distinct
class DeviceBack(NamedTuple):
    """A sound device is in use again, after ``seconds``. Immutable."""

    device: str
    seconds: float


@distinct
class DeviceTimedOut(NamedTuple):
    """A sound device has been lost for ``seconds``: the utterance that waits for it fails. Immutable."""

    device: str
    seconds: float


@distinct
class WorkerCrashed(NamedTuple):
    """A worker ended with an unexpected exception. Immutable."""

    worker: str
    error: BaseException


# --- requests from outside; ``source`` and ``reason`` name the origin


@distinct
class ButtonPressed(NamedTuple):
    """The button was pressed: ``short`` or ``long``. The requests that it triggers follow as events. Immutable."""

    press: str


@distinct
class Hush(NamedTuple):
    """Cancel the current, all suspended and all queued utterances. Immutable."""

    reason: str


@distinct
class Cancel(NamedTuple):
    """Cancel one utterance: current, suspended or queued. Immutable."""

    utterance: str
    reason: str


@distinct
class Expired(NamedTuple):
    """The time to live of an utterance passed before it was audible. Immutable."""

    utterance: str
    ttl_seconds: float


@distinct
class ListenNow(NamedTuple):
    """Stop the current utterance and wait for the user to speak; ignored while it is important. Immutable."""

    source: str


@distinct
class ListenTimedOut(NamedTuple):
    """The user did not speak after ``Woken`` or ``ListenNow``. Immutable."""


@distinct
class Volume(NamedTuple):
    """Set the playback volume, in percent. Immutable."""

    percent: int
    source: str


@distinct
class Mute(NamedTuple):
    """Mute or unmute the speaker. Utterances are played silently while it is muted. Immutable."""

    muted: bool
    source: str


@distinct
class MicrophoneMute(NamedTuple):
    """Close the microphone, or open it again. Immutable."""

    muted: bool
    source: str


@distinct
class Choose(NamedTuple):
    """Change a ``setting`` that has several values (``voice`` or ``wake_word``) to ``value``. Immutable."""

    setting: str
    value: str
    source: str


@distinct
class Reload(NamedTuple):
    """Read the configuration again. Immutable."""


@distinct
class Restart(NamedTuple):
    """Shut down, so that the service manager starts the daemon again. Immutable."""

    source: str


@distinct
class Stop(NamedTuple):
    """Shut down. ``reason`` names the signal or the command. Immutable."""

    reason: str


Event = (
    Woken
    | WakeYielded
    | WakePaused
    | NearMiss
    | StopWord
    | SpeechStarted
    | SpeechPaused
    | SpeechResumed
    | SpeechSuspected
    | WordTimedOut
    | EchoChanged
    | SpeechEnded
    | Partial
    | Heard
    | Gap
    | Reply
    | ReplyDelayed
    | ReplyEnded
    | Announce
    | TextPiece
    | TextComplete
    | Stored
    | Kept
    | Restored
    | AudioArrived
    | PlaybackStarted
    | Underruns
    | UtterancePlayed
    | UtteranceCancelled
    | UtteranceFailed
    | PlayedText
    | TimersChanged
    | TimersRestored
    | ServiceDown
    | ServiceConnected
    | ServiceUp
    | BreakerChanged
    | DeviceLost
    | DeviceBack
    | DeviceTimedOut
    | WorkerCrashed
    | ButtonPressed
    | Hush
    | Cancel
    | Expired
    | ListenNow
    | ListenTimedOut
    | Volume
    | Mute
    | MicrophoneMute
    | Choose
    | Reload
    | Restart
    | Stop
)
