"""One client connection of the transcription service: decodes audio, sends transcripts, records the session."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque

from websockets.exceptions import ConnectionClosed

from agent.audio.convert import Resampler
from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.server.connection import ClientConnection
from agent.server.recognition_load import ClientLoad, RecognitionLoad
from agent.server.recordings import RecordingStore, SessionRecording
from agent.server.stt.engine import RecognizerStream, SttEngine
from agent.server.wire_log import WireLog
from agent.services.protocols import transcription
from agent.services.protocols.codec import Audio, EarlyFinal, End, Event, Failure, Flush, Log, Message, Transcript, Word
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

_IDLE_SECONDS = 3600.0
_BUSY_SECONDS = 10.0
"""Interval of the messages to a client that waits for a worker, as in melvin-asr."""
_POLL_SECONDS = 0.25
_MAX_HELD_BYTES = 8 << 20
"""Maximum size of the received messages that wait: about four minutes of audio at 16 kHz. Messages wait if the client
waits for a worker or sends faster than its audio is recognized (a file). At this limit, the session reads no further
messages, and the library then reads no pings."""
_MAX_REASON_BYTES = 120  # RFC 6455, 5.5: a control frame holds 125 bytes, two of them for the code


class SttServerSession:
    """Serves one connection. ``run`` belongs to the connection's thread; ``finish`` and ``abort`` are thread-safe.

    The messages of a client wait until its audio can be recognized in real time; meanwhile the client receives the
    service's message that no worker is available. After ``eof``, the session sends the last final and the export ID as
    plain text, and closes the connection with code 1000.
    """

    def __init__(
        self,
        number: int,
        connection: ClientConnection,
        codec: transcription.Server,
        engine: SttEngine,
        recordings: RecordingStore,
        wire_log: WireLog,
        load: RecognitionLoad,
    ) -> None:
        self._number, self._connection, self._codec = number, connection, codec
        self._engine, self._recordings, self._wire_log = engine, recordings, wire_log
        self._load = load
        self._client_load: ClientLoad | None = None  # None: not admitted yet
        self._held: deque[Message] = deque()  # received, but not handled yet
        self._held_bytes = 0
        self._lock = threading.Lock()  # serializes the handling of messages and finish()
        self._recording: SessionRecording | None = recordings.start()
        self._resampler: Resampler | None = None
        self._stream: RecognizerStream | None = None
        self._partial = Transcript("", is_final=False)  # the last partial since the last final
        self._offset_seconds = 0.0  # position of the stream's first sample in the session
        self._received_seconds = 0.0
        self._is_over = False

    def run(self) -> None:
        """Serve until the session ends, the connection closes, or the client sends nothing for one hour."""
        try:
            while not self._is_over:
                message = self._next_message()
                while self._client_load is None and not self._is_over:
                    self._admit()
                with self._lock:
                    if not self._is_over:
                        self._receive(message)
        except (ConnectionClosed, TimeoutError):
            return
        except AudioError as error:
            # The protocol has no error message. Its clients show plain text as a message of the server.
            log.error("speech server: recognition failed, client=%d, error=%s", self._number, error)
            self._fail(str(error))
        finally:
            try:
                with self._lock:
                    self._is_over = True
                    self._discard()
            finally:
                # Also after an error: a client that stays registered would keep further clients waiting.
                if self._client_load is not None:
                    self._load.leave(self._client_load)
                self._connection.disconnect()

    def finish(self) -> None:
        """End the session like ``eof``, but close with code 1001."""
        with self._lock:
            if self._is_over:
                return
            try:
                self._end(1001, "the server is ending")
            except (AudioError, ConnectionClosed):
                self._connection.disconnect()

    def abort(self) -> None:
        """Disconnect immediately."""
        self._connection.disconnect()

    def _admit(self) -> None:
        self._client_load = self._load.admit(0.0)
        if self._client_load is None:
            log.info("speech server: client waits, recognition is busy, client=%d", self._number)
            self._send(
                Failure(transcription.NAME, "another client", "a free worker", retry_after_seconds=_BUSY_SECONDS)
            )
            deadline = Deadline(_BUSY_SECONDS)
            while self._client_load is None and not deadline.is_expired:
                self._client_load = self._load.admit(_POLL_SECONDS)
                self._hold_messages()

    def _next_message(self) -> Message:
        if not self._held:
            self._hold(self._connection.recv(timeout=_IDLE_SECONDS))
        self._hold_messages()  # the client may send faster than its audio is recognized
        message = self._held.popleft()
        self._held_bytes -= len(message)
        return message

    def _hold_messages(self) -> None:
        """Take all received messages from the library: it reads no ping and no close behind waiting messages.

        The messages before a close are still handled: a client may send its end mark and close at once.
        """
        while self._held_bytes < _MAX_HELD_BYTES:
            try:
                message = self._connection.recv(timeout=0)
            except (TimeoutError, ConnectionClosed):
                return
            self._hold(message)

    def _hold(self, message: Message) -> None:
        self._held.append(message)
        self._held_bytes += len(message)

    def _receive(self, message: Message) -> None:
        events = self._codec.receive(message)
        self._wire_log.message(self._number, transcription.NAME, "in", message, events)
        for event in events:
            if isinstance(event, Audio):
                transcripts = self._recognize(event.data) if event.data else []
                if self._codec.answers_each_audio:
                    transcripts = [_merge_finals(transcripts) or (transcripts[-1] if transcripts else self._partial)]
                self._send_transcripts(transcripts)
            elif isinstance(event, Flush):
                self._send_transcripts(self._finish_stream() or [Transcript("", is_final=True)])
            elif isinstance(event, EarlyFinal):
                early = Transcript("", is_final=True, is_early=True)
                self._send_transcripts([early] if self._stream is None else self._stream.early_final())
            elif isinstance(event, End):
                self._end(1000, "")
            elif isinstance(event, Log):
                self._send(event)
            elif isinstance(event, Failure):
                log.warning(
                    "speech server: message rejected, service=%s, client=%d, received=%s, expected=%s",
                    transcription.NAME, self._number, event.received, event.expected,
                )  # fmt: skip
                self._send(event)
                if event.fatal:
                    # The service closes with 1000 after every error (source: the service's own server).
                    self._is_over = True
                    self._close(1000, "")

    def _recognize(self, pcm: bytes) -> list[Transcript]:
        """Recognize audio at the client's sample rate."""
        rate = self._codec.encoding.sample_rate
        transcripts: list[Transcript] = []
        if self._resampler is not None and self._resampler.from_rate != rate:
            transcripts = self._finish_resampler()
        if self._resampler is None and rate != SPEECH.rate:
            self._resampler = Resampler(rate, SPEECH.rate)
        return transcripts + self._feed(pcm if self._resampler is None else self._resampler.feed(pcm))

    def _finish_resampler(self) -> list[Transcript]:
        """Recognize the samples that the resampler still holds, and release it."""
        resampler, self._resampler = self._resampler, None
        tail = resampler.finish() if resampler is not None else b""
        return self._feed(tail) if tail else []

    def _feed(self, pcm: bytes) -> list[Transcript]:
        """Record and recognize audio in the format ``SPEECH``."""
        if self._stream is None:
            self._stream = self._engine.open()
            self._offset_seconds = self._received_seconds
        if self._recording is not None:
            self._recording.add_audio(pcm)
        seconds = SPEECH.seconds_of(len(pcm))
        self._received_seconds += seconds
        start = time.monotonic()
        transcripts = self._stream.feed(pcm)
        if self._client_load is not None:
            self._load.report(self._client_load, time.monotonic() - start, seconds)
        return transcripts

    def _finish_stream(self) -> list[Transcript]:
        transcripts = self._finish_resampler()
        stream, self._stream = self._stream, None
        if stream is None:
            return transcripts
        with contextlib.closing(stream):
            return transcripts + stream.finish()

    def _end(self, code: int, reason: str) -> None:
        self._is_over = True
        transcripts = self._finish_stream()
        if self._codec.answers_each_audio:  # the end mark gets exactly one answer as well: a final
            transcripts = [_merge_finals(transcripts) or Transcript("", is_final=True)]
        self._send_transcripts(transcripts)
        recording, self._recording = self._recording, None
        if recording is not None:
            self._send(End(self._recordings.add(recording)))
        self._close(code, reason)

    def _send_transcripts(self, transcripts: list[Transcript]) -> None:
        for transcript in transcripts:
            shifted = transcript._replace(words=tuple(self._shifted(word) for word in transcript.words))
            is_recorded = shifted.is_final and not shifted.is_early
            if is_recorded and shifted.text and self._recording is not None:
                self._recording.add_final(shifted)
            self._send(shifted)
            if not shifted.is_early:
                self._partial = Transcript("", is_final=False) if shifted.is_final else shifted

    def _shifted(self, word: Word) -> Word:
        """Return the word with times that count from the start of the session; a reset starts a new stream."""
        if not self._offset_seconds:
            return word
        return word._replace(
            start_seconds=round(word.start_seconds + self._offset_seconds, 3),
            end_seconds=round(word.end_seconds + self._offset_seconds, 3),
        )

    def _send(self, event: Event) -> None:
        for message in self._codec.send(event):
            self._wire_log.message(self._number, transcription.NAME, "out", message, [event])
            self._connection.send(message)

    def _fail(self, message: str) -> None:
        try:
            self._wire_log.message(self._number, transcription.NAME, "out", message)
            self._connection.send(message)
            # Clients show the close reason to the user. The part of the message before ";" names the remedy.
            reason = message.partition(";")[0].encode()[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
            self._close(1011, reason)
        except ConnectionClosed:
            return

    def _discard(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._recording is not None:
            self._recordings.discard(self._recording)
            self._recording = None

    def _close(self, code: int, reason: str) -> None:
        self._wire_log.note(self._number, transcription.NAME, "out", "close", f"{code} {reason}".strip())
        self._connection.close(code, reason)


def _merge_finals(transcripts: list[Transcript]) -> Transcript | None:
    """Return the finals of ``transcripts`` as one final; ``None`` if there is no final."""
    finals = [each for each in transcripts if each.is_final]
    if len(finals) < 2:
        return finals[0] if finals else None
    text = " ".join(each.text.strip() for each in finals)
    return Transcript(text, is_final=True, words=tuple(word for each in finals for word in each.words))
