"""A speech service that speaks Neuphonic's protocol in tones: polite, mute, dying, lying, as a test wants it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable

from agent.pipeline.events import Event
from agent.pipeline.stage import make_standby
from agent.server.tts import tone
from agent.services.connection.standby import Standby, Timing
from agent.services.connection.websocket import connect
from agent.services.protocols import neuphonic
from agent.system.threads import Backoff
from support.scripted import CLOSE, PING, PONG, TEXT, Peer, Script, Scripted, frame

RATE = 16000
TIMEOUT_SECONDS = 60.0


def sound(text: str) -> bytes:
    return tone.pcm(text, RATE)


def audio(pcm: bytes, *, stop: bool = False, rate: int = RATE) -> bytes:
    data = {"audio": base64.b64encode(pcm).decode(), "text": "", "sampling_rate": rate, "stop": stop}
    return frame(TEXT, json.dumps({"data": data}).encode())


class Voice:
    """A script, and what it was told. ``passages``: the texts that were ended by an end mark, over all connections;
    ``marks``: how many end marks each connection was given. ``after``: after so many passages of a connection ``then``
    is done instead of answering the next, on ``deaths`` connections;
    ``chunks``: so many pieces of its sound are still sent before."""

    def __init__(
        self,
        *,
        after: int | None = None,
        chunks: int = 0,
        then: Callable[[Peer], None] | None = None,
        deaths: int = 1000,
    ) -> None:
        self.passages: list[str] = []
        self.marks: list[int] = []
        self.told = threading.Condition()
        self.go = threading.Event()  # ``then`` waits for it where some sound is sent before
        self._after, self._chunks, self._then, self._deaths = after, chunks, then, deaths

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        with self.told:
            self.marks.append(0)
            mine = len(self.marks) - 1
        text, answered = "", 0
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(CLOSE, data))
                return
            if opcode == PING:
                peer.send(frame(PONG, data))
            if opcode != TEXT:
                continue
            text += json.loads(data)["text"]
            while "<STOP>" in text:
                passage, _, text = text.partition("<STOP>")
                with self.told:
                    self.marks[mine] += 1
                    self.passages += [passage] if passage.strip() else []
                    self.told.notify_all()
                if self._after is not None and answered >= self._after and self._then is not None and self._deaths:
                    self._deaths -= 1
                    for at in range(self._chunks):
                        peer.send(audio(sound(passage)[at * 3200 : (at + 1) * 3200]))
                    if self._chunks:
                        self.go.wait(TIMEOUT_SECONDS)
                    self._then(peer)
                    return
                self._speak(peer, passage)
                answered += 1

    @staticmethod
    def _speak(peer: Peer, passage: str) -> None:
        pcm = sound(passage)
        for at in range(0, len(pcm), 3201):  # odd: a sample is cut in two
            peer.send(audio(pcm[at : at + 3201]))
        peer.send(audio(b"", stop=True))

    def await_passages(self, count: int) -> None:
        with self.told:
            assert self.told.wait_for(lambda: len(self.passages) >= count, TIMEOUT_SECONDS), self.passages

    def await_marks(self) -> list[int]:
        """``marks``, once every connection was given one: it may be read here only when the client has gone."""
        with self.told:
            self.told.wait_for(lambda: all(self.marks), TIMEOUT_SECONDS)
            return list(self.marks)


def standby(
    server: Scripted,
    report: Callable[[Event], None],
    name: str = "neuphonic",
    *,
    eager: bool = True,
    retry_seconds: float = 0.01,
    dial_seconds: float = 2.0,
) -> Standby:
    """A standby to the scripted server that does not wait long between its tries, unless ``retry_seconds`` says so."""

    def open(deadline):  # type: ignore[no-untyped-def]
        codec = neuphonic.Client(f"ws://127.0.0.1:{server.port}/speak/en", "k", temperature=None, sampling_rate=RATE)
        codec.service = name
        return connect(codec, deadline, ping_seconds=None)

    backoff = Backoff(retry_seconds, 5 * retry_seconds, seed=1)
    return make_standby(name, open, report, eager=eager, backoff=backoff, timing=Timing(dial_seconds=dial_seconds))


def hangs_up(peer: Peer) -> None:
    """The script ends, and the socket with it."""


def resets(peer: Peer) -> None:
    peer.reset()


def falls_silent(peer: Peer) -> None:
    peer.read_all()


def refuses_the_text(peer: Peer) -> None:
    peer.send(frame(TEXT, json.dumps({"type": "error", "message": "no voice today", "status_code": 500}).encode()))
    peer.read_all()


__all__ = ["Script", "Voice", "audio", "falls_silent", "hangs_up", "refuses_the_text", "resets", "sound", "standby"]
