"""Sends passages of text to a speech service over one connection, and decodes the audio."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.audio.decoders.decoder import Decoder, create_decoder
from agent.audio.format import Format
from agent.errors import ServiceError
from agent.services.protocols.codec import Audio, Client, End, Event, Failure, Flush, Log, Text
from agent.services.service_log import ServiceLog

if TYPE_CHECKING:
    from agent.audio.convert import FormatConverter
    from agent.services.connection.websocket import Connection

log = logging.getLogger(__name__)

MAX_SESSION_CHARACTERS = 800
"""Limit for the text of a session. Services send audio faster than it is played. The audio of a longer session would
not fit into the ring buffer; the stage would read the socket slowly, and the ping of the service would time out."""

AUDIO_BASE_SECONDS, AUDIO_SECONDS_PER_CHARACTER = 600.0, 2.0
"""Limit for the audio of a session, because nothing else ends the endless audio of a faulty service. The base is large,
because a short text can produce much audio (markup, pauses)."""

SETTLED_SECONDS = 2.0
"""Time without an event after which the audio of a passage counts as complete, if the service does not mark the end. It
is sufficient because services send audio faster than it is played."""

MIN_GAP_SECONDS = 10.0
"""Shortest timeout for a gap in the audio of a session. ``first_audio_seconds`` may be one second, which is too short
for a gap."""

LATER_AUDIO_SECONDS = 30.0
"""Shortest timeout for the first audio of a later session of an utterance, when no other service can speak it any more.
Fish Audio may compute for more than 20 s without a message (fish-audio-python #47)."""

_PROGRESS = (Audio, Flush)

MIN_CLOSE_CODE = 1000
"""The lowest WebSocket close code. HTTP status codes are lower."""

NORMAL_CLOSE_CODES = (1000, 1001, 1005)
"""RFC 6455, 7.4.1: normal closure, going away, no status."""


class TtsSession:
    """Sends passages over one connection and decodes the audio to PCM.

    ``speak`` sends new passages; ``pump`` yields PCM in ``format``. The session is over when ``has_ended`` or ``error``
    is set. If the connection ends when every passage is answered, the session ends without an error. If the service
    closes the connection normally between two passages, the session also ends without an error, and ``passage_count``
    no longer counts the passages that are not answered.
    Not thread-safe; owned by the synthesizer thread.

    Args:
        connection: an open connection; the session becomes its only user.
        first_audio_seconds: timeout for the first audio.
        format: format of the PCM, if an earlier session or a chime has set it; ``None`` for that of the first audio.
        can_fall_back: whether the utterance has no audio yet, so that another service can still speak it.

    Attributes:
        passage_count: number of passages that the session has sent and does not leave to another session.
        has_ended: whether the session has ended without an error.
        has_end_mark: whether the service has marked the end of the audio.
        has_audio: whether ``pump`` has yielded PCM.
        error: the error that ended the session.
        is_lost: whether ``error`` was caused by the end of the connection, not by a message of the service.
        format: the format of the PCM (s16le); ``None`` before the first audio if the argument is ``None``.
    """

    def __init__(
        self,
        connection: Connection,
        first_audio_seconds: float,
        format: Format | None = None,
        *,
        can_fall_back: bool = True,
    ) -> None:
        self.connection = connection
        self.passage_count = 0
        self.has_ended = False
        self.has_end_mark = False
        self.has_audio = False
        self.error: ServiceError | None = None
        self.is_lost = False
        self.format = format
        self._can_fall_back = can_fall_back
        self._codec: Client = connection.codec
        self._request_id = f"req_{os.urandom(6).hex()}"  # as in gnani-vachana 0.8.2
        self._is_waiting = False  # whether no audio has arrived since the last passage was sent
        self._text_length = 0
        self._audio_seconds = 0.0
        self._is_full = False
        self._answered_count = 0  # passages whose end the service has marked
        self._is_in_passage = False  # whether audio arrived after the last mark of an end
        self._end_sent = False
        self._log = ServiceLog(connection.service)
        self._decoder: Decoder | None = None
        self._rate = 0  # of the decoder
        self._converter: FormatConverter | None = None
        self._first_audio_seconds = first_audio_seconds
        self._received_at = self._progress_at = time.monotonic()  # last event; last event of a passage
        self._silence_seconds = 0.0  # length of the silence before the last event
        self._quiet_reported = False

    @property
    def failure(self) -> str | None:
        """The message of the error, or ``None``."""
        return None if self.error is None else str(self.error)

    @property
    def spoken_count(self) -> int:
        """The number of passages whose audio is complete, as far as the service marks it."""
        return min(self._answered_count, self.passage_count)

    @property
    def is_full(self) -> bool:
        """Whether the session accepts no further passage."""
        return self._is_full or (self._codec.is_single_use and self.passage_count > 0)

    def speak(self, passages: list[str], *, is_complete: bool) -> None:
        """Send new passages.

        Args:
            passages: the passages after those that were already sent. A full session leaves the rest to the next one.
            is_complete: whether no further passage follows. Then the end mark is sent.
        """
        for passage in passages:
            length = self._text_length + len(passage)
            self._is_full = self._is_full or (self.passage_count > 0 and length > MAX_SESSION_CHARACTERS)
            if self.is_full:
                break
            if not self._is_awaiting_audio:
                self._received_at = self._progress_at = time.monotonic()
            self.connection.send(Text(passage, self._request_id))
            self.connection.send(Flush(self._request_id))
            self.passage_count += 1
            self._text_length += len(passage)
            self._is_waiting = True
        # Send the end mark also in a full session: otherwise it never ends, and the next session never starts.
        if (is_complete or self.is_full) and not self._end_sent:
            self._end_sent = True
            self._received_at = self._progress_at = time.monotonic()
            self.connection.send(End())

    def pump(self) -> Iterator[bytes]:
        """Read from the connection and yield the new PCM.

        Raises:
            AudioError: the audio cannot be decoded.
        """
        events = self.connection.pump()
        now = time.monotonic()
        self._silence_seconds = now - self._received_at
        if events or self.connection.has_partial_frame:  # part of a long message counts as received
            self._received_at = now
            self._quiet_reported = False
        elif self._is_quiet() and not self._quiet_reported:
            self._quiet_reported = True
            events = self._codec.receive_timeout()
        has_progress = _has_progress(events)
        is_stalled = not has_progress and self._is_awaiting_audio and now - self._progress_at > self._stall_seconds()
        if is_stalled and not self.has_audio:
            events = [*events, *self._codec.receive_timeout()]
            has_progress = _has_progress(events)
        if has_progress:
            self._progress_at, is_stalled = now, False
        for event in events:
            yield from self._process(event)
        if is_stalled:
            kind = "no further audio" if self.has_audio else "no audio"
            self._fail(f"{kind} for {self._stall_seconds():g} s")
        if self.connection.is_closed and not self.has_ended and self.error is None and not self.connection.has_pending:
            if self._has_answered_all():
                yield from self._close()
            else:
                self._fail("the connection ended", is_lost=True)

    def next_timeout(self) -> float | None:
        """Return the seconds after which ``pump`` must be called even if no data arrives; ``None`` for no limit."""
        times = []
        if self._is_awaiting_audio:
            times.append(self._progress_at + self._stall_seconds())
        if self._codec.receive_timeout_seconds is not None and not self._quiet_reported:
            times.append(self._received_at + self._codec.receive_timeout_seconds)
        return max(0.0, min(times) - time.monotonic()) if times else None

    @property
    def _is_awaiting_audio(self) -> bool:
        # Not every service marks the end of a passage. Before the session's end mark, silence after some audio may be
        # the end of the passage. After the end mark, or before any audio, the service still has to answer.
        return self._is_waiting or self._end_sent

    def _stall_seconds(self) -> float:
        # The timeout for the first audio applies while another service can still speak the utterance. After the first
        # audio, the timeout of the codec counts: it depends on how long the service pauses between two pieces of audio.
        if not self.has_audio:
            first = self._first_audio_seconds
            return first if self._can_fall_back else max(first, LATER_AUDIO_SECONDS)
        return max(self._first_audio_seconds, MIN_GAP_SECONDS, (self._codec.receive_timeout_seconds or 0.0) * 2)

    def _is_quiet(self) -> bool:
        quiet_seconds = self._codec.receive_timeout_seconds
        return quiet_seconds is not None and time.monotonic() - self._received_at >= quiet_seconds

    def _process(self, event: Event) -> Iterator[bytes]:
        match event:
            case Audio(data, sample_rate):
                self._is_in_passage = True
                if self._decoder is None or (sample_rate is not None and sample_rate != self._rate):
                    yield from self._start_decoder(sample_rate)
                assert self._decoder is not None
                if pcm := self._convert(self._decoder.feed(data)):
                    self.has_audio, self._is_waiting = True, False
                    yield pcm
            case Flush():
                self._is_waiting = self._is_in_passage = False
                self._answered_count += 1
            case End(is_marked=is_marked):
                self.has_end_mark = is_marked
                yield from self._close()
            case Failure(fatal=True) if not (event.permanent or event.is_end_missing) and self._has_answered_all():
                log.info("%s: session ended between two passages, received=%s", self.connection.service, event.received)
                yield from self._close()
            case Failure(fatal=True) if not event.permanent and self._was_closed_between_passages(event):
                log.info(
                    "%s: connection closed between two passages, answered=%d, sent=%d, received=%s",
                    self.connection.service,
                    self._answered_count,
                    self.passage_count,
                    event.received,
                )
                self.passage_count = self._answered_count  # the next connection speaks the rest
                yield from self._close()
            case Failure(fatal=True):
                self._fail(
                    f"received {event.received}; expected {event.expected}",
                    permanent=event.permanent,
                    status=event.status,
                    retry_after_seconds=event.retry_after_seconds,
                    # An error that the service reports has an HTTP status or none, even if the service then closes the
                    # connection. Only the loss of the connection has a close code as status.
                    is_lost=self.connection.is_closed and (event.status or 0) >= MIN_CLOSE_CODE,
                )
            case Failure():
                if reason := self._log.count_refused(event):
                    self._fail(reason)
            case Log(message):
                self._log.log_message(message)

    def _start_decoder(self, sample_rate: int | None) -> Iterator[bytes]:
        """Start a decoder; if there is one already (the sample rate has changed), yield the rest of its PCM."""
        if self._decoder is not None:
            yield from self._rest(self._convert(self._decoder.finish()))
        encoding = self._codec.encoding
        self._rate = sample_rate or encoding.sample_rate
        self._decoder = create_decoder(encoding.container, encoding.samples, self._rate, encoding.channels)

    def _has_answered_all(self) -> bool:
        """Return whether the audio of every passage is complete, as far as the service marks it."""
        if not self.passage_count or self._is_waiting:
            return False
        if self._answered_count:
            return self._answered_count >= self.passage_count
        # If the service marks no ends, only a normal close some time after the last audio shows that the passage is
        # complete.
        is_normal = self.connection.is_closed and self.connection.close_code in NORMAL_CLOSE_CODES
        return is_normal and not self._end_sent and self._silence_seconds >= SETTLED_SECONDS

    def _was_closed_between_passages(self, failure: Failure) -> bool:
        """Return whether the service closed the connection after a complete passage, before any audio of the next one.

        Some servers close the connection after each text, and others when they are stopped. A session in which no
        passage was answered fails, so that each new connection completes at least one passage.
        """
        code = self.connection.close_code
        is_normal = self.connection.is_closed and code in NORMAL_CLOSE_CODES and failure.status == code
        return is_normal and 0 < self._answered_count < self.passage_count and not self._is_in_passage

    def _convert(self, pcm: bytes) -> bytes:
        """Return PCM converted to the format of the session, so that no audio is played at the wrong speed."""
        source = self._decoder.format if self._decoder is not None else None
        if not pcm or source is None:
            return b""
        # A sound card plays one or two channels; more channels are mixed to one.
        self.format = self.format or (source if source.channels <= 2 else Format(source.rate))
        rest = b""
        if self._converter is not None and self._converter.source != source:
            rest, self._converter = self._converter.finish(), None
        # Compare the identity first, which is faster: this runs for each piece, and most have the same Format object.
        if self._converter is None and source is not self.format and source != self.format:
            from agent.audio.convert import FormatConverter  # imported here because most sessions keep one format

            self._converter = FormatConverter(source, self.format)
        converted = pcm if self._converter is None else self._converter.feed(pcm)
        self._audio_seconds += self.format.seconds_of(len(converted))
        if self._audio_seconds > AUDIO_BASE_SECONDS + AUDIO_SECONDS_PER_CHARACTER * self._text_length:
            self._fail(f"more audio than {self._text_length} characters can need: {self._audio_seconds:.0f} s")
        return rest + converted if rest else converted

    def _rest(self, pcm: bytes) -> Iterator[bytes]:
        if pcm:
            self.has_audio = True
            yield pcm

    def _close(self) -> Iterator[bytes]:
        if self._decoder is not None:
            yield from self._rest(self._convert(self._decoder.finish()))
        if self._converter is not None:
            yield from self._rest(self._converter.finish())
        self.has_ended = True
        self._log.close()

    def _fail(
        self,
        reason: str,
        *,
        permanent: bool = False,
        status: int | None = None,
        retry_after_seconds: float | None = None,
        is_lost: bool = False,
    ) -> None:
        if self.error is None and not self.has_ended:
            self._log.close()
            self.is_lost = is_lost
            self.error = ServiceError(
                self.connection.service,
                reason,
                permanent=permanent,
                status=status,
                retry_after_seconds=retry_after_seconds,
            )


def _has_progress(events: list[Event]) -> bool:
    return any(isinstance(event, _PROGRESS) for event in events)
