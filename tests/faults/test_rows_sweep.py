"""Row 20: the connection is cut after every byte of a session of every service."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from support.fault_rows import Record
from support.proxy import Proxy, Toxics
from support.scripted import BINARY, TEXT, Peer, Scripted, frame
from support.speech_services import SERVICES, ServiceSession, audio_of, frames_of, serve_speech, synthesis_settings
from support.tts_pipeline import TIMEOUT_SECONDS, Inbox, TtsPipeline

from agent.daemon.connection_builder import CLOSE_TIMING, STANDBY_TIMING
from agent.errors import ServiceError
from agent.pipeline.capture.endpointer import NullEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import Heard, UtteranceFailed, UtterancePlayed
from agent.pipeline.stage import make_standby
from agent.pipeline.stt.recognizer import Recognizer
from agent.services.connection.websocket import Connection, ConnectionTiming
from agent.services.protocols import playai, transcription
from agent.services.protocols.codec import Client
from agent.services.service import SpeechService
from agent.system.threads import Backoff, Deadline

SHORT_TEXT = "Cut."
AUDIO = audio_of(SHORT_TEXT, seconds=0.0015)
CHUNK_BYTES = 24
OPEN_PATH = {
    "neuphonic": "/speak/en?sampling_rate=16000",
    "playai": "/playht-fal/playht-tts/stream",
    "vachana": "/api/v1/tts",
    "fish": "/v1/tts/live",
}


def codec_of(service: str) -> Client:
    if service == "playai":
        return playai.Client("ws://127.0.0.1:1/", "voice", output_format="raw", sample_rate=16000)
    return SpeechService(service, synthesis_settings(1, service), lambda deadline: "").create_codec(Deadline(1))


class TruncatedService:
    """A service at the other end of a socket pair that disconnects after ``limit`` sent bytes."""

    def __init__(self, service: str, limit: int, *, is_abrupt: bool) -> None:
        self._service, self._limit, self._is_abrupt = service, limit, is_abrupt
        self.sent = b""
        self._threads: list[threading.Thread] = []

    def open(self, deadline: Deadline) -> Connection:
        ours, theirs = socket.socketpair()
        self._threads.append(threading.Thread(target=self._serve, args=(theirs,), name="scripted cut"))
        self._threads[-1].start()
        return Connection(ours, codec_of(self._service), ConnectionTiming(ping_seconds=None, close_seconds=0.2))

    def join(self) -> None:
        """Wait for the end of the service: the client may close before everything is ``sent``."""
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):  # the client may close as soon as it has the audio
            sock.settimeout(10)
            peer = Peer(sock, 0, threading.Event())
            session = ServiceSession(
                self._service, OPEN_PATH[self._service], audio=lambda text: AUDIO, chunk_bytes=CHUNK_BYTES
            )
            for opcode, data in iter(peer.read_frame, (-1, b"")):
                if opcode not in (TEXT, BINARY):
                    continue
                for each in frames_of(session.receive(data.decode() if opcode == TEXT else data)):
                    part = each[: self._limit - len(self.sent)]
                    sock.sendall(part)
                    self.sent += part
                    if len(self.sent) >= self._limit:
                        if not self._is_abrupt:  # FIN first: reading the rest avoids a RST
                            sock.shutdown(socket.SHUT_WR)
                            peer.read_all()
                        return


def run_session(service: str, limit: int, *, is_abrupt: bool = False) -> tuple[object, bytes, int]:
    """Speak once over a connection that ends after ``limit`` bytes; return the end, the audio and the bytes sent."""
    truncated = TruncatedService(service, limit, is_abrupt=is_abrupt)
    opened: list[Connection] = []

    def open_once(deadline: Deadline) -> Connection:
        if opened:
            raise ServiceError(service, "no second connection", permanent=True)
        opened.append(truncated.open(deadline))
        return opened[0]

    with TtsPipeline(opens={service: open_once}, eager=False) as pipeline:
        utterance = pipeline.say(SHORT_TEXT)
        end = pipeline.ended(utterance)
        played = pipeline.heard(utterance)
    truncated.join()
    return end, played, len(truncated.sent)


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
def test_row_20_a_session_cut_after_every_byte_ends_once_with_the_audio_received(
    record_row: Record, service: str
) -> None:
    end, played, size = run_session(service, 1 << 20)
    assert isinstance(end, UtterancePlayed) and played == AUDIO
    failed = partial = 0
    for limit in range(size):
        end, played, _ = run_session(service, limit, is_abrupt=bool(limit % 2))
        assert played == AUDIO[: len(played)]
        assert isinstance(end, UtteranceFailed) or (isinstance(end, UtterancePlayed) and played == AUDIO), (limit, end)
        assert end.seconds == len(played) / 32000
        failed += isinstance(end, UtteranceFailed)
        partial += 0 < len(played) < len(AUDIO)
    assert failed > size * 0.9 or service == "playai"
    record_row(20, f"{service}: {size} cuts, {failed} failed, {partial} of them played in part, no excess byte")


def test_row_20_a_response_cut_in_the_upgrade_fails_the_utterance(record_row: Record) -> None:
    """Over a real TCP connection, through a proxy that cuts the response."""
    toxics = Toxics(limit_bytes=1)
    with (
        Scripted(serve_speech("neuphonic")) as server,
        Proxy(server.port, down=toxics) as proxy,
    ):
        cuts = 0
        for limit in range(1, 135, 3):
            toxics.limit_bytes = limit
            # The upgrade is tried again until the time for the first audio is over.
            with TtsPipeline(
                synthesis_settings(proxy.port, "neuphonic"), eager=False, first_audio_seconds=0.05
            ) as pipeline:
                end = pipeline.failed(SHORT_TEXT)
                assert end.seconds == 0
            cuts += 1
    record_row(20, f"upgrade: {cuts} cuts, all failed with a sentence")


@pytest.mark.slow
def test_row_20_a_transcription_cut_after_every_byte_keeps_its_final(record_row: Record) -> None:
    """A complete final is kept whatever follows; without one the audio is sent again."""
    says = frame(TEXT, b'{"partial": "one"}') + frame(TEXT, b'{"result": [], "text": "one two"}')
    tail = frame(TEXT, b"399e7f744c3e47c3a32f28a19f07739d") + b"\x88\x02\x03\xe8"
    whole = says + tail
    name, value = transcription.LATE_ANSWERS
    kept = 0
    for limit in range(len(whole) + 1):
        connections: list[Connection] = []

        def open_one(deadline: Deadline, limit: int = limit, connections: list[Connection] = connections) -> Connection:
            ours, theirs = socket.socketpair()
            says = whole if connections else whole[:limit]
            threading.Thread(target=serve, args=(theirs, says), name="scripted").start()
            codec = transcription.Client("ws://x/")
            codec.receive_handshake({name.lower(): value})  # such a service gets "eof" at once
            connections.append(Connection(ours, codec, ConnectionTiming(ping_seconds=None, close_seconds=0.2)))
            return connections[-1]

        inbox = Inbox()
        frames = FrameQueue(30)
        standby = make_standby(
            "transcription",
            open_one,
            inbox.put,
            eager=False,
            backoff=Backoff(0.001, 0.002),
            timing=STANDBY_TIMING,
        )
        recognizer = Recognizer(
            frames, NullEndpointer(), standby, inbox.put, answer_seconds=30.0, close_timing=CLOSE_TIMING
        )
        recognizer.start()
        frames.put(bytes(3200))
        frames.close()
        assert recognizer.join(Deadline(TIMEOUT_SECONDS))
        heard = inbox.of(Heard)
        assert [each.text for each in heard] == ["one two"], (limit, inbox.events)
        kept += len(connections) == 1
    again = len(whole) + 1 - kept
    record_row(20, f"transcription: {len(whole)} cuts, the final in every one, {again} times by sending again")


def serve(sock: socket.socket, says: bytes) -> None:
    with sock, contextlib.suppress(OSError):
        sock.settimeout(10)
        peer = Peer(sock, 0, threading.Event())
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == TEXT and data == b"eof":
                sock.sendall(says)
                sock.shutdown(socket.SHUT_WR)
                peer.read_all()
                return
