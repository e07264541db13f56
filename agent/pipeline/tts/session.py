"""One session with a speech service: passages in, PCM out, and how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.audio.convert import FormatConverter
from agent.audio.decoders.decoder import Decoder, create_decoder
from agent.audio.format import Format
from agent.errors import ServiceError
from agent.services.protocols.codec import Audio, Client, End, Event, Failure, Flush, Log, Text
from agent.services.service_log import ServiceLog

if TYPE_CHECKING:
    from agent.services.connection.websocket import Connection

log = logging.getLogger(__name__)

LONGEST_SESSION = 800
"""Characters of text. Services send faster than it is played: of a longer session the sound would find no room, and a
socket that is not read looks dead to whoever pings it."""

SPARE_SECONDS, SLOWEST_SECONDS = 600.0, 2.0
"""No voice needs more sound than the first, and the second for every character: a service that sends more has gone
mad, and nothing else would ever end it. The first is generous: what a short text means is the service's business."""

SETTLED_SECONDS = 2.0
"""After so long a silence the sound of a passage has come, where a service does not say so: they send it faster than it
is heard."""


class TtsSession:
    """Gives a service passages and its sound back as PCM.

    ``speak`` hands over the passages that are new; ``pump`` yields PCM in ``format`` (known once the first of it is
    out; ``wanted`` where it has to be that of a session before) and raises ``AudioError`` where the sound cannot be
    decoded. Then ``ended`` is true once all that was asked for has come, or ``error`` says what went wrong. ``asked``
    passages were given. A connection that ends while nothing is owed, between two sentences, ends the session.
    """

    def __init__(self, connection: Connection, first_audio_seconds: float, wanted: Format | None = None) -> None:
        self.connection = connection
        self.asked = 0
        self.ended = False
        self.error: ServiceError | None = None
        self.format = wanted
        self._codec: Client = connection.codec
        self._owed = False  # whether nothing has come since a passage was given
        self._given = 0  # characters
        self._came = 0.0  # seconds of sound
        self._filled = False  # there is a passage that was not taken
        self._answered = 0  # passages of which the service has said that they are complete
        self._complete = False
        self._remarks = ServiceLog(connection.service)
        self._decoder: Decoder | None = None
        self._rate = 0  # that the decoder was told
        self._refit: FormatConverter | None = None
        self._patience = first_audio_seconds
        self._heard_at = self._moved_at = time.monotonic()  # when anything came; and when something that was asked for
        self._silence = 0.0  # how long there had been none when something came last
        self._quiet_told = False

    @property
    def failure(self) -> str | None:
        return None if self.error is None else str(self.error)

    @property
    def full(self) -> bool:
        """Whether this session takes no further passage."""
        return self._filled or (self._codec.is_single_use and self.asked > 0)

    def speak(self, passages: list[str], *, complete: bool) -> None:
        """Hands over what is new. ``complete``: nothing will follow, which is the service's to know as well."""
        for passage in passages:
            self._filled = self._filled or (self.asked > 0 and self._given + len(passage) > LONGEST_SESSION)
            if self.full:
                break  # and this session gets its end, or it would never be over and the next one never begin
            if not self._awaiting:
                self._heard_at = self._moved_at = time.monotonic()  # it had nothing to say until now
            self.connection.send(Text(passage))
            self.connection.send(Flush())
            self.asked += 1
            self._given += len(passage)
            self._owed = True
        if (complete or self.full) and not self._complete:
            self._complete = True
            self._heard_at = self._moved_at = time.monotonic()
            self.connection.send(End())

    def pump(self) -> Iterator[bytes]:
        """What has arrived, as PCM; yields nothing while nothing has."""
        events = self.connection.pump()
        self._silence = time.monotonic() - self._heard_at
        if events:
            self._heard_at = time.monotonic()
            self._quiet_told = False
        elif self._overdue() and not self._quiet_told:
            self._quiet_told = True
            events = self._codec.receive_timeout()
        if any(isinstance(event, Audio | Flush) for event in events):
            self._moved_at = time.monotonic()
        stalled = self._awaiting and time.monotonic() - self._moved_at > self._stall_seconds()
        for event in events:
            yield from self._take(event)
        if stalled:
            kind = "no sound came" if self._decoder is None else "the sound stopped"
            self._fail(f"{kind} for {self._stall_seconds():g} s")
        if self.connection.is_closed and not self.ended and self.failure is None and not self.connection.has_pending:
            if self._owes_nothing():
                yield from self._close()
            else:
                self._fail("the connection ended")

    def next_timeout(self) -> float | None:
        """Seconds until ``pump`` has something to decide although nothing arrives."""
        waits = []
        if self._awaiting:
            waits.append(self._moved_at + self._stall_seconds())
        if self._codec.receive_timeout_seconds is not None and not self._quiet_told:
            waits.append(self._heard_at + self._codec.receive_timeout_seconds)
        return max(0.0, min(waits) - time.monotonic()) if waits else None

    @property
    def _awaiting(self) -> bool:
        # Not every service says where a passage ends. While text is still to come, silence after some sound may be
        # just that; after the last of it, or before any sound, it is the service that owes something.
        return self._owed or self._complete

    def _stall_seconds(self) -> float:
        # A codec that knows what a silence between sounds means says so; its word outranks the general patience,
        # which is for the first sound of an utterance, while another service could still speak it.
        if self._decoder is None and self.format is None:
            return self._patience
        return max(self._patience, (self._codec.receive_timeout_seconds or 0.0) * 2)

    def _overdue(self) -> bool:
        quiet = self._codec.receive_timeout_seconds
        return quiet is not None and time.monotonic() - self._heard_at >= quiet

    def _take(self, event: Event) -> Iterator[bytes]:
        match event:
            case Audio(data, sample_rate):
                self._owed = False
                if self._decoder is None or (sample_rate is not None and sample_rate != self._rate):
                    yield from self._decode_anew(sample_rate)
                assert self._decoder is not None
                yield from self._fitted(self._decoder.feed(data))
            case Flush():
                self._owed = False
                self._answered += 1
            case End():
                yield from self._close()
            case Failure(fatal=True) if not event.permanent and self._owes_nothing():
                log.info(
                    "%s: the session ended between two sentences, with %s", self.connection.service, event.received
                )
                yield from self._close()
            case Failure(fatal=True):
                self._fail(
                    f"it sent {event.received}; expected {event.expected}",
                    permanent=event.permanent,
                    status=event.status,
                    retry_after_seconds=event.retry_after_seconds,
                )
            case Failure():
                if reason := self._remarks.log_refused(event):
                    self._fail(reason)
            case Log(message):
                self._remarks.log_message(message)

    def _decode_anew(self, sample_rate: int | None) -> Iterator[bytes]:
        """From the first sound on, and from where the service tells another rate than before."""
        if self._decoder is not None:
            yield from self._fitted(self._decoder.finish())
        encoding = self._codec.encoding
        self._rate = sample_rate or encoding.sample_rate
        self._decoder = create_decoder(encoding.container, encoding.samples, self._rate, encoding.channels)

    def _owes_nothing(self) -> bool:
        """Whether every passage it was given has been answered whole, as far as the service tells."""
        if not self.asked or self._owed:
            return False
        if self._answered:
            return self._answered >= self.asked
        # It does not say where a passage ends: then only a goodbye, some time after the last sound, tells as much.
        polite = self.connection.is_closed and self.connection.close_code in _GOODBYES
        return polite and not self._complete and self._silence >= SETTLED_SECONDS

    def _fitted(self, pcm: bytes) -> Iterator[bytes]:
        """The sound in the format that the first of it had: nothing is ever heard at the wrong speed."""
        came = self._decoder.format if self._decoder is not None else None
        if not pcm or came is None:
            return
        self.format = self.format or came
        if self._refit is not None and self._refit.source != came:
            yield from _some(self._refit.finish())
            self._refit = None
        if self._refit is None and came != self.format:
            self._refit = FormatConverter(came, self.format)
        fitted = pcm if self._refit is None else self._refit.feed(pcm)
        self._came += self.format.seconds_of(len(fitted))
        if self._came > SPARE_SECONDS + SLOWEST_SECONDS * self._given:
            self._fail(f"it sends more sound than {self._given} characters can be: {self._came:.0f} s")
        yield from _some(fitted)

    def _close(self) -> Iterator[bytes]:
        if self._decoder is not None:
            yield from self._fitted(self._decoder.finish())
        if self._refit is not None:
            yield from _some(self._refit.finish())
        self.ended = True

    def _fail(
        self,
        reason: str,
        *,
        permanent: bool = False,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        if self.error is None and not self.ended:
            self.error = ServiceError(
                self.connection.service,
                reason,
                permanent=permanent,
                status=status,
                retry_after_seconds=retry_after_seconds,
            )


_GOODBYES = (1000, 1001, 1005)


def _some(pcm: bytes) -> Iterator[bytes]:
    if pcm:
        yield pcm
