"""Measures whether recognition keeps up with the audio, and makes new clients wait while it falls behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MIN_AUDIO_SECONDS = 1.0
"""Minimum audio for a cost. Less audio is not representative: the first audio also fills buffers and caches."""

_MEMORY = 0.9
"""Factor of the weight of older audio per second of new audio: the cost covers about the last ten seconds."""


_IDLE_SECONDS = 10.0
"""The cost of a client that has sent nothing for this long counts as zero."""


class ClientLoad:
    """Cost of the recognition of one client. Not thread-safe; guarded by the lock of its ``RecognitionLoad``."""

    def __init__(self) -> None:
        self._busy_seconds = self._audio_seconds = self._reported_at = 0.0

    def add(self, busy_seconds: float, audio_seconds: float, now: float) -> None:
        """Add audio and the time that its recognition took, including the wait for other clients."""
        self._reported_at = now
        kept = _MEMORY**audio_seconds
        self._busy_seconds = self._busy_seconds * kept + busy_seconds
        self._audio_seconds = self._audio_seconds * kept + audio_seconds

    def cost(self, now: float) -> float:
        """Return the time in seconds per second of audio. Above 1, recognition falls behind a microphone."""
        if self._audio_seconds < _MIN_AUDIO_SECONDS or now > self._reported_at + _IDLE_SECONDS:
            return 0.0
        return self._busy_seconds / self._audio_seconds


class RecognitionLoad:
    """Admits a client if all clients can then be recognized in real time. Thread-safe.

    While there are fewer clients than cores, a further client does not slow down the others. With more clients, the
    expected cost of each client is proportional to the number of clients.

    Args:
        cores: Number of processor cores.
        clock: Monotonic time in seconds.
    """

    def __init__(self, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._cores, self._clock = cores, clock
        self._changed = threading.Condition()
        self._clients: list[ClientLoad] = []
        self._is_closed = False

    def admit(self, timeout_seconds: float) -> ClientLoad | None:
        """Wait until a further client can be recognized.

        Returns:
            The client's load, which the caller must pass to ``leave`` at the end; ``None`` after the timeout.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._is_full, timeout_seconds):
                return None
            client = ClientLoad()
            self._clients.append(client)
            return client

    def report(self, client: ClientLoad, busy_seconds: float, audio_seconds: float) -> None:
        """Add audio of a client and the time that its recognition took."""
        with self._changed:
            client.add(busy_seconds, audio_seconds, self._clock())
            self._changed.notify_all()

    def leave(self, client: ClientLoad) -> None:
        """Remove a client."""
        with self._changed:
            self._clients.remove(client)
            self._changed.notify_all()

    def close(self) -> None:
        """Admit all clients from now on: the server is stopping, so no client has to wait."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def _is_full(self) -> bool:
        count = len(self._clients)
        if self._is_closed or not count:
            return False
        growth = max(1.0, (count + 1) / max(count, self._cores))
        return growth * max(client.cost(self._clock()) for client in self._clients) > 1.0
