"""Finds wake words with a service that uses the Wyoming protocol."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from agent.audio.format import SPEECH
from agent.pipeline.capture.spotter import Spot
from agent.services.connection.closing import close
from agent.services.connection.standby import Standby
from agent.services.protocols.codec import Audio, Detection, Failure
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

AFTER_SECONDS = 0.2
"""Audio between the end of a word and its detection, without the delay of the network."""
MAX_AFTER_SECONDS = 1.0
HELD_SECONDS = 3.0
"""Longest audio that is kept while there is no connection; older audio is dropped."""
LEAD_SECONDS = 2.0
"""Silence at the start of a connection: wyoming-openwakeword finds nothing in its first two seconds."""
PROOF_SECONDS = LEAD_SECONDS + 1.0
"""Audio that a service has to receive after a failure before it counts as available again."""
STALE_SECONDS = 1.0
"""A detection is ignored after a pause of this length in the sent audio, and within this time after a word. It belongs
to earlier audio: the gate was open during the pause, and wyoming-openwakeword reports a word up to four times."""


class WyomingSpotter:
    """Sends frames to a service, and returns the words that it reports.

    Not thread-safe; owned by the recognizer thread. It never blocks: while there is no connection nothing is found, and
    the standby dials with backoff.

    Args:
        standby: The connection to the service; ``close`` closes it.
        word: The wake word to report if the service does not name it.
        stale_seconds: See ``STALE_SECONDS``.
    """

    def __init__(self, standby: Standby, word: str, *, stale_seconds: float = STALE_SECONDS) -> None:
        self._standby, self._word, self._stale_seconds = standby, word, stale_seconds
        self._connection: Connection | None = None
        self._held: deque[bytes] = deque()
        self._held_bytes, self._sent_seconds = 0, 0.0
        self._last_sent = self._last_found = -stale_seconds

    def fileno(self) -> int:
        """Return the descriptor of the connection; -1 if there is none."""
        return -1 if self._connection is None else self._connection.fileno()

    def find(self, frame: bytes) -> Spot | None:
        self._hold(frame)
        connection = self._connection or self._connect()
        if connection is None:
            return None
        now = time.monotonic()
        is_stale = now - self._last_sent >= self._stale_seconds
        spot = self._pump(connection, is_stale=is_stale)
        while self._held and connection.send(Audio(self._held[0])):
            self._sent_seconds += SPEECH.seconds_of(self._drop())
            self._last_sent = now
        if self._standby.error is not None and self._sent_seconds >= PROOF_SECONDS:
            self._standby.report_success()
        return spot or self._pump(connection, is_stale=False)

    def close(self, deadline: Deadline) -> None:
        """Close the connections. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            close(connection, deadline)
        self._standby.close(deadline)

    def _hold(self, frame: bytes) -> None:
        self._held.append(frame)
        self._held_bytes += len(frame)
        while self._held_bytes > SPEECH.bytes_of(HELD_SECONDS):
            self._drop()

    def _drop(self) -> int:
        """Remove the oldest frame; return its size in bytes."""
        size = len(self._held.popleft())
        self._held_bytes -= size
        return size

    def _connect(self) -> Connection | None:
        self._connection = self._standby.take()
        if self._connection is not None:
            self._connection.send(Audio(bytes(SPEECH.bytes_of(LEAD_SECONDS))))
            self._sent_seconds = LEAD_SECONDS
        return self._connection

    def _pump(self, connection: Connection, *, is_stale: bool) -> Spot | None:
        """Read the messages of the service; return the word that it has found."""
        found = None
        for event in [] if connection.is_closed else connection.pump():
            if isinstance(event, Detection) and not is_stale and found is None:
                found = event
            if isinstance(event, Failure) and event.fatal:
                connection.abort()
                self._standby.report_failure(str(event), permanent=event.permanent, status=event.status)
        if connection.is_closed:
            self._connection = None
            self._standby.maintain()
        now = time.monotonic()
        if found is None or now - self._last_found < self._stale_seconds:
            return None
        self._last_found = now
        late = 0.0 if found.at_seconds is None else max(0.0, self._sent_seconds - found.at_seconds)
        return Spot(found.word or self._word, 1.0, True, min(MAX_AFTER_SECONDS, AFTER_SECONDS + late))
