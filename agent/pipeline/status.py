"""The status of the daemon in one line for people (``systemctl status``) and as fields for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agent.pipeline.conversation import State
from agent.pipeline.events import DeviceBack, DeviceLost, Event, MicrophoneMute, Mute, ServiceDown, ServiceUp

STATE_WORDS = {
    State.IDLE: "listening",
    State.LISTENING: "listening: the user speaks",
    State.THINKING: "thinking",
    State.SPEAKING: "speaking",
}
_IDLE_WORDS = {"announce": "ready to speak", "captions": "writing captions"}


class Status(NamedTuple):
    """The status of the daemon. Immutable.

    ``volume`` is in percent, ``None`` where the daemon never speaks. ``muted`` holds ``microphone`` and ``speaker``
    where they are muted. ``listens``: whether the mode uses the microphone.
    """

    summary: str
    state: str
    problems: tuple[str, ...] = ()
    volume: int | None = None
    muted: tuple[str, ...] = ()
    listens: bool = True


class StatusTracker:
    """Tracks the current problems and describes them. Not thread-safe; owned by the main thread.

    Args:
        mode: The conversation mode.
        services: The speech services in the order in which they are tried.
        microphone: The configured device.
        speaker: The configured device.
    """

    def __init__(
        self, mode: str, services: Sequence[str] = (), microphone: str = "default", speaker: str = "default"
    ) -> None:
        self._idle_words = _IDLE_WORDS.get(mode, STATE_WORDS[State.IDLE])
        self._speaks, self._listens = mode != "captions", mode != "announce"
        self._services = tuple(services)
        self._devices = {"microphone": microphone, "speaker": speaker}
        self._lost: dict[str, str] = {}
        self._down: dict[str, str] = {}
        # Services of an older generation may still report a failure but never a recovery: their events are ignored.
        self.config_generation = 0
        self._config_problem: str | None = None
        self._muted: set[str] = set()

    def update(self, event: Event) -> None:
        match event:
            case ServiceDown(config_generation=number) | ServiceUp(config_generation=number) if (
                number != self.config_generation
            ):
                return
            case ServiceDown(service, reason, _, status):
                from agent.services.protocols.handshake import STATUS_MEANINGS  # not before a service fails

                meaning = STATUS_MEANINGS.get(status) if status is not None else None
                self._down[service] = f"{service} {meaning.summary}" if meaning else _with_name(service, reason)
            case ServiceUp(service):
                self._down.pop(service, None)
            case DeviceLost(device):
                name = self._devices.get(device, "default")
                self._lost[device] = f"no {device}: waiting for " + ("any" if name == "default" else f'"{name}"')
            case DeviceBack(device):
                self._lost.pop(device, None)
            case Mute(muted) if self._speaks:
                self._set_muted("speaker", muted)
            case MicrophoneMute(muted) if self._listens:
                self._set_muted("microphone", muted)

    def reloaded(self, services: Sequence[str], *, replaced: bool = True) -> None:
        """Note a successful reload.

        Args:
            services: The speech services from now on.
            replaced: Whether all connections were replaced, which clears the known failures.
        """
        self._services = tuple(services)
        self._config_problem = None
        if replaced:
            self._down.clear()
            self.config_generation += 1

    def reload_failed(self, reason: str) -> None:
        self._config_problem = f"the new configuration is not used: {reason}"

    def summary(self, state: State) -> str:
        """Describe the problems and the current activity in one line."""
        voice = self._voice()
        activity = [voice] if voice else []
        if state is not State.IDLE:
            activity.append(STATE_WORDS[state])
        elif not voice and "microphone" not in self._lost and "microphone" not in self._muted:
            activity.append(self._idle_words)
        muted = [f"the {device} is muted" for device in sorted(self._muted)]
        return "; ".join([*self._problems(), *muted, *activity])

    def status(self, state: State, volume: int | None) -> Status:
        muted = tuple(sorted(self._muted))
        return Status(self.summary(state), state.value, self._problems(), volume, muted, self._listens)

    def _set_muted(self, device: str, muted: bool) -> None:
        if muted:
            self._muted.add(device)
        else:
            self._muted.discard(device)

    def _problems(self) -> tuple[str, ...]:
        config_problem = [] if self._config_problem is None else [self._config_problem]
        return (*self._lost.values(), *self._down.values(), *config_problem)

    def _voice(self) -> str | None:
        """Describe the voice in use if it is not the first choice."""
        if not self._services or self._services[0] not in self._down:
            return None
        available = [service for service in self._services if service not in self._down]
        if not available:
            return "no service can speak"
        return "speaking with the local voice" if available[0] == "local" else f"speaking with {available[0]}"


def _with_name(service: str, reason: str) -> str:
    return reason if reason.startswith(service) else f"{service}: {reason}"
