"""How the daemon is, in one line a person understands: what ``systemctl status`` shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from agent.pipeline.conversation import State
from agent.pipeline.events import DeviceBack, DeviceLost, Event, MicrophoneMute, Mute, ServiceDown, ServiceUp

WORDS = {
    State.IDLE: "listening",
    State.LISTENING: "listening: somebody speaks",
    State.THINKING: "thinking",
    State.SPEAKING: "speaking",
}
_IDLE = {"announce": "ready to speak", "captions": "writing captions"}

REFUSALS = {
    401: "refused the key",
    402: "wants to be paid first",
    403: "refused the key",
    404: "knows no such address",
    422: "refused the settings",
    429: "has had too many requests",
    503: "is overloaded",
}


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon is: in one line, and for programs. ``volume`` is in percent, ``None`` where it does not speak;
    ``muted`` are those of the microphone and the speaker that somebody has muted; ``listens``: whether it ever does."""

    line: str
    state: str
    troubles: tuple[str, ...] = ()
    volume: int | None = None
    muted: tuple[str, ...] = ()
    listens: bool = True


class StatusTracker:
    """Keeps what is wrong now and says it together with what is being done. Pure.

    ``services`` are the speech services in the order in which they are tried, ``devices`` the names of the
    ``microphone`` and the ``speaker`` as they are configured.
    """

    def __init__(
        self, mode: str, services: Sequence[str] = (), microphone: str = "default", speaker: str = "default"
    ) -> None:
        self._idle = _IDLE.get(mode, WORDS[State.IDLE])
        self._speaks, self._listens = mode != "captions", mode != "announce"
        self._services = tuple(services)
        self._devices = {"microphone": microphone, "speaker": speaker}
        self._lost: dict[str, str] = {}
        self._down: dict[str, str] = {}
        self.reading = 0  # of the configuration: what services of an older one still tell is not true any more
        self._complaint: str | None = None
        self._muted: set[str] = set()

    def note(self, event: Event) -> None:
        match event:
            case ServiceDown(reading=reading) | ServiceUp(reading=reading) if reading != self.reading:
                return
            case ServiceDown(service, reason, _, status):
                self._down[service] = f"{service} {REFUSALS[status]}" if status in REFUSALS else _named(service, reason)
            case ServiceUp(service):
                self._down.pop(service, None)
            case DeviceLost(which):
                self._lost[which] = f"no {which}: waiting for {_device(self._devices.get(which, 'default'))}"
            case DeviceBack(which):
                self._lost.pop(which, None)
            case Mute(muted) if self._speaks:
                self._mute("speaker", muted)
            case MicrophoneMute(muted) if self._listens:
                self._mute("microphone", muted)

    def reloaded(self, services: Sequence[str], *, replaced: bool = True) -> None:
        """``services`` are used from now on. Where all have been ``replaced``, what was known of the old ones is out of
        date, and so is what these still tell."""
        self._services = tuple(services)
        self._complaint = None
        if replaced:
            self._down.clear()
            self.reading += 1

    def not_reloaded(self, why: str) -> None:
        """The configuration was changed and cannot be used."""
        self._complaint = f"the new configuration is not used: {why}"

    def line(self, state: State) -> str:
        troubles = self._troubles()
        voice = self._voice()
        doing = [voice] if voice else []
        if state is not State.IDLE:
            doing.append(WORDS[state])
        elif not voice and "microphone" not in self._lost and "microphone" not in self._muted:
            doing.append(self._idle)
        muted = [f"the {device} is muted" for device in sorted(self._muted)]
        return "; ".join([*troubles, *muted, *doing])

    def status(self, state: State, volume: int | None) -> Status:
        muted = tuple(sorted(self._muted))
        return Status(self.line(state), state.value, self._troubles(), volume, muted, self._listens)

    def _mute(self, device: str, muted: bool) -> None:
        if muted:
            self._muted.add(device)
        else:
            self._muted.discard(device)

    def _troubles(self) -> tuple[str, ...]:
        complaint = [] if self._complaint is None else [self._complaint]
        return (*self._lost.values(), *self._down.values(), *complaint)

    def _voice(self) -> str | None:
        """Who speaks, where that is not the first choice."""
        if not self._services or self._services[0] not in self._down:
            return None
        left = [service for service in self._services if service not in self._down]
        if not left:
            return "nobody can speak"
        return "speaking with the local voice" if left[0] == "local" else f"speaking with {left[0]}"


def _named(service: str, reason: str) -> str:
    return reason if reason.startswith(service) else f"{service}: {reason}"


def _device(name: str) -> str:
    return "any" if name == "default" else f'"{name}"'


def of_reading(reading: int, report: Callable[[Event], None]) -> Callable[[Event], None]:
    """``report`` for services that are made from that reading of the configuration: those of an older one may still
    tell of a trouble, and will never tell of its end."""

    def tell(event: Event) -> None:
        report(replace(event, reading=reading) if isinstance(event, ServiceDown | ServiceUp) else event)

    return tell
