"""One connection of a Wyoming client: converts text to speech and speech to transcripts."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable

from agent.audio.convert import MonoMixer, Resampler
from agent.audio.format import SPEECH, Format
from agent.errors import AudioError
from agent.server.connection import disconnect
from agent.server.encoders.encoder import EncodedStream
from agent.server.recognition_load import ClientLoad, RecognitionLoad
from agent.server.stt.engine import RecognizerStream, SttEngine
from agent.server.tts import sentences
from agent.server.tts.engine import TtsEngine, VoiceOptions
from agent.server.tts_session import CHUNK_SECONDS, resized
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Audio, Encoding, End, Event, Failure, Flush, Text, Transcript
from agent.services.protocols.wyoming_event import EventBuffer, EventError
from agent.services.protocols.wyoming_server import VOICE_RATE, Describe, Ping, Request, Server, encode_pong
from agent.system.named_tuple import NamedTuple

log = logging.getLogger(__name__)

MAX_TEXT_CHARACTERS = 1 << 20
"""Maximum length of text without the end of a sentence."""

_READ_BYTES = 65536
_ENCODING = Encoding("raw", VOICE_RATE)


class SessionTiming(NamedTuple):
    """Time limits of a session, in seconds. Immutable.

    Args:
        idle_seconds: A client that sends nothing for this time is disconnected.
        stall_seconds: A client is also disconnected if it sends nothing for this time inside an event, or if it reads
            nothing for this time while the session sends.
        busy_seconds: Maximum time that speech waits while the recognizer is busy with other clients.
    """

    idle_seconds: float = 300.0
    stall_seconds: float = 30.0
    busy_seconds: float = 30.0


class WyomingSession:
    """Serves one connection and handles its events one at a time, in the order of arrival.

    Text that arrives while a sentence is synthesized waits in the socket. ``run`` belongs to the connection's thread;
    ``finish`` and ``abort`` are thread-safe.

    Args:
        number: Number of the client in the logs.
        client: The accepted socket; the caller closes it.
        tts_engine: Engine that speaks.
        stt_engine: Engine that recognizes speech.
        load: Admits speech if it can be recognized in real time; shared with the WebSocket listener.
        describe: Returns the ``info`` event.
        wire_log: Log of all messages.
        timing: Time limits.
    """

    def __init__(
        self,
        number: int,
        client: socket.socket,
        tts_engine: TtsEngine,
        stt_engine: SttEngine,
        load: RecognitionLoad,
        describe: Callable[[], bytes],
        wire_log: WireLog,
        timing: SessionTiming,
    ) -> None:
        self._number, self._client, self._describe, self._wire_log = number, client, describe, wire_log
        self._tts_engine, self._stt_engine, self._load, self._timing = tts_engine, stt_engine, load, timing
        self._codec = Server()
        self._buffer = EventBuffer()
        self._is_aborted = threading.Event()
        self._is_over = False
        self._text = ""  # not spoken yet
        self._audio: EncodedStream | None = None  # of the current text
        self._recognition: _Recognition | None = None

    def run(self) -> None:
        """Serve until the client closes the connection, violates the protocol or is idle for too long."""
        try:
            while not self._is_over and (message := self._read()) is not None:
                requests = self._codec.receive(message)
                self._wire_log.message(self._number, self._codec.service, "in", message, requests)
                for request in requests:
                    if not self._is_over:
                        self._handle(request)
            if not self._is_over:
                self._finish_work()
        except EventError as error:
            self._refuse(f"bytes that are no event ({error})")
        except AudioError as error:
            log.error("wyoming server: request failed, client=%d, error=%s", self._number, error)
            self._report(Failure(self._codec.service, "a request that cannot be fulfilled", str(error)))
        except OSError as error:
            is_stall = isinstance(error, TimeoutError)
            log.info("wyoming server: client lost, client=%d, reason=%s", self._number, "stall" if is_stall else error)
        finally:
            if self._recognition is not None:
                self._recognition.close()

    def finish(self) -> None:
        """Answer the events received so far, then end."""
        try:
            self._client.shutdown(socket.SHUT_RD)  # run() reads the received data, then the end of the input
        except OSError:
            return

    def abort(self) -> None:
        """Disconnect immediately."""
        self._is_aborted.set()
        disconnect(self._client)

    def _read(self) -> bytes | None:
        while (message := self._buffer.next()) is None:
            is_inside = self._buffer.has_partial_event
            self._client.settimeout(self._timing.stall_seconds if is_inside else self._timing.idle_seconds)
            data = self._client.recv(_READ_BYTES)
            if not data:
                return None
            self._buffer.feed(data)
        return message

    def _handle(self, request: Request) -> None:
        match request:
            case Describe():
                self._send_message(self._describe())
            case Ping():
                self._send_message(encode_pong(request))
            case Text(text):
                searched = len(self._text)
                self._text += text
                if len(self._text) > MAX_TEXT_CHARACTERS:
                    self._refuse("a text without the end of a sentence")
                    return
                length = sentences.complete_length(self._text, searched)
                complete, self._text = self._text[:length], self._text[length:]
                self._speak(complete)
            case Flush():
                self._end_text()
            case Audio(data):
                self._recognize(data)
            case End():
                self._end_speech()
            case Failure():
                self._report(request)
                self._is_over = True

    def _finish_work(self) -> None:
        """Answer an unfinished request at the end of the input: a client may end its sending side early."""
        if self._text or self._audio is not None:
            self._end_text()
        if self._recognition is not None:
            self._end_speech()

    # --- text to speech

    def _speak(self, text: str) -> None:
        options = VoiceOptions(VOICE_RATE, self._codec.voice, self._codec.language)
        for sentence in sentences.split(text):
            audio = self._tts_engine.speak(sentence, options)
            if self._audio is None:
                self._audio = EncodedStream(_ENCODING)
            with contextlib.closing(resized(audio.chunks, Format(audio.rate).bytes_of(CHUNK_SECONDS))) as pieces:
                for pcm in pieces:
                    self._send_audio(self._audio.feed(pcm, audio.rate))

    def _end_text(self) -> None:
        text, self._text = self._text, ""
        self._speak(text)
        stream, self._audio = self._audio, None
        if stream is not None:
            self._send_audio(stream.finish())
        self._send(Flush())

    def _send_audio(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._send(Audio(piece))

    # --- speech to text

    def _recognize(self, data: bytes) -> None:
        if self._recognition is None:
            client_load = self._load.admit(self._timing.busy_seconds)
            if client_load is None:
                raise AudioError("the recognizer is busy with other clients: try again later")
            self._recognition = _Recognition(self._stt_engine, self._load, client_load)
        encoding = self._codec.encoding
        for transcript in self._recognition.feed(data, encoding.sample_rate, encoding.channels):
            self._send(transcript)

    def _end_speech(self) -> None:
        recognition, self._recognition = self._recognition, None
        if recognition is not None:
            try:
                for transcript in recognition.finish():
                    self._send(transcript)
            finally:
                recognition.close()
        self._send(End())

    # --- sending

    def _refuse(self, received: str) -> None:
        self._is_over = True
        log.warning("wyoming server: client disconnected, client=%d, received=%s", self._number, received)
        self._report(Failure(self._codec.service, received, "the protocol Wyoming"))

    def _report(self, failure: Failure) -> None:
        try:
            self._send(failure)
        except OSError:
            return

    def _send(self, event: Event) -> None:
        for message in self._codec.send(event):
            assert isinstance(message, bytes)
            self._send_message(message, event)

    def _send_message(self, message: bytes, event: Event | None = None) -> None:
        if self._is_aborted.is_set():
            raise ConnectionAbortedError("aborted")
        self._wire_log.message(self._number, self._codec.service, "out", message, [] if event is None else [event])
        self._client.settimeout(self._timing.stall_seconds)
        self._client.sendall(message)


class _Recognition:
    """Converts the audio of one request for the recognizer. Not thread-safe; owned by the connection's thread."""

    def __init__(self, engine: SttEngine, load: RecognitionLoad, client_load: ClientLoad) -> None:
        self._load, self._client_load = load, client_load
        self._mixer = MonoMixer()
        self._resampler: Resampler | None = None
        self._rest = b""  # an incomplete frame from the end of the last chunk
        try:
            self._stream: RecognizerStream = engine.open()
        except BaseException:
            # A client that stays registered would keep further clients waiting.
            load.leave(client_load)
            raise

    def feed(self, data: bytes, rate: int, channels: int) -> list[Transcript]:
        # A chunk may end inside a frame. Without its rest, the samples of the next chunk would be misaligned: noise.
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % (2 * channels)
        pcm, self._rest = data[:whole], data[whole:]
        if channels > 1:
            pcm = self._mixer.feed(pcm, channels)
        if rate != SPEECH.rate:
            if self._resampler is None or self._resampler.from_rate != rate:
                self._resampler = Resampler(rate, SPEECH.rate)
            pcm = self._resampler.feed(pcm)
        start = time.monotonic()
        transcripts = self._stream.feed(pcm)
        self._load.report(self._client_load, time.monotonic() - start, SPEECH.seconds_of(len(pcm)))
        return transcripts

    def finish(self) -> list[Transcript]:
        rest: list[Transcript] = []
        if self._resampler is not None and (tail := self._resampler.finish()):
            rest = self._stream.feed(tail)
        return rest + self._stream.finish()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._load.leave(self._client_load)
