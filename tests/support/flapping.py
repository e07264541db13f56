"""The scenario of row 55 in a process of its own, so that its memory is not that of other tests: ``SERVICE FLAPS``.

It prints the measurements as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from agent.pipeline.events import UtteranceFailed
from support.machine import resident_kib
from support.proxy import Proxy
from support.scripted import Peer, Scripted
from support.speech_services import accept_session, client_messages, frames_of, synthesis_settings
from support.tts_pipeline import TtsPipeline


class Flapping:
    """A service that resets every connection while it is down."""

    def __init__(self, service: str) -> None:
        self.down = threading.Event()
        self._service = service

    def script(self, peer: Peer) -> None:
        session = None if self.down.is_set() else accept_session(peer, self._service)
        for message in [] if session is None else client_messages(peer):
            if self.down.is_set():
                break
            for each in frames_of(session.receive(message)):
                peer.send(each)
        if self.down.is_set():
            peer.reset()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def measure(service: str, flaps: int) -> dict[str, Any]:
    """Let every utterance fail during an outage and play after it."""
    flapping = Flapping(service)
    with (
        Scripted(flapping.script) as server,
        Proxy(server.port) as proxy,
        TtsPipeline(synthesis_settings(proxy.port, service), healthy_seconds=0.01) as pipeline,
    ):
        measured: list[tuple[int, int]] = []
        memory_kib: list[int] = []
        failed = spoken = 0
        pipeline.spoken("The service is up.")
        began = time.monotonic()
        for number in range(flaps):
            flapping.down.set()
            proxy.cut()
            failed += isinstance(pipeline.ended(pipeline.say("The service is down.")), UtteranceFailed)
            flapping.down.clear()
            pipeline.speak_until_played("The service is up.")
            spoken += 1
            discard_collected(server, proxy, pipeline)
            measured.append((threading.active_count(), descriptors()))
            if number in (flaps // 4, flaps - 1):
                gc.collect()
                memory_kib.append(resident_kib())
        took = time.monotonic() - began
        return {
            "measured": measured,
            "memory_kib": memory_kib,
            "failed": failed,
            "spoken": spoken,
            "connects": proxy.connections,
            "took": took,
        }


def discard_collected(server: Scripted, proxy: Proxy, pipeline: TtsPipeline) -> None:
    """Discard what the test itself has collected, which is not what it measures."""
    server.discard_finished()
    proxy.discard_finished()
    pipeline.forget()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
