"""The configuration of the hooks."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.system.named_tuple import NamedTuple

NAMES = ("wake", "heard", "spoken", "failed", "state", "device", "button", "timer")
"""The keys of the section whose value is a command."""


@section
class HookSettings(NamedTuple):
    """Commands that the daemon starts for events, each a program and its arguments, without a shell."""

    wake: tuple[str, ...] = key(
        (),
        "started for each wake word",
        note="Each command is a list: [/usr/local/bin/lamp, --on]. It gets the event as JSON on stdin and in variables"
        " VOICE_AGENT_EVENT_...",
    )
    heard: tuple[str, ...] = key((), "started for each final transcript")
    spoken: tuple[str, ...] = key((), "started for each utterance that was played to its end")
    failed: tuple[str, ...] = key((), "started for each utterance that failed, expired or was interrupted by a restart")
    state: tuple[str, ...] = key((), "started when the state changes: idle, listening, thinking, speaking")
    device: tuple[str, ...] = key((), "started when a sound device is lost, muted or ready again")
    button: tuple[str, ...] = key((), "started when the button is pressed")
    timer: tuple[str, ...] = key(
        (), "started when a timer or an alarm starts, changes, rings, ends, is cancelled or was missed"
    )
    timeout_seconds: float = key(
        10.0, "longest run time of a command; then its process group is killed", low=0.1, high=300.0
    )
    transcripts: bool = key(False, "true: the JSON on stdin contains the words of the user and of the device")

    def commands(self) -> dict[str, tuple[str, ...]]:
        """Return the configured commands by name."""
        return {name: command for name in NAMES if (command := getattr(self, name))}

    def check(self) -> Iterator[Finding]:
        """Yield an error for each command that can never be started."""
        for name, command in self.commands().items():
            if not command[0] or "\0" in "".join(command):
                what = "the first item is no program, expected [PROGRAM, ARGUMENT, ...]"
                yield Finding(f"{name}[0]", what)

    def warnings(self) -> Iterator[Finding]:
        """Yield a warning for each program that does not exist."""
        commands = self.commands()
        if not commands:
            return
        import shutil  # imported late: most configurations have no hook

        for name, command in commands.items():
            if command[0] and shutil.which(command[0]) is None:
                yield Finding(name, f"the program {command[0]} does not exist or is not executable for this user")
