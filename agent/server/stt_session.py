"""One client of the transcription service: sound in, transcripts out, and an export of what was heard."""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import replace

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from agent.audio.convert import Resampler
from agent.audio.format import SPEECH
from agent.errors import AudioError
from agent.server.recordings import Exports, Recording
from agent.server.stt.engine import RecognizerStream, SttEngine
from agent.server.wire_log import WireLog
from agent.services.protocols import transcription
from agent.services.protocols.codec import Audio, End, Event, Failure, Flush, Log, Message, Transcript, Word

log = logging.getLogger(__name__)

_IDLE_SECONDS = 3600.0


class Listening:
    """Serves one connection in the connection's own thread.

    After ``eof`` come the last final, the export ID as bare text, and the close 1000. ``finish`` ends the session as
    ``eof`` does, but with the close 1001; ``abort`` leaves at once. Both from any thread, at any time.
    """

    def __init__(
        self,
        number: int,
        connection: ServerConnection,
        codec: transcription.Server,
        recogniser: SttEngine,
        exports: Exports,
        wire: WireLog,
    ) -> None:
        self._number, self._connection, self._codec = number, connection, codec
        self._recogniser, self._exports, self._wire = recogniser, exports, wire
        self._lock = threading.Lock()  # the session belongs to one thread at a time: its own, or that of finish
        self._recording: Recording | None = exports.begin()
        self._resampler: Resampler | None = None
        self._ear: RecognizerStream | None = None
        self._offset_seconds = 0.0
        self._heard_seconds = 0.0
        self._over = False

    def run(self) -> None:
        try:
            while not self._over:
                message = self._connection.recv(timeout=_IDLE_SECONDS)
                with self._lock:
                    if not self._over:
                        self._take(message)
        except (ConnectionClosed, TimeoutError):
            return
        except AudioError as error:
            # The protocol has no message for this; every plain text is shown by its clients as what the server says.
            log.error("transcription client %d cannot be heard: %s", self._number, error)
            self._say_plainly(str(error))
        finally:
            with self._lock:
                self._over = True
                self._forget()
            self._cut()

    def finish(self) -> None:
        with self._lock:
            if self._over:
                return
            try:
                self._end(1001, "the server is ending")
            except (AudioError, ConnectionClosed):
                self._cut()

    def abort(self) -> None:
        self._cut()

    def _take(self, message: Message) -> None:
        events = self._codec.receive(message)
        self._wire.message(self._number, transcription.SERVICE, "in", message, events)
        for event in events:
            if isinstance(event, Audio):
                self._hear(event.data)
            elif isinstance(event, Flush):
                self._send_transcripts(self._finish_ear() or [Transcript("", final=True)])
            elif isinstance(event, End):
                self._end(1000, "")
            elif isinstance(event, Log):
                self._send(event)
            elif isinstance(event, Failure):
                log.warning("transcription client %d: got %s, expected %s", self._number, event.came, event.expected)
                self._send(event)
                if event.fatal:
                    # Source: the service itself closes with 1000 whatever went wrong.
                    self._over = True
                    self._close(1000, "")

    def _hear(self, pcm: bytes) -> None:
        rate = self._codec.encoding.sample_rate
        if rate != SPEECH.rate:
            if self._resampler is None or self._resampler.from_rate != rate:
                self._resampler = Resampler(rate, SPEECH.rate)
            pcm = self._resampler.feed(pcm)
        if self._ear is None:
            self._ear = self._recogniser.open()
            self._offset_seconds = self._heard_seconds
        if self._recording is not None:
            self._recording.add_sound(pcm)
        self._heard_seconds += SPEECH.seconds_of(len(pcm))
        self._send_transcripts(self._ear.feed(pcm))

    def _finish_ear(self) -> list[Transcript]:
        ear, self._ear = self._ear, None
        if ear is None:
            return []
        rest: list[Transcript] = []
        if self._resampler is not None and (tail := self._resampler.finish()):
            rest = ear.feed(tail)
        rest += ear.finish()
        ear.close()
        return rest

    def _end(self, code: int, reason: str) -> None:
        self._over = True
        self._send_transcripts(self._finish_ear())
        recording, self._recording = self._recording, None
        if recording is not None:
            self._send(End(self._exports.keep(recording)))
        self._close(code, reason)

    def _send_transcripts(self, transcripts: list[Transcript]) -> None:
        for transcript in transcripts:
            said = replace(transcript, words=tuple(self._shifted(word) for word in transcript.words))
            if said.final and said.text and self._recording is not None:
                self._recording.add_final(said)
            self._send(said)

    def _shifted(self, word: Word) -> Word:
        """Times of words count from the first sample of the session, also after a reset."""
        if not self._offset_seconds:
            return word
        return replace(
            word,
            start_seconds=round(word.start_seconds + self._offset_seconds, 3),
            end_seconds=round(word.end_seconds + self._offset_seconds, 3),
        )

    def _send(self, event: Event) -> None:
        for message in self._codec.send(event):
            self._wire.message(self._number, transcription.SERVICE, "out", message, [event])
            self._connection.send(message)

    def _say_plainly(self, sentence: str) -> None:
        try:
            self._wire.message(self._number, transcription.SERVICE, "out", sentence)
            self._connection.send(sentence)
            # The reason is what the user is told in the end, and holds at most 123 bytes: the cure stands in front.
            self._close(1011, sentence.partition(";")[0].encode()[:120].decode("utf-8", "ignore"))
        except ConnectionClosed:
            return

    def _forget(self) -> None:
        if self._ear is not None:
            self._ear.close()
            self._ear = None
        if self._recording is not None:
            self._exports.drop(self._recording)
            self._recording = None

    def _close(self, code: int, reason: str) -> None:
        self._wire.note(self._number, transcription.SERVICE, "out", "close", f"{code} {reason}".strip())
        self._connection.close(code, reason)

    def _cut(self) -> None:
        try:
            self._connection.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
