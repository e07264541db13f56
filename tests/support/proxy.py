"""A TCP proxy with faults: latency, jitter, low bandwidth, small chunks, cuts, resets, black holes and late closes."""

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
    """The faults of one direction; may be replaced while connections are open.

    Args:
        latency_seconds: Delay of each chunk; the order is kept.
        jitter_seconds: Random change of the latency, in both directions.
        bytes_per_second: Bandwidth.
        slice_bytes: Largest chunk.
        limit_bytes: The connection ends after this number of bytes.
        reset: The connection ends with a RST.
        black_hole: Data is dropped, and the end of the stream is not forwarded on.
        close_seconds: Delay of the end of the stream.
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
    """Forwards connections from ``proxy.port`` to ``port`` within ``with Proxy(port, down=Toxics(...)) as proxy``.

    ``connections`` counts the connections; ``turns_up`` counts how often the direction changed to up, which is the
    number of round trips. Thread-safe.

    Args:
        port: Port of the server on 127.0.0.1.
        up: Faults from the client to the server.
        down: Faults from the server to the client.
        seed: Seed of the jitter.
    """

    def __init__(self, port: int, *, up: Toxics | None = None, down: Toxics | None = None, seed: int = 1) -> None:
        self.up, self.down = up or Toxics(), down or Toxics()
        self.connections = 0
        self.limited = threading.Semaphore(0)  # released when a connection has ended because of limit_bytes
        self.turns_up = 0
        self._direction = ""
        self._upstream = port
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()  # protects _sockets
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Proxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(TIMEOUT_SECONDS)  # first: it may be opening a connection
        self.cut()
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)
        for sock in [self._listener, *self._sockets]:
            sock.close()

    def cut(self) -> None:
        """Close all connections in both directions."""
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def discard_finished(self) -> None:
        """Forget the threads that have ended, so that a long test does not grow."""
        for thread in [each for each in self._threads[1:] if each.ident is not None and not each.is_alive()]:
            self._threads.remove(thread)

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
                self._spawn(self._run_turn, turns, (client, server), self._read, name, source, chunks)
                self._spawn(self._run_turn, turns, (client, server), self._write, name, target, source, chunks)

    def _run_turn(
        self, turns: list[int], pair: tuple[socket.socket, ...], work: Callable[..., None], *args: object
    ) -> None:
        """Run ``work``; the last thread of a connection closes its sockets, which the other threads may still use."""
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
            delay = toxics.latency_seconds + self._random.uniform(-1, 1) * toxics.jitter_seconds
            delay += 0.0 if data else toxics.close_seconds
            due = max(due, time.monotonic() + max(0.0, delay))
            if toxics.bytes_per_second:
                due += len(data) / toxics.bytes_per_second
            while not self.over.is_set():
                with contextlib.suppress(queue.Full):
                    chunks.put((due, data), timeout=0.2)
                    break

    def _write(
        self, name: str, target: socket.socket, source: socket.socket, chunks: queue.Queue[tuple[float, bytes]]
    ) -> None:
        forwarded = 0
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
            limit = toxics.limit_bytes  # a test may change it meanwhile
            if limit is not None:
                data = data[: max(0, limit - forwarded)]
            is_over = not data
            with contextlib.suppress(OSError):
                if data:
                    target.sendall(data)
                forwarded += len(data)
                is_over = is_over or (limit is not None and forwarded >= limit)
                if is_over:
                    self._end(target, source, toxics, both_ways=bool(data) or limit is not None)
            if is_over:
                if limit is not None and forwarded >= limit:
                    self.limited.release()
                return

    def _end(self, target: socket.socket, source: socket.socket, toxics: Toxics, *, both_ways: bool) -> None:
        if toxics.reset:
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            # A blocked recv() in the other direction keeps the socket open; this wakes it.
            target.shutdown(socket.SHUT_RD)
            target.close()
            source.shutdown(socket.SHUT_RDWR)
            return
        target.shutdown(socket.SHUT_RDWR if both_ways else socket.SHUT_WR)
        if both_ways:
            source.shutdown(socket.SHUT_RDWR)
