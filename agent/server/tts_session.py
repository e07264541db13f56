"""One client of a speech service: text in, sound out, in order, while more text may come."""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from agent.audio.convert import scale
from agent.audio.format import Format
from agent.errors import AudioError
from agent.server.encoders.encoder import Stream
from agent.server.options import Options
from agent.server.tts import sentences
from agent.server.tts.engine import TtsEngine, VoiceOptions
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Flush, Message, Server, Text

log = logging.getLogger(__name__)

CHUNK_SECONDS = 0.15
EARLY_CHARACTERS = 200
_LONGEST_TEXT = 1 << 20
_JOBS = 64
_LIFE_SECONDS = 3600.0
_IDLE_SECONDS = {"neuphonic": 90.0}


@dataclass(frozen=True, slots=True)
class _Say:
    text: str
    manner: VoiceOptions
    encoding: Encoding
    request_id: str | None
    percent: int


@dataclass(frozen=True, slots=True)
class _Leave:
    code: int
    reason: str = ""


_Job = _Say | Flush | End | _Leave


class Speaking:
    """Serves one connection: ``run`` in the connection's own thread reads, a second thread speaks and writes.

    Text is spoken at the end of its passage, or sentence by sentence as soon as there is much of it. ``finish`` lets it
    say what it has been given and then leaves; ``abort`` leaves at once. Both from any thread, at any time.
    """

    def __init__(
        self,
        number: int,
        connection: ServerConnection,
        codec: Server,
        engine: TtsEngine,
        options: Options,
        wire: WireLog,
    ) -> None:
        self._number, self._connection, self._codec = number, connection, codec
        self._engine, self._options, self._wire = engine, options, wire
        self._service = codec.service
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._room = threading.Semaphore(_JOBS)  # a client that says more than can be spoken is made to wait
        self._lock = threading.Lock()  # the codec, and the order of what it says on the wire
        self._taking = threading.Lock()  # a message is taken whole, or comes after the end has begun
        self._pending: _Say | None = None
        self._finishing = False
        self._refused = False  # nothing more of this client is listened to
        self._busy = threading.Event()
        self._gone = threading.Event()
        self._voice = threading.Thread(target=self._speak, name=f"voice-{number}")
        self._stream: Stream | None = None
        self._sent_seconds = 0.0
        self._began: float | None = None

    def run(self) -> None:
        self._voice.start()
        ends = time.monotonic() + _LIFE_SECONDS
        try:
            while not self._gone.is_set() and time.monotonic() < ends:
                try:
                    message = self._connection.recv(timeout=_IDLE_SECONDS.get(self._service, _LIFE_SECONDS))
                except TimeoutError:
                    if self._busy.is_set():
                        continue
                    log.info("%s client %d said nothing for long and is dropped", self._service, self._number)
                    self._cut()
                    break
                with self._taking:
                    self._take(message)
        except ConnectionClosed:
            self._gone.set()
        finally:
            self._jobs.put(_Leave(1000))
            self._voice.join()

    def finish(self) -> None:
        with self._taking:
            self._finishing = True
            rest, self._pending = self._pending, None
            if rest is not None:
                self._jobs.put(rest)
            self._jobs.put(_Leave(1001, "the server is ending"))

    def abort(self) -> None:
        self._gone.set()
        self._cut()

    # --- reading

    def _take(self, message: Message) -> None:
        if self._refused:
            return
        with self._lock:
            events = self._codec.receive(message)
            manner, encoding, percent = self._wish()
        self._wire.message(self._number, self._service, "in", message, events)
        for event in events:
            self._handle(event, manner, encoding, percent)

    def _handle(self, event: Event, manner: VoiceOptions, encoding: Encoding, percent: int) -> None:
        if isinstance(event, Failure):
            log.warning("%s client %d: got %s, expected %s", self._service, self._number, event.came, event.expected)
            self._send(event)
            if event.fatal:
                self._refused = True
                self._put(_Leave(1000 if self._service == "fish" else 1008, "a message that cannot be met"))
        elif isinstance(event, Text):
            before = self._pending.text if self._pending else ""
            self._pending = _Say(before + event.text, manner, encoding, event.request_id, percent)
            size = len(self._pending.text)
            if size > _LONGEST_TEXT:
                self._handle(
                    Failure(self._service, f"{size} characters without an end", "shorter passages"), manner, encoding, 0
                )
            elif size >= EARLY_CHARACTERS:
                self._speak_pending(whole_sentences=True)
        elif isinstance(event, Flush | End):
            self._speak_pending()
            self._put(event)

    def _speak_pending(self, whole_sentences: bool = False) -> None:
        say = self._pending
        if say is None or self._finishing:
            return
        cut = sentences.complete_length(say.text) if whole_sentences else len(say.text)
        now, later = say.text[:cut], say.text[cut:]
        if not now:
            return
        self._pending = _Say(later, say.manner, say.encoding, say.request_id, say.percent) if later else None
        self._put(_Say(now, say.manner, say.encoding, say.request_id, say.percent))

    def _put(self, job: _Job) -> None:
        if self._finishing and not isinstance(job, Flush | _Leave):
            return
        self._room.acquire()
        self._busy.set()
        self._jobs.put(job)

    def _wish(self) -> tuple[VoiceOptions, Encoding, int]:
        codec, encoding = self._codec, self._codec.encoding
        voice, language = getattr(codec, "voice", "") or "", getattr(codec, "language", "") or ""
        volume = getattr(getattr(codec, "request", None), "volume", 0.0)
        manner = VoiceOptions(encoding.sample_rate, voice, language, float(getattr(codec, "speed", 1.0) or 1.0))
        return manner, encoding, min(round(100 * 10 ** (volume / 20)), 1000)

    # --- speaking

    def _speak(self) -> None:
        try:
            while True:
                if self._jobs.empty():
                    self._busy.clear()
                job = self._jobs.get()
                self._room.release()
                if isinstance(job, _Leave):
                    self._leave(job)
                    return
                if not self._gone.is_set():
                    self._do(job)
        except ConnectionClosed:
            self._gone.set()
        except AudioError as error:
            log.error("%s client %d cannot be spoken to: %s", self._service, self._number, error)
            self._fail(str(error))
        finally:
            self._gone.set()
            self._room.release(_JOBS)  # nobody takes jobs any more: let go whoever waits to hand one over
            self._cut()

    def _do(self, job: _Say | Flush | End) -> None:
        if isinstance(job, _Say):
            for sentence in sentences.split(job.text):
                self._say(sentence, job)
        elif isinstance(job, Flush):
            if self._service != "fish":  # one stream for each passage, but Fish Audio has one for the whole session
                self._end_stream(job.request_id)
            self._began = None
            self._send(job)
        else:
            self._end_stream(None)
            self._send(job)
            self._jobs.put(_Leave(1000))

    def _say(self, sentence: str, job: _Say) -> None:
        speech = self._engine.speak(sentence, job.manner)
        if self._stream is None:
            self._stream = Stream(job.encoding, self._layout())
        self._caption(sentence)
        try:
            for pcm in _pieces(speech.chunks, Format(speech.rate).bytes_of(CHUNK_SECONDS)):
                if self._gone.is_set():
                    return
                pcm = pcm if job.percent == 100 else scale(pcm, job.percent)
                self._sound(self._stream.feed(pcm, speech.rate), job.request_id)
                self._keep_pace(Format(speech.rate).seconds_of(len(pcm)))
        finally:
            close = getattr(speech.chunks, "close", None)
            if close is not None:
                close()

    def _layout(self) -> str:
        """Where RIFF headers are: PlayAI sends its own one first, Fish Audio one with the first sound."""
        return {"fish": "first", "vachana": self._options.wav_layout}.get(self._service, "header")

    def _end_stream(self, request_id: str | None) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._sound(stream.finish(), request_id)

    def _sound(self, chunks: list[bytes], request_id: str | None) -> None:
        for chunk in chunks:
            self._send(Audio(chunk, request_id=request_id))

    def _caption(self, sentence: str) -> None:
        with self._lock:
            self._codec.send(Text(sentence))  # Neuphonic tells the text with its first sound; for others it is nothing

    def _keep_pace(self, seconds: float) -> None:
        if self._options.pace is None:
            return
        now = time.monotonic()
        if self._began is None:
            self._began, self._sent_seconds = now, 0.0
        self._sent_seconds += seconds
        self._gone.wait(max(0.0, self._began + self._sent_seconds / self._options.pace - now))

    def _send(self, event: Event) -> None:
        with self._lock:
            for message in self._codec.send(event):
                self._wire.message(self._number, self._service, "out", message, [event])
                self._connection.send(message)

    def _leave(self, job: _Leave) -> None:
        if self._gone.is_set():
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
        self._wire.note(self._number, self._service, "out", "close", f"{code} {reason}".strip())
        self._connection.close(code, reason)

    def _cut(self) -> None:
        """Ends the TCP connection, whoever is reading or writing; nothing where it has been closed already."""
        try:
            self._connection.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _pieces(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same sound in pieces of ``size`` bytes, the last one shorter."""
    held = b""
    for chunk in chunks:
        held += chunk
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    whole = len(held) - len(held) % 2
    if whole:
        yield held[:whole]
