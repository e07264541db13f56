"""A TCP proxy that does harm: late, slow, sliced, cut off, silent, reset, or closed long after the end."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

TIMEOUT_SECONDS = 20.0


@dataclass
class Toxics:
    """What is done to one direction; may be changed while connections live.

    ``latency_seconds`` +/- ``jitter_seconds`` for each chunk (order is kept), ``bytes_per_second`` of bandwidth, chunks
    of ``slice_bytes``; after ``limit_bytes`` the connection ends (``reset``: with a RST); ``black_hole``: what comes is
    swallowed and the other side never told; ``close_seconds``: how late an end is passed on.
    """

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    slice_bytes: int | None = None
    limit_bytes: int | None = None
    reset: bool = False
    black_hole: bool = False
    close_seconds: float = 0.0


class Proxy:
    """``with Proxy(port, down=Toxics(...)) as proxy``: what is dialled at ``proxy.port`` is led to ``port``.

    ``up`` is the way from the client to the server. ``connections`` counts them, ``turns_up`` how often the direction
    changed to upwards: the round trips of a dialogue.
    """

    def __init__(self, port: int, *, up: Toxics | None = None, down: Toxics | None = None, seed: int = 1) -> None:
        self.up, self.down = up or Toxics(), down or Toxics()
        self.connections = 0
        self.turns_up = 0
        self._direction = ""
        self._upstream = port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()  # over the sockets
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(TIMEOUT_SECONDS)  # the accepter: what it is just leading on is to be cut as well
        self.cut()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def cut(self) -> None:
        """Ends every connection there is, both ways."""
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _spawn(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="proxy")  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._upstream), TIMEOUT_SECONDS)
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._sockets.append(sock)
            turns = [0, 1, 2, 3]
            for name, source, target in (("up", client, server), ("down", server, client)):
                chunks: queue.Queue[tuple[float, bytes]] = queue.Queue(maxsize=64)
                self._spawn(self._take_turn, turns, (client, server), self._read, name, source, chunks)
                self._spawn(self._take_turn, turns, (client, server), self._write, name, target, source, chunks)

    def _take_turn(
        self, turns: list[int], pair: tuple[socket.socket, ...], work: Callable[..., None], *args: object
    ) -> None:
        """The last of a connection's threads closes its sockets: before, one of the others may be about to use them."""
        work(*args)
        if turns.pop() == 0:
            with self._lock:
                for sock in pair:
                    self._sockets.remove(sock)
                    sock.close()

    def _read(self, name: str, source: socket.socket, chunks: queue.Queue[tuple[float, bytes]]) -> None:
        due = 0.0
        data = b"-"
        while data:
            toxics: Toxics = getattr(self, name)
            try:
                data = source.recv(toxics.slice_bytes or 16384)
            except OSError:
                data = b""
            if data and self._direction != name:
                self._direction = name
                self.turns_up += name == "up"
            late = toxics.latency_seconds + self._random.uniform(-1, 1) * toxics.jitter_seconds
            late += 0.0 if data else toxics.close_seconds
            due = max(due, time.monotonic() + max(0.0, late))
            if toxics.bytes_per_second:
                due += len(data) / toxics.bytes_per_second
            while not self.over.is_set():
                with contextlib.suppress(queue.Full):
                    chunks.put((due, data), timeout=0.2)
                    break

    def _write(
        self, name: str, target: socket.socket, source: socket.socket, chunks: queue.Queue[tuple[float, bytes]]
    ) -> None:
        passed = 0
        while not self.over.is_set():
            try:
                due, data = chunks.get(timeout=0.2)
            except queue.Empty:
                continue
            if self.over.wait(max(0.0, due - time.monotonic())):
                return
            toxics: Toxics = getattr(self, name)
            if toxics.black_hole:
                continue
            if toxics.limit_bytes is not None:
                data = data[: toxics.limit_bytes - passed]
            over = not data
            with contextlib.suppress(OSError):
                if data:
                    target.sendall(data)
                passed += len(data)
                over = over or (toxics.limit_bytes is not None and passed >= toxics.limit_bytes)
                if over:
                    self._end(target, source, toxics, whole=bool(data) or toxics.limit_bytes is not None)
            if over:
                return

    def _end(self, target: socket.socket, source: socket.socket, toxics: Toxics, *, whole: bool) -> None:
        if toxics.reset:
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # The other direction's reader holds the socket open while it waits; this wakes it.
            target.shutdown(socket.SHUT_RD)
            target.close()
            source.shutdown(socket.SHUT_RDWR)
            return
        target.shutdown(socket.SHUT_RDWR if whole else socket.SHUT_WR)
        if whole:
            source.shutdown(socket.SHUT_RDWR)
