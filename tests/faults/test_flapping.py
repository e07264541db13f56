"""A service that is there for a while and away for a while, again and again: what the daemon holds stays the same.
``FLAPS`` says how often; an hour of one second each way is 1800."""

from __future__ import annotations

import gc
import os
import socket
import threading
from pathlib import Path

import pytest
from tools.fuzz import resident_kib
from tools.proxy import Proxy
from tools.scripted import Peer, Scripted

from agent.events import Unspoken
from faults.conftest import Figure
from faults.speaking import Speaking
from faults.voices import SERVICES, speaks, synthesis

FLAPS = int(os.environ.get("FLAPS", "60"))
MOST_KIB = 1024


class Flapping:
    """Up or down; while it is down, whoever comes is reset."""

    def __init__(self, service: str) -> None:
        self.down = threading.Event()
        self._script = speaks(service)

    def script(self, peer: Peer) -> None:
        if self.down.is_set():
            peer.reset()
            return
        self._script(peer)


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
        measured: list[tuple[int, int, int]] = []
        failed = spoken = 0
        for number in range(FLAPS):
            flapping.down.set()
            proxy.cut()
            failed += isinstance(speaking.ended(speaking.say("Nobody is there.")), Unspoken)
            flapping.down.clear()
            speaking.said_again("Somebody is there.", within_seconds=10.0)
            spoken += 1
            forget(server, proxy, speaking)
            if number in (FLAPS // 4, FLAPS - 1):
                gc.collect()
                measured.append((threading.active_count(), descriptors(), resident_kib()))
        connects = proxy.connections
    (threads, files, memory), (threads_after, files_after, memory_after) = measured
    assert failed >= FLAPS * 0.9 and spoken == FLAPS
    # Each live connection has four threads of the proxy's and one of the server's: some of the last are still ending.
    assert threads_after <= threads + 12 and files_after <= files + 12
    assert memory_after - memory < MOST_KIB, f"{memory_after - memory} KiB"
    assert connects < FLAPS * 12
    grown = f"threads {threads_after - threads:+}, descriptors {files_after - files:+}, {memory_after - memory:+} KiB"
    shown(8, f"{service}: {FLAPS} flaps, {connects} connects, {failed} failed, {spoken} said; {grown}")


def forget(server: Scripted, proxy: Proxy, speaking: Speaking) -> None:
    """What the test itself has gathered is not what is measured."""
    server.peers[:] = [peer for peer in server.peers if peer.sock.fileno() >= 0]
    server._threads[:] = [thread for thread in server._threads if thread.is_alive()]
    proxy._threads[:] = [thread for thread in proxy._threads if thread.is_alive()]
    for sock in [sock for sock in proxy._sockets if _ended(sock)]:
        proxy._sockets.remove(sock)
        sock.close()
    speaking.forget()


def _ended(sock: socket.socket) -> bool:
    if sock.fileno() < 0:
        return True
    # 1: established; everything else is on its way out, or over
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1
