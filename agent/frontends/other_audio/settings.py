"""The configuration of ducking and pausing other players."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.system.named_tuple import NamedTuple

NONE, DUCK, PAUSE = "none", "duck", "pause"


@section
class OtherAudioSettings(NamedTuple):
    """Ducking or pausing players of other programs, while the device listens, thinks or speaks."""

    action: str = key(
        NONE,
        "none | duck: lower their volume | pause: pause players with a remote control (MPRIS), duck the others",
        choices=(NONE, DUCK, PAUSE),
        note="It needs PulseAudio, PipeWire or a D-Bus session of the same user.",
    )
    volume: int = key(20, "volume of a ducked player, in percent of its own volume", low=0, high=100)

    @property
    def is_used(self) -> bool:
        return self.action != NONE

    def warnings(self) -> Iterator[Finding]:
        """Yield a warning if neither of the programs that control players exists."""
        if not self.is_used:
            return
        import shutil  # imported late: most configurations leave other players alone

        if all(shutil.which(program) is None for program in ("pactl", "busctl")):
            what = "neither pactl nor busctl exists, so no player can be reached: sudo apt install pulseaudio-utils"
            yield Finding("action", what)
