"""A daemon in a process of its own that notes every start of an utterance in a file, which survives SIGKILL.

Usage: ``python -m support.noted_daemon URL FOLDER [BROKER NAME]``. FOLDER contains the ``socket``, the queue
``state/queue.db`` and the ``notes``: a line ``PID ID`` for each utterance that became audible.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

from agent.daemon.daemon import Daemon
from agent.daemon.frontends import make_frontends
from agent.daemon.utterance_store import StoreTiming, UtteranceStore
from agent.pipeline.actions import Record
from agent.pipeline.events import Event, PlaybackStarted
from agent.system.log import set_up_logging
from agent.system.systemd import SystemdNotifier
from support.watched import configuration


def main(url: str, folder: Path, broker: str = "none", name: str = "device") -> int:
    notes = os.open(folder / "notes", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    def watch(event: Event | Record) -> None:
        if isinstance(event, PlaybackStarted):
            os.write(notes, f"{os.getpid()} {event.utterance}\n".encode())

    set_up_logging("info", {})
    config = configuration(SimpleNamespace(ws=url), "announce")  # type: ignore[arg-type]
    config = config._replace(control=config.control._replace(socket=str(folder / "socket")), shutdown_seconds=5.0)
    config = config._replace(mqtt=config.mqtt._replace(url=broker, topic=f"voice-agent/{name}"))
    # The disk of a busy machine may need more than the usual 50 ms; the text could be heard twice then.
    store = UtteranceStore(folder / "state" / "queue.db", timing=StoreTiming(gate_seconds=10.0))
    daemon = Daemon(
        config,
        SystemdNotifier({}),
        watch=watch,
        frontends=lambda report: make_frontends(config, {}, report, history=store),
        store=store,
    )
    return daemon.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
