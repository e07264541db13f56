"""A daemon in a process of its own that sets timers by spoken requests and prints what rings.

Usage: ``python -m support.timer_daemon URL FOLDER``. FOLDER contains ``timers.db``. It prints a line ``set NAME`` for
each timer whose reply was spoken, and ``rang NAME SECONDS WHEN`` for each whose sound began, with the seconds after its
end (WHEN is ``ready``), or after READY if it had ended before (WHEN is ``late``). A file ``last`` in FOLDER ends the
requests.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from agent.daemon.daemon import Daemon
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Announce,
    Cancel,
    Event,
    Heard,
    PlaybackStarted,
    SpeechEnded,
    SpeechStarted,
    TimersChanged,
)
from agent.pipeline.responders.settings import IntentSettings
from agent.pipeline.timers import Timer, TimerChange
from agent.pipeline.utterance import TIMER
from agent.system.log import set_up_logging
from agent.system.systemd import SystemdNotifier
from support.watched import configuration

FIRST_REQUEST_SECONDS = 1.0


class Notifier(SystemdNotifier):
    """Notes the moment of READY, and lets the first request follow later, as a user does."""

    def __init__(self, ask: Callable[[], None]) -> None:
        super().__init__({})
        self.ready_at = 0.0
        self._timer = threading.Timer(FIRST_REQUEST_SECONDS, ask)
        self._timer.daemon = True

    def ready(self, status: str) -> bool:
        is_sent = super().ready(status)
        self.ready_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._timer.start()
        return is_sent


def main(url: str, folder: Path) -> int:
    names = (f"{os.getpid()}x{number}" for number in itertools.count(1))
    ended: dict[int, Timer] = {}
    asked: list[str] = []
    ringing: set[str] = set()
    unheard = threading.Event()  # a request that began while a timer rang: the microphone is shut then

    def note(line: str) -> None:
        os.write(sys.stdout.fileno(), f"{line}\n".encode())

    def ask() -> None:
        if (folder / "last").exists():
            return
        asked.append(next(names))
        text = f"set a timer for {2 + len(asked) % 3} seconds called {asked[-1]}"
        for event in (SpeechStarted(), SpeechEnded(), Heard(text)):
            daemon.inbox.put(event)

    def watch(event: Event | Record) -> None:
        match event:
            case Announce(utterance):
                ringing.add(utterance.id)
            case SpeechStarted() if ringing:
                unheard.set()
            case TimersChanged(_, changes):
                ended.update((timer.number, timer) for timer, change in changes if change is TimerChange.RINGING)
            case PlaybackStarted(utterance) if f"-{TIMER}-" in utterance:
                timer = ended[int(utterance.split("-")[2])]
                due = max(timer.ends_boot_seconds, notifier.ready_at)
                when = "late" if due > timer.ends_boot_seconds else "ready"
                note(f"rang {timer.name} {time.clock_gettime(time.CLOCK_BOOTTIME) - due:.3f} {when}")
                daemon.inbox.put(Cancel(utterance, "the test"))
            case Record() if event.utterance.turn:
                note(f"set {asked[-1]}")
                ask()
            case Record():
                ringing.discard(event.utterance.id)
                if unheard.is_set() and not ringing:
                    unheard.clear()
                    ask()

    notifier = Notifier(ask)
    set_up_logging("info", {})
    config = configuration(SimpleNamespace(ws=url), "assistant", intents=IntentSettings("en"))  # type: ignore[arg-type]
    daemon = Daemon(config._replace(shutdown_seconds=5.0), notifier, watch=watch, timers=folder / "timers.db")
    return daemon.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
