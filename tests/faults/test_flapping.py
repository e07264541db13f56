"""A service that is there for a while and away for a while, again and again: what the daemon holds stays the same.
``FLAPS`` says how often; an hour of one second each way is 1800."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import pytest
from support.fault_tts import Speaking
from support.fault_voices import SERVICES, encoded, messages_of, synthesis, upgraded
from support.fuzz import resident_kib
from support.proxy import Proxy
from support.scripted import Peer, Scripted

from agent.pipeline.events import UtteranceFailed
from faults.conftest import Figure

FLAPS = int(os.environ.get("FLAPS", "60"))
MOST_KIB = 1024


class Flapping:
    """Up or down; while it is down, whoever comes is reset, and so is whoever came before and says something."""

    def __init__(self, service: str) -> None:
        self.down = threading.Event()
        self._service = service

    def script(self, peer: Peer) -> None:
        answers = None if self.down.is_set() else upgraded(peer, self._service)
        for message in [] if answers is None else messages_of(peer):
            if self.down.is_set():
                break
            for each in encoded(answers.take(message)):
                peer.send(each)
        if self.down.is_set():
            peer.reset()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("service", SERVICES)
def test_show_8_flapping_costs_no_thread_no_descriptor_and_no_memory(shown: Figure, service: str) -> None:
    """Row 55, T: while it is down each utterance fails, while it is up each is said; connects are bounded."""
    flapping = Flapping(service)
    with (
        Scripted(flapping.script) as server,
        Proxy(server.port) as proxy,
        Speaking(synthesis(proxy.port, service), healthy_seconds=0.01) as speaking,
    ):
        measured: list[tuple[int, int]] = []
        memory: list[int] = []
        failed = spoken = 0
        speaking.spoken("Somebody is there.")
        began = time.monotonic()
        for number in range(FLAPS):
            flapping.down.set()
            proxy.cut()
            failed += isinstance(speaking.ended(speaking.say("Nobody is there.")), UtteranceFailed)
            flapping.down.clear()
            speaking.said_again("Somebody is there.")
            spoken += 1
            forget(server, proxy, speaking)
            measured.append((threading.active_count(), descriptors()))
            if number in (FLAPS // 4, FLAPS - 1):
                gc.collect()
                memory.append(resident_kib())
        took = time.monotonic() - began
        connects = proxy.connections
    # How many of the last are still ending differs from one moment to the next: what is always there is compared.
    window = max(1, FLAPS // 4)
    threads, files = map(min, zip(*measured[FLAPS // 4 :][:window], strict=True))
    threads_after, files_after = map(min, zip(*measured[-window:], strict=True))
    assert failed == spoken == FLAPS
    # Each live connection has four threads of the proxy's and one of the server's.
    assert threads_after <= threads + 12 and files_after <= files + 12
    grown_kib = memory[-1] - memory[0]
    assert grown_kib < MOST_KIB, f"{grown_kib} KiB"
    # The longer it is down, the oftener it is tried: each 0.01 s at the most, on average.
    assert connects < FLAPS * 6 + took * 200
    grown = f"threads {threads_after - threads:+}, descriptors {files_after - files:+}, {grown_kib:+} KiB"
    shown(8, f"{service}: {FLAPS} flaps, {connects} connects, {failed} failed, {spoken} said; {grown}")


def forget(server: Scripted, proxy: Proxy, speaking: Speaking) -> None:
    """What the test itself has gathered is not what is measured. Others go on adding to it meanwhile."""
    for peer in [peer for peer in server.peers if peer.sock.fileno() < 0]:
        server.peers.remove(peer)
    for threads in (server._threads, proxy._threads):
        for thread in [each for each in threads if each.ident is not None and not each.is_alive()]:
            threads.remove(thread)
    speaking.forget()
