"""Row 20: the connection is cut behind every single byte of a session, of every service. Nothing escapes, every
utterance ends in one state, and what came is heard, no byte more and none less."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from support import fault_voices as voices
from support.fault_tts import TIMEOUT_SECONDS, Inbox, Speaking
from support.fault_voices import SERVICES, Answers, encoded, sound, speaks, synthesis
from support.proxy import Proxy, Toxics
from support.scripted import BINARY, TEXT, Peer, Scripted, frame

from agent.errors import ServiceError
from agent.pipeline.capture.endpointer import NullEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import Heard, UtteranceFailed, UtterancePlayed
from agent.pipeline.stage import make_standby
from agent.pipeline.stt.recognizer import Recognizer
from agent.services.connection.websocket import Connection
from agent.services.protocols import playai, transcription
from agent.services.protocols.codec import Client
from agent.services.service import SpeechService
from agent.system.threads import Backoff, Deadline
from faults.conftest import Figure

SAID = "Cut."
OPEN_PATH = {
    "neuphonic": "/speak/en?sampling_rate=16000",
    "playai": "/playht-fal/playht-tts/stream",
    "vachana": "/api/v1/tts",
    "fish": "/v1/tts/live",
}


def codec_of(service: str) -> Client:
    if service == "playai":
        return playai.Client("ws://127.0.0.1:1/", "voice", output_format="raw", sample_rate=16000)
    return SpeechService(service, synthesis(1, service), lambda deadline: "").codec(Deadline(1))


class Dropped:
    """A service on the other end of a socket pair that answers until ``limit`` bytes have left, and is gone then."""

    def __init__(self, service: str, limit: int, *, abrupt: bool) -> None:
        self._service, self._limit, self._abrupt = service, limit, abrupt
        self.sent = b""
        self._threads: list[threading.Thread] = []

    def open(self, deadline: Deadline) -> Connection:
        ours, theirs = socket.socketpair()
        self._threads.append(threading.Thread(target=self._serve, args=(theirs,), name="scripted cut"))
        self._threads[-1].start()
        return Connection(ours, codec_of(self._service), ping_seconds=None, close_seconds=0.2)

    def join(self) -> None:
        """Waits until all has been ``sent``: the client may have had enough before."""
        for thread in self._threads:
            thread.join(TIMEOUT_SECONDS)

    def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):  # the client may leave as soon as it has what it wants
            sock.settimeout(10)
            peer = Peer(sock, 0, threading.Event())
            answers = Answers(self._service, OPEN_PATH[self._service])
            for opcode, data in iter(peer.read_frame, (-1, b"")):
                if opcode not in (TEXT, BINARY):
                    continue
                for each in encoded(answers.take(data.decode() if opcode == TEXT else data)):
                    part = each[: self._limit - len(self.sent)]
                    sock.sendall(part)
                    self.sent += part
                    if len(self.sent) >= self._limit:
                        if not self._abrupt:  # a FIN first: what we say meets no reset
                            sock.shutdown(socket.SHUT_WR)
                            peer.read_all()
                        return


def session(service: str, limit: int, *, abrupt: bool = False) -> tuple[object, bytes, Dropped]:
    cut = Dropped(service, limit, abrupt=abrupt)
    opened: list[Connection] = []

    def once(deadline: Deadline) -> Connection:
        if opened:
            raise ServiceError(service, "no second connection", permanent=True)
        opened.append(cut.open(deadline))
        return opened[0]

    with Speaking(opens={service: once}, eager=False) as speaking:
        utterance = speaking.say(SAID)
        end = speaking.ended(utterance)
        heard = speaking.heard(utterance)
    cut.join()
    return end, heard, cut


@pytest.mark.parametrize("service", SERVICES)
def test_row_20_cut_behind_every_byte(figure: Figure, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "CHUNK_BYTES", 24)
    pcm = sound(SAID, seconds=0.0015)
    monkeypatch.setattr(voices, "sound", lambda text: pcm)
    end, heard, cut = session(service, 1 << 20)
    assert isinstance(end, UtterancePlayed) and heard == pcm
    whole = len(cut.sent)
    failed = partly = 0
    for limit in range(whole):
        end, heard, cut = session(service, limit, abrupt=bool(limit % 2))
        assert heard == pcm[: len(heard)]
        assert isinstance(end, UtteranceFailed) or (isinstance(end, UtterancePlayed) and heard == pcm), (limit, end)
        assert end.seconds == len(heard) / 32000
        failed += isinstance(end, UtteranceFailed)
        partly += 0 < len(heard) < len(pcm)
    assert failed > whole * 0.9 or service == "playai"
    figure(20, f"{service}: {whole} cuts, {failed} failed with {partly} heard in part, 0 exceptions, 0 bytes too many")


def test_row_20_the_upgrade_cut_behind_every_byte(figure: Figure) -> None:
    """Through a real socket: the answer to the upgrade is cut, and the next service says it."""
    toxics = Toxics(limit_bytes=1)
    with (
        Scripted(speaks("neuphonic")) as server,
        Proxy(server.port, down=toxics) as proxy,
    ):
        cuts = 0
        for limit in range(1, 135, 3):
            toxics.limit_bytes = limit
            with Speaking(synthesis(proxy.port, "neuphonic"), eager=False) as speaking:
                end = speaking.failed(SAID)
                assert end.seconds == 0
            cuts += 1
    figure(20, f"upgrade: {cuts} cuts, all failed with a sentence")


def test_row_20_a_transcription_cut_behind_every_byte(figure: Figure) -> None:
    """X: a final that came whole is kept, whatever comes after it; M: the sound is sent again."""
    says = frame(TEXT, b'{"partial": "one"}') + frame(TEXT, b'{"result": [], "text": "one two"}')
    tail = frame(TEXT, b"399e7f744c3e47c3a32f28a19f07739d") + b"\x88\x02\x03\xe8"
    whole = says + tail
    kept = 0
    for limit in range(len(whole) + 1):
        connections: list[Connection] = []

        def open_one(deadline: Deadline, limit: int = limit, connections: list[Connection] = connections) -> Connection:
            ours, theirs = socket.socketpair()
            says = whole if connections else whole[:limit]
            threading.Thread(target=serve, args=(theirs, says), name="scripted").start()
            connections.append(Connection(ours, transcription.Client("ws://x/"), ping_seconds=None, close_seconds=0.2))
            return connections[-1]

        inbox = Inbox()
        frames = FrameQueue(30)
        standby = make_standby("transcription", open_one, inbox.put, eager=False, backoff=Backoff(0.001, 0.002, seed=1))
        recognizer = Recognizer(frames, NullEndpointer(), standby, inbox.put, answer_seconds=30.0)
        recognizer.start()
        frames.put(bytes(3200))
        frames.close()
        assert recognizer.join(Deadline(TIMEOUT_SECONDS))
        heard = inbox.of(Heard)
        assert [each.text for each in heard] == ["one two"], (limit, inbox.events)
        kept += len(connections) == 1
    again = len(whole) + 1 - kept
    figure(20, f"transcription: {len(whole)} cuts, the final in every one, {again} times by sending again")


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
