"""One client connection of a speech service: decodes text and sends its speech while more text arrives."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Generator, Iterator

from websockets.exceptions import ConnectionClosed

from agent.audio.convert import scale
from agent.audio.format import Format
from agent.errors import AudioError
from agent.server.connection import ClientConnection
from agent.server.encoders.encoder import EncodedStream
from agent.server.options import ServerOptions
from agent.server.tts import sentences
from agent.server.tts.engine import TtsEngine, VoiceOptions
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import (
    Audio,
    Encoding,
    End,
    Event,
    Failure,
    Flush,
    Message,
    Server,
    ServerSide,
    Text,
)
from agent.system.named_tuple import NamedTuple

log = logging.getLogger(__name__)

CHUNK_SECONDS = 0.15
"""Audio that is encoded at once."""
EARLY_CHARACTERS = 200
"""Length from which the complete sentences of a passage are spoken before its end arrives."""
_MAX_TEXT_CHARACTERS = 1 << 20
_MAX_JOBS = 1024
"""Maximum number of queued passages and ends. While the queue is full, the session reads no messages, and the library
then reads no ping, pong or close frame. The limit is therefore high: a book that is sent at once must fit."""
_MAX_QUEUED_CHARACTERS = 1 << 20
_MAX_SESSION_SECONDS = 3600.0


class _Speak(NamedTuple):
    text: str
    options: VoiceOptions
    encoding: Encoding
    request_id: str | None
    volume_percent: int


class _Close(NamedTuple):
    code: int
    reason: str = ""


_Job = _Speak | Flush | End | _Close


class TtsServerSession:
    """Serves one connection. ``run`` belongs to the connection's thread; ``finish`` and ``abort`` are thread-safe.

    The connection's thread decodes; a second thread speaks and sends. A passage is spoken when its end arrives. The
    complete sentences of a passage of at least 200 characters are spoken before that. If text or the end of a passage
    arrives with another request ID than the pending text, the pending text is dropped: LiveKit abandons a context in
    this way when the user interrupts. Text or an end without an ID belongs to the pending text.
    """

    def __init__(
        self,
        number: int,
        connection: ClientConnection,
        codec: Server,
        side: ServerSide,
        engine: TtsEngine,
        options: ServerOptions,
        wire_log: WireLog,
    ) -> None:
        self._number, self._connection, self._codec, self._side = number, connection, codec, side
        self._engine, self._options, self._wire_log = engine, options, wire_log
        self._service = codec.service
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._queue_changed = threading.Condition()  # wakes _put(), which blocks while the queue is full
        self._queued_jobs = self._queued_characters = 0  # guarded by the condition
        self._codec_lock = threading.Lock()  # guards the codec and keeps its messages in order on the wire
        # Held while a message is handled, so that finish() does not come between its text and its end mark.
        self._message_lock = threading.Lock()
        self._pending: _Speak | None = None
        self._has_begun = False  # the client has begun an utterance after the last end
        self._is_finishing = False
        self._is_refused = False  # a fatal failure was sent; further messages are ignored
        self._is_busy = threading.Event()
        self._is_closed = threading.Event()
        self._speaker = threading.Thread(target=self._run_jobs, name=f"voice-{number}")
        self._stream: EncodedStream | None = None
        self._sent_seconds = 0.0
        self._pace_start: float | None = None

    def run(self) -> None:
        """Serve until the connection closes, the client is idle for too long, or the session has lasted one hour."""
        self._speaker.start()
        session_end = time.monotonic() + _MAX_SESSION_SECONDS
        try:
            while not self._is_closed.is_set() and time.monotonic() < session_end:
                try:
                    message = self._connection.recv(timeout=self._side.idle_seconds or _MAX_SESSION_SECONDS)
                except TimeoutError:
                    if self._is_busy.is_set():
                        continue
                    log.info("speech server: idle client dropped, service=%s, client=%d", self._service, self._number)
                    self._connection.disconnect()
                    break
                with self._message_lock:
                    self._receive(message)
        except ConnectionClosed:
            self._is_closed.set()
        finally:
            self._jobs.put(_Close(1000))
            self._speaker.join()

    def finish(self) -> None:
        """Speak the text received so far, then close with code 1001."""
        with self._message_lock:
            self._is_finishing = True
            rest, self._pending = self._pending, None
            if rest is not None:
                self._jobs.put(rest)
            self._jobs.put(_Close(1001, "the server is ending"))

    def abort(self) -> None:
        """Disconnect immediately."""
        self._is_closed.set()
        self._connection.disconnect()

    # --- reading

    def _receive(self, message: Message) -> None:
        if self._is_refused:
            return
        with self._codec_lock:
            events = self._codec.receive(message)
            job = self._empty_job()
        # A message of which every event is rejected begins no utterance.
        if not events or not all(isinstance(event, Failure) for event in events):
            self._has_begun = True
        self._wire_log.message(self._number, self._service, "in", message, events)
        for event in events:
            self._handle(event, job)

    def _handle(self, event: Event, job: _Speak) -> None:
        if isinstance(event, Failure):
            log.warning(
                "speech server: message rejected, service=%s, client=%d, received=%s, expected=%s",
                self._service, self._number, event.received, event.expected,
            )  # fmt: skip
            self._send(event)
            if event.fatal:
                self._is_refused = True
                self._put(_Close(self._side.refusal_close_code, "a request that cannot be fulfilled"))
        elif isinstance(event, Text):
            self._drop_abandoned(event.request_id)
            before, request_id = (self._pending.text, self._pending.request_id) if self._pending else ("", None)
            self._pending = job._replace(text=before + event.text, request_id=event.request_id or request_id)
            size = len(self._pending.text)
            if size > _MAX_TEXT_CHARACTERS:
                self._handle(Failure(self._service, f"{size} characters without an end", "shorter passages"), job)
            elif size >= EARLY_CHARACTERS:
                self._speak_pending(sentences.complete_length(self._pending.text, len(before)))
        elif isinstance(event, Flush | End):
            if isinstance(event, End):
                self._has_begun = False
            else:
                self._drop_abandoned(event.request_id)
            self._speak_pending()
            self._put(event)

    def _drop_abandoned(self, request_id: str | None) -> None:
        """Drop the pending text if its ID is not ``request_id``; keep it if one of the two has no ID."""
        pending = self._pending
        if pending is None or None in (request_id, pending.request_id) or pending.request_id == request_id:
            return
        log.info(
            "speech server: text of an abandoned request dropped, service=%s, client=%d, characters=%d",
            self._service, self._number, len(pending.text),
        )  # fmt: skip
        self._pending = None

    def _speak_pending(self, length: int | None = None) -> None:
        """Speak the first ``length`` characters of the pending text; ``None``: all of it."""
        job = self._pending
        if job is None or self._is_finishing:
            return
        length = len(job.text) if length is None else length
        text, rest = job.text[:length], job.text[length:]
        if not text:
            return
        self._pending = job._replace(text=rest) if rest else None
        self._put(job._replace(text=text))

    def _put(self, job: _Job) -> None:
        if self._is_finishing and not isinstance(job, Flush | _Close):
            return
        with self._queue_changed:
            self._queue_changed.wait_for(self._has_room)
            self._count(job, 1)
        self._is_busy.set()
        self._jobs.put(job)

    def _has_room(self) -> bool:
        is_free = self._queued_jobs < _MAX_JOBS and self._queued_characters < _MAX_QUEUED_CHARACTERS
        return is_free or self._is_closed.is_set()

    def _count(self, job: _Job, sign: int) -> None:
        self._queued_jobs += sign
        self._queued_characters += sign * (len(job.text) if isinstance(job, _Speak) else 0)

    def _empty_job(self) -> _Speak:
        """Return a job without text that has the codec's current voice, language, speed, encoding and volume."""
        codec, encoding = self._codec, self._codec.encoding
        voice, language = getattr(codec, "voice", "") or "", getattr(codec, "language", "") or ""
        volume_db = getattr(getattr(codec, "request", None), "volume", 0.0)
        options = VoiceOptions(encoding.sample_rate, voice, language, float(getattr(codec, "speed", 1.0) or 1.0))
        return _Speak("", options, encoding, None, min(round(100 * 10 ** (volume_db / 20)), 1000))

    # --- speaking

    def _run_jobs(self) -> None:
        job: _Job | None = None  # the previous job
        try:
            while True:
                if self._jobs.empty():
                    self._is_busy.clear()
                job = self._next_job(self._side.reuse_seconds if isinstance(job, End) else None)
                if isinstance(job, _Close):
                    self._end(job)
                    return
                if not self._is_closed.is_set():
                    self._run_job(job)
        except ConnectionClosed:
            self._is_closed.set()
        except AudioError as error:
            log.error(
                "speech server: synthesis failed, service=%s, client=%d, error=%s", self._service, self._number, error
            )
            self._fail(str(error))
        finally:
            self._is_closed.set()
            if self._stream is not None:
                self._stream.close()
            # No thread processes jobs any more: release the connection's thread if it waits in _put().
            with self._queue_changed:
                self._queue_changed.notify_all()
            self._connection.disconnect()

    def _next_job(self, reuse_seconds: float | None) -> _Job:
        """Wait for the next job and return it.

        After an end, ``reuse_seconds`` is set: return a close if the client begins no utterance within this time.
        """
        try:
            job = self._jobs.get(timeout=reuse_seconds)
        except queue.Empty:
            if not reuse_seconds or not self._has_begun:
                return _Close(1000)
            job = self._jobs.get()  # the next utterance has begun
        with self._queue_changed:
            self._count(job, -1)  # finish() and run() do not count their jobs; no later job needs room
            self._queue_changed.notify()
        return job

    def _run_job(self, job: _Speak | Flush | End) -> None:
        if isinstance(job, _Speak):
            for sentence in sentences.split(job.text):
                self._speak(sentence, job)
        elif isinstance(job, Flush):
            if not self._side.has_one_stream:
                self._end_stream(job.request_id)
            self._pace_start = None
            self._send(job)
            if self._side.closes_after_passage and self._jobs.empty():
                self._jobs.put(_Close(1000))
        else:
            self._end_stream(None)
            self._pace_start = None
            self._send(job)

    def _speak(self, sentence: str, job: _Speak) -> None:
        audio = self._engine.speak(sentence, job.options)
        audio_format = Format(audio.rate)
        if self._stream is None:
            self._stream = EncodedStream(job.encoding, self._wav_layout())
        with self._codec_lock:
            self._codec.send(Text(sentence))  # for a protocol that repeats the text in its first audio message
        with contextlib.closing(resized(audio.chunks, audio_format.bytes_of(CHUNK_SECONDS))) as pieces:
            for pcm in pieces:
                if self._is_closed.is_set():
                    return
                pcm = pcm if job.volume_percent == 100 else scale(pcm, job.volume_percent)
                self._send_audio(self._stream.feed(pcm, audio.rate), job.request_id)
                self._keep_pace(audio_format.seconds_of(len(pcm)))

    def _wav_layout(self) -> str:
        """Return the position of the RIFF headers, one of ``WAV_LAYOUTS``."""
        return self._side.wav_layout or self._options.wav_layout

    def _end_stream(self, request_id: str | None) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._send_audio(stream.finish(), request_id)

    def _send_audio(self, chunks: list[bytes], request_id: str | None) -> None:
        for chunk in chunks:
            self._send(Audio(chunk, request_id=request_id))

    def _keep_pace(self, seconds: float) -> None:
        if self._options.pace is None:
            return
        now = time.monotonic()
        if self._pace_start is None:
            self._pace_start, self._sent_seconds = now, 0.0
        self._sent_seconds += seconds
        self._is_closed.wait(max(0.0, self._pace_start + self._sent_seconds / self._options.pace - now))

    def _send(self, event: Event) -> None:
        with self._codec_lock:
            for message in self._codec.send(event):
                self._wire_log.message(self._number, self._service, "out", message, [event])
                self._connection.send(message)

    def _end(self, job: _Close) -> None:
        if self._is_closed.is_set():
            return
        self._end_stream(None)
        self._send(End())
        self._close(job.code, job.reason)

    def _fail(self, reason: str) -> None:
        try:
            self._send(Failure(self._service, "a text that cannot be spoken", reason))
            self._close(1011, "the speech engine failed")
        except ConnectionClosed:
            return

    def _close(self, code: int, reason: str) -> None:
        self._wire_log.note(self._number, self._service, "out", "close", f"{code} {reason}".strip())
        self._connection.close(code, reason)


def resized(chunks: Iterator[bytes], size: int) -> Generator[bytes, None, None]:
    """Yield s16le samples in chunks of ``size`` bytes; the last chunk may be shorter. Drop half a sample at the end.

    When this generator ends or is closed, it closes ``chunks``, which ends the process of an engine.
    """
    held = bytearray()
    try:
        for chunk in chunks:
            held += chunk
            whole = len(held) - len(held) % size
            for start in range(0, whole, size):
                yield bytes(held[start : start + size])
            del held[:whole]
        if len(held) > 1:
            yield bytes(held[: len(held) - len(held) % 2])
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
