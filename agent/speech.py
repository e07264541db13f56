"""One session with a speech service: passages in, PCM out, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.audio.decode import Decoder, decoder
from agent.audio.format import Format
from agent.protocols.events import Audio, Client, End, Event, Failure, Flush, Log, Text
from agent.safe import safe

if TYPE_CHECKING:
    from agent.connection import Connection

log = logging.getLogger(__name__)

MOST_REFUSED = 100
"""Messages of a session that may be passed over before it counts as broken."""


class SpeechSession:
    """Gives a service passages and its sound back as PCM.

    ``speak`` hands over the passages that are new; ``pump`` yields PCM in ``format`` (known once the first of it is
    out) and raises ``AudioError`` where the sound cannot be decoded. Then ``ended`` is true once all that was asked for
    has come, or ``failure`` says what went wrong (``permanent``: and always will). ``asked`` passages were given.
    """

    def __init__(self, connection: Connection, first_audio_seconds: float) -> None:
        self.connection = connection
        self.asked = 0
        self.ended = False
        self.failure: str | None = None
        self.permanent = False
        self._codec: Client = connection.codec
        self._owed = False  # whether nothing has come since a passage was given
        self._complete = False
        self._refused = 0
        self._decoder: Decoder | None = None
        self._patience = first_audio_seconds
        self._heard_at = time.monotonic()
        self._quiet_told = False

    @property
    def format(self) -> Format | None:
        return self._decoder.format if self._decoder else None

    @property
    def full(self) -> bool:
        """Whether the service takes no further passage in this session."""
        return self._codec.one_passage and self.asked > 0

    def speak(self, passages: list[str], *, complete: bool) -> None:
        """Hands over what is new. ``complete``: nothing will follow, which is the service's to know as well."""
        for passage in passages:
            if self.full:
                break  # and this session gets its end, or it would never be over and the next one never begin
            if not self._awaiting:
                self._heard_at = time.monotonic()  # it had nothing to say until now
            self.connection.send(Text(passage))
            self.connection.send(Flush())
            self.asked += 1
            self._owed = True
        if (complete or self.full) and not self._complete:
            self._complete = True
            self._heard_at = time.monotonic()
            self.connection.send(End())

    def pump(self) -> Iterator[bytes]:
        """What has arrived, as PCM; yields nothing while nothing has."""
        events = self.connection.pump()
        if events:
            self._heard_at = time.monotonic()
            self._quiet_told = False
        elif self._overdue() and not self._quiet_told:
            self._quiet_told = True
            events = self._codec.quiet()
        if not events and self._awaiting and time.monotonic() - self._heard_at > self._stall_seconds():
            kind = "no sound came" if self._decoder is None else "the sound stopped"
            self._fail(f"{kind} for {self._stall_seconds():g} s")
        for event in events:
            yield from self._take(event)
        if self.connection.ended and not self.ended and self.failure is None and not self.connection.pending:
            self._fail("the connection ended")

    def next_timeout(self) -> float | None:
        """Seconds until ``pump`` has something to decide although nothing arrives."""
        waits = []
        if self._awaiting:
            waits.append(self._stall_seconds())
        if self._codec.quiet_seconds is not None and not self._quiet_told:
            waits.append(self._codec.quiet_seconds)
        return max(0.0, min(waits) - (time.monotonic() - self._heard_at)) if waits else None

    @property
    def _awaiting(self) -> bool:
        # Not every service says where a passage ends. While text is still to come, silence after some sound may be
        # just that; after the last of it, or before any sound, it is the service that owes something.
        return self._owed or self._complete

    def _stall_seconds(self) -> float:
        # A codec that knows what silence means says so; its word outranks the general patience.
        return max(self._patience, (self._codec.quiet_seconds or 0.0) * 2)

    def _overdue(self) -> bool:
        quiet = self._codec.quiet_seconds
        return quiet is not None and time.monotonic() - self._heard_at >= quiet

    def _take(self, event: Event) -> Iterator[bytes]:
        match event:
            case Audio(data, sample_rate):
                self._owed = False
                if self._decoder is None:
                    encoding = self._codec.encoding
                    rate = sample_rate or encoding.sample_rate
                    self._decoder = decoder(encoding.container, encoding.samples, rate, encoding.channels)
                pcm = self._decoder.feed(data)
                if pcm:
                    yield pcm
            case Flush():
                self._owed = False
            case End():
                if self._decoder is not None and (rest := self._decoder.finish()):
                    yield rest
                self.ended = True
            case Failure(fatal=True):
                self._fail(f"it sent {event.came}; expected {event.expected}", permanent=event.permanent)
            case Failure():
                self._refused += 1
                if self._refused == 1:
                    log.warning("%s: passed over %s; expected %s", self.connection.service, event.came, event.expected)
                if self._refused > MOST_REFUSED:
                    self._fail(f"{self._refused} of its messages made no sense, the last {event.came}")
            case Log(message):
                log.info("%s says: %s", self.connection.service, safe(message, 200))

    def _fail(self, reason: str, *, permanent: bool = False) -> None:
        if self.failure is None and not self.ended:
            self.failure = f"{self.connection.service}: {reason}"
            self.permanent = permanent
