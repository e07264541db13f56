"""Row 55: a service that goes away and returns repeatedly; threads, descriptors and memory stay constant.

``FLAPS`` sets the number of outages; 1800 take an hour.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import pytest
from support.fault_rows import Record
from support.machine import resident_kib
from support.proxy import Proxy
from support.scripted import Peer, Scripted
from support.speech_services import SERVICES, accept_session, client_messages, frames_of, synthesis_settings
from support.tts_pipeline import TtsPipeline

from agent.pipeline.events import UtteranceFailed

FLAPS = int(os.environ.get("FLAPS", "60"))
MAX_GROWTH_KIB = 1024


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


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("service", SERVICES)
def test_show_8_flapping_leaks_no_threads_descriptors_or_memory(record_show: Record, service: str) -> None:
    """Every utterance fails during an outage and plays after it; the number of connections is bounded."""
    flapping = Flapping(service)
    with (
        Scripted(flapping.script) as server,
        Proxy(server.port) as proxy,
        TtsPipeline(synthesis_settings(proxy.port, service), healthy_seconds=0.01) as pipeline,
    ):
        measured: list[tuple[int, int]] = []
        memory: list[int] = []
        failed = spoken = 0
        pipeline.spoken("The service is up.")
        began = time.monotonic()
        for number in range(FLAPS):
            flapping.down.set()
            proxy.cut()
            failed += isinstance(pipeline.ended(pipeline.say("The service is down.")), UtteranceFailed)
            flapping.down.clear()
            pipeline.speak_until_played("The service is up.")
            spoken += 1
            discard_collected(server, proxy, pipeline)
            measured.append((threading.active_count(), descriptors()))
            if number in (FLAPS // 4, FLAPS - 1):
                gc.collect()
                memory.append(resident_kib())
        took = time.monotonic() - began
        connects = proxy.connections
    # Some threads are still ending at each measurement: compare the minima.
    window = max(1, FLAPS // 4)
    threads, files = map(min, zip(*measured[FLAPS // 4 :][:window], strict=True))
    threads_after, files_after = map(min, zip(*measured[-window:], strict=True))
    assert failed == spoken == FLAPS
    # A live connection has four threads in the proxy and one in the server.
    assert threads_after <= threads + 12 and files_after <= files + 12
    grown_kib = memory[-1] - memory[0]
    assert grown_kib < MAX_GROWTH_KIB, f"{grown_kib} KiB"
    # During an outage there is a connection attempt every 0.01 s on average at most.
    assert connects < FLAPS * 6 + took * 200
    grown = f"threads {threads_after - threads:+}, descriptors {files_after - files:+}, {grown_kib:+} KiB"
    record_show(8, f"{service}: {FLAPS} flaps, {connects} connects, {failed} failed, {spoken} played; {grown}")


def discard_collected(server: Scripted, proxy: Proxy, pipeline: TtsPipeline) -> None:
    """Discard what the test itself has collected, which is not what it measures."""
    server.discard_finished()
    proxy.discard_finished()
    pipeline.forget()
