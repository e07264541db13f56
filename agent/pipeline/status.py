"""The status of the daemon in one line for people (``systemctl status``) and as fields for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from agent.pipeline.events import (
    AudioArrived,
    BreakerChanged,
    DeviceBack,
    DeviceLost,
    EchoChanged,
    Event,
    Heard,
    MicrophoneMute,
    Mute,
    ReplyEnded,
    ServiceConnected,
    ServiceDown,
    ServiceUp,
    TimersChanged,
)
from agent.pipeline.responders.registry import SECTIONS
from agent.pipeline.state import State
from agent.services.connection.standby import CLOSED
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from agent.pipeline.timers import Timer

STATE_WORDS = {
    State.IDLE: "listening",
    State.LISTENING: "listening: the user speaks",
    State.THINKING: "thinking",
    State.SPEAKING: "speaking",
}
STARTING_WORDS = "no speech service has answered yet"
_IDLE_WORDS = {"announce": "ready to speak", "captions": "writing captions"}


TRANSCRIPTION, WAKE = "transcription", "wake"
"""The names of the transcription service and of a wake word service in events."""

UNKNOWN, CONNECTED, READY, FAILED = "unknown", "connected", "ready", "failed"
"""The states of a service: no connection yet, a connection and no result yet, a result, the last attempt failed."""


MUTED, ERROR = "muted", "error"
"""The visible states besides those of the conversation."""
VISIBLE_STATES = (*(state.value for state in State), MUTED, ERROR)
"""The states that a light or a page shows."""


class CurrentUtterance(NamedTuple):
    """The utterance that is being spoken. Immutable. ``text`` is the beginning of its text."""

    utterance: str
    text: str
    priority: int
    source: str


class ServiceState(NamedTuple):
    """The state of a service. Immutable.

    ``role`` is ``speech``, ``transcription`` or ``reply``; ``reason`` says why it failed. ``breaker`` is the state of
    the circuit breaker; ``None`` where the service has none.
    """

    name: str
    role: str
    state: str
    reason: str = ""
    breaker: str | None = None


class DeviceState(NamedTuple):
    """The state of a sound device. Immutable. ``state`` is ``ready``, ``muted`` or ``lost`` with a ``reason``."""

    name: str
    device: str
    state: str
    reason: str = ""


class EchoState(NamedTuple):
    """What the echo canceller has measured, as in ``EchoChanged``. Immutable."""

    mode: str
    reason: str = ""
    delay_seconds: float | None = None
    drift_ppm: float | None = None
    return_loss_db: float | None = None


class TimerStatus(NamedTuple):
    """A timer or an alarm. Immutable.

    ``state`` is ``running``, ``paused`` or ``ringing``. ``ends_at`` is in seconds since 1970, and ``None`` while the
    timer is paused. ``remaining_seconds``: time left of a paused timer; ``None`` otherwise.
    """

    number: int
    name: str
    is_alarm: bool
    state: str
    ends_at: float | None
    remaining_seconds: float | None = None


class Status(NamedTuple):
    """The status of the daemon. Immutable.

    ``volume`` is in percent, and ``None`` if the mode never speaks. ``muted`` names the muted devices: ``microphone``,
    ``speaker``. ``listens``: whether the mode uses the microphone. ``queue`` is the number of queued utterances.
    ``can_speak`` and ``can_listen``: whether a service and the device are usable; ``None`` if the mode does not need
    them. ``voice`` and ``wake_word`` are those in use; ``None`` if there is no choice.
    """

    summary: str
    state: str
    problems: tuple[str, ...] = ()
    volume: int | None = None
    muted: tuple[str, ...] = ()
    listens: bool = True
    mode: str = "assistant"
    saying: CurrentUtterance | None = None
    queue: int = 0
    services: tuple[ServiceState, ...] = ()
    devices: tuple[DeviceState, ...] = ()
    can_speak: bool | None = None
    can_listen: bool | None = None
    echo: EchoState | None = None
    timers: tuple[TimerStatus, ...] = ()
    voice: str | None = None
    wake_word: str | None = None

    @property
    def main_device(self) -> str:
        """The sound device whose mute is visible: the microphone, or the speaker where the mode does not listen."""
        return "microphone" if self.listens else "speaker"

    @property
    def visible_state(self) -> str:
        """One of ``VISIBLE_STATES``.

        A conversation in progress comes first. Then ``muted`` comes before ``error``, because a user relies on a closed
        microphone. ``error`` means that the device cannot speak or cannot listen, where the mode needs it.
        """
        if self.state != State.IDLE.value:
            return self.state
        if self.main_device in self.muted:
            return MUTED
        return ERROR if self.can_speak is False or self.can_listen is False else self.state


class StatusTracker:
    """Tracks the current problems and describes them. Not thread-safe; owned by the main thread.

    Args:
        mode: The conversation mode.
        services: The speech services in the order in which they are tried.
        microphone: The configured device.
        speaker: The configured device.
        responder: The kind of the responder.
    """

    def __init__(
        self,
        mode: str,
        services: Sequence[str] = (),
        microphone: str = "default",
        speaker: str = "default",
        responder: str = "rules",
    ) -> None:
        self._mode, self._responder = mode, responder
        self._idle_words = _IDLE_WORDS.get(mode, STATE_WORDS[State.IDLE])
        self._speaks, self._listens = mode != "captions", mode != "announce"
        self._services = tuple(services)
        self._devices = {"microphone": microphone, "speaker": speaker}
        self._lost: dict[str, str] = {}
        self._lost_reasons: dict[str, str] = {}
        self._down: dict[str, str] = {}
        self._states: dict[str, str] = {}
        self._breakers: dict[str, str] = {}
        self._reply = ServiceState(responder, "reply", UNKNOWN)
        # Services of an older generation may still report a failure but never a recovery: their events are ignored.
        self.config_generation = 0
        self._config_problem: str | None = None
        self._muted: set[str] = set()
        self._echo: EchoState | None = None
        self._echo_problem: str | None = None
        self._timers: tuple[TimerStatus, ...] = ()
        self.voice: str | None = None
        self.wake_word: str | None = None

    def update(self, event: Event) -> None:
        """Update the status from an event. Events that do not concern the status are ignored."""
        match event:
            case (
                ServiceDown(service, config_generation=number)
                | ServiceUp(service, config_generation=number)
                | ServiceConnected(service, config_generation=number)
                | BreakerChanged(service, config_generation=number)
            ) if number != self.config_generation and service != WAKE:
                return
            case BreakerChanged(service, state):
                self._breakers[service] = state
            case TimersChanged(timers):
                self._timers = tuple(timer_status(timer) for timer in timers)
            case ServiceConnected(service):
                self._states.setdefault(service, CONNECTED)
            case AudioArrived(service=service, is_phrase=False):
                self._states[service] = READY
            case Heard(text) if text:
                self._states[TRANSCRIPTION] = READY
            case ReplyEnded(_, error):
                self._reply = ServiceState(self._responder, "reply", FAILED if error else READY, error or "")
            case ServiceDown(service, reason, _, status):
                from agent.services.protocols.handshake import meaning_of  # not before a service fails

                meaning = meaning_of(service, status)
                self._down[service] = f"{service} {meaning.summary}" if meaning else _with_name(service, reason)
                self._states[service] = FAILED
            case ServiceUp(service):
                self._down.pop(service, None)
                self._states[service] = READY
            case DeviceLost(device, reason):
                self._lost_reasons[device] = reason
                name = self._devices.get(device, "default")
                self._lost[device] = f"no {device}: waiting for " + ("any" if name == "default" else f'"{name}"')
            case DeviceBack(device):
                self._lost.pop(device, None)
            case Mute(muted) if self._speaks:
                self._set_muted("speaker", muted)
            case EchoChanged():
                self._echo = EchoState(*event[:-1])
                self._echo_problem = event.reason if event.is_problem else None
            case MicrophoneMute(muted) if self._listens:
                self._set_muted("microphone", muted)

    def reloaded(self, services: Sequence[str], *, replaced: bool = True, responder: str = "rules") -> None:
        """Note a successful reload.

        Args:
            services: The speech services from now on.
            replaced: Whether all connections were replaced, which clears the known failures.
            responder: The kind of the responder from now on.
        """
        self._responder, self._reply = responder, ServiceState(responder, "reply", UNKNOWN)
        self._services = tuple(services)
        self._config_problem = None
        if replaced:
            self._down = {WAKE: self._down[WAKE]} if WAKE in self._down else {}  # a reload does not replace WAKE
            self._states.clear()
            self._breakers.clear()
            self.config_generation += 1

    def reload_failed(self, reason: str) -> None:
        """Note that a reload was refused, which is a problem until the next successful reload."""
        self._config_problem = f"the new configuration is not used: {reason}"

    def summary(self, state: State) -> str:
        """Describe the problems and the current activity in one line."""
        voice = self._voice()
        activity = [voice] if voice else []
        if state is not State.IDLE:
            activity.append(STATE_WORDS[state])
        elif not voice and "microphone" not in self._lost and "microphone" not in self._muted:
            activity.append(self._idle_words if self._is_known else STARTING_WORDS)
        muted = [f"the {device} is muted" for device in sorted(self._muted)]
        return "; ".join([*self._problems(), *muted, *activity])

    def status(
        self, state: State, volume: int | None, saying: CurrentUtterance | None = None, queue: int = 0
    ) -> Status:
        return Status(
            self.summary(state),
            state.value,
            self._problems(),
            volume,
            tuple(sorted(self._muted)),
            self._listens,
            self._mode,
            saying,
            queue,
            tuple(self._service_states()),
            tuple(self._device_states()),
            can_speak=self._can_speak if self._speaks else None,
            timers=self._timers,
            can_listen="microphone" not in self._lost and TRANSCRIPTION not in self._down if self._listens else None,
            echo=self._echo,
            voice=self.voice,
            wake_word=self.wake_word,
        )

    @property
    def _can_speak(self) -> bool:
        return "speaker" not in self._lost and any(service not in self._down for service in self._services)

    @property
    def _is_known(self) -> bool:
        """Whether a speech service has connected, answered or failed; also if the mode listens or has no services."""
        return self._listens or not self._services or any(service in self._states for service in self._services)

    def _service_states(self) -> Iterator[ServiceState]:
        names = [(service, "speech") for service in self._services if self._speaks]
        names += [(TRANSCRIPTION, TRANSCRIPTION)] if self._listens else []
        for name, role in names:
            reason = self._down.get(name, "").removeprefix(f"{name}: ").removeprefix(f"{name} ")
            breaker = self._breakers.get(name, CLOSED)
            yield ServiceState(name, role, self._states.get(name, UNKNOWN), reason, breaker)
        if self._speaks and self._listens and self._responder in SECTIONS:  # other responders need no service
            yield self._reply

    def _device_states(self) -> Iterator[DeviceState]:
        names = (["microphone"] if self._listens else []) + (["speaker"] if self._speaks else [])
        for name in names:
            if name in self._lost:
                yield DeviceState(name, self._devices[name], "lost", self._lost_reasons.get(name, ""))
            else:
                yield DeviceState(name, self._devices[name], "muted" if name in self._muted else "ready")

    def _set_muted(self, device: str, muted: bool) -> None:
        if muted:
            self._muted.add(device)
        else:
            self._muted.discard(device)

    def _problems(self) -> tuple[str, ...]:
        config_problem = [] if self._config_problem is None else [self._config_problem]
        is_shut = self._echo_problem is not None
        echo_problem = [f"the microphone is shut while the device speaks: {self._echo_problem}"] if is_shut else []
        return (*self._lost.values(), *self._down.values(), *config_problem, *echo_problem)

    def _voice(self) -> str | None:
        """Describe the voice in use if it is not the first choice."""
        if not self._services or self._services[0] not in self._down:
            return None
        available = [service for service in self._services if service not in self._down]
        if not available:
            return "no service can speak"
        return "speaking with the local voice" if available[0] == "local" else f"speaking with {available[0]}"


def timer_status(timer: Timer) -> TimerStatus:
    """Return the status of a timer for other programs."""
    is_paused = timer.state.value == "paused"
    ends_at = None if is_paused else round(timer.ends_at, 1)
    remaining = round(timer.remaining_seconds, 1) if is_paused else None
    return TimerStatus(timer.number, timer.name, timer.is_alarm, timer.state.value, ends_at, remaining)


def _with_name(service: str, reason: str) -> str:
    return reason if reason.startswith(service) else f"{service}: {reason}"
