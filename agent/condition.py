"""How the daemon is, in one line a person understands: what ``systemctl status`` shows."""

from __future__ import annotations

from dataclasses import dataclass

from agent.conversation import State
from agent.events import DeviceBack, DeviceLost, Event, ServiceDown, ServiceUp

WORDS = {
    State.IDLE: "listening",
    State.LISTENING: "listening: somebody speaks",
    State.THINKING: "thinking",
    State.SPEAKING: "speaking",
}


@dataclass(frozen=True, slots=True)
class Status:
    """How the daemon is: in one line, and for programs. ``volume`` is in percent, ``None`` where it does not speak."""

    line: str
    state: str
    troubles: tuple[str, ...] = ()
    volume: int | None = None


class Condition:
    """Keeps what is wrong now and says it together with what is being done. Pure."""

    def __init__(self, mode: str) -> None:
        self._idle = {"announce": "ready to speak", "captions": "writing captions"}.get(mode, WORDS[State.IDLE])
        self._troubles: dict[str, str] = {}

    def note(self, event: Event) -> None:
        match event:
            case ServiceDown(service, reason):
                self._troubles[service] = reason
            case ServiceUp(service):
                self._troubles.pop(service, None)
            case DeviceLost(which, reason):
                self._troubles[which] = f"no {which}: {reason}"
            case DeviceBack(which):
                self._troubles.pop(which, None)

    def line(self, state: State) -> str:
        doing = self._idle if state is State.IDLE else WORDS[state]
        return "; ".join([*self._troubles.values(), doing])

    def status(self, state: State, volume: int | None) -> Status:
        return Status(self.line(state), state.value, tuple(self._troubles.values()), volume)
