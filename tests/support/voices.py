"""A speech service that speaks Neuphonic's protocol with tones, and scripts for its failures."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable

from agent.daemon.connection_builder import STANDBY_TIMING
from agent.pipeline.events import Event
from agent.pipeline.stage import make_standby
from agent.server.tts import tone
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import DEFAULT_TIMING, ConnectionTiming, connect
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
    """A script that answers every passage with its tone. Thread-safe.

    Args:
        after: The number of passages that each connection answers before `then` runs; `None`: all.
        chunks: The number of audio messages of the next passage that are sent before `then`.
        then: The failure.
        deaths: The number of connections that fail.

    Attributes:
        changed: The condition that guards `passages` and `marks`.
        passages: The texts of all passages that ended with an end mark, over all connections.
        marks: The number of end marks of each connection.
        go: With `chunks`, `then` waits for this event.
    """

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
        self.changed = threading.Condition()
        self.go = threading.Event()
        self._after, self._chunks, self._then, self._deaths = after, chunks, then, deaths

    def __call__(self, peer: Peer) -> None:
        peer.accept()
        with self.changed:
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
                with self.changed:
                    self.marks[mine] += 1
                    self.passages += [passage] if passage.strip() else []
                    self.changed.notify_all()
                if self._after is not None and answered >= self._after and self._then is not None and self._deaths:
                    self._deaths -= 1
                    for at in range(self._chunks):
                        peer.send(audio(sound(passage)[at * 3200 : (at + 1) * 3200]))
                    if self._chunks:
                        self.go.wait(TIMEOUT_SECONDS)
                    self._then(peer)
                    return
                self.speak(peer, passage)
                answered += 1

    @staticmethod
    def speak(peer: Peer, passage: str) -> None:
        pcm = sound(passage)
        for at in range(0, len(pcm), 3201):  # an odd size splits a sample
            peer.send(audio(pcm[at : at + 3201]))
        peer.send(audio(b"", stop=True))

    def await_passages(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.passages) >= count, TIMEOUT_SECONDS), self.passages

    def await_marks(self) -> list[int]:
        """Return `marks` when every connection has one; it may arrive after the client has closed."""
        with self.changed:
            self.changed.wait_for(lambda: all(self.marks), TIMEOUT_SECONDS)
            return list(self.marks)


def standby(
    server: Scripted,
    report: Callable[[Event], None],
    name: str = "neuphonic",
    *,
    eager: bool = True,
    retry_seconds: float = 0.01,
    dial_seconds: float = 2.0,
    close_seconds: float = DEFAULT_TIMING.close_seconds,
) -> Standby:
    """Return a standby for the scripted server with short delays between its attempts."""

    def open(deadline):  # type: ignore[no-untyped-def]
        codec = neuphonic.Client(f"ws://127.0.0.1:{server.port}/speak/en", "k", temperature=None, sampling_rate=RATE)
        codec.service = name
        return connect(codec, deadline, timing=ConnectionTiming(ping_seconds=None, close_seconds=close_seconds))

    backoff = Backoff(retry_seconds, 5 * retry_seconds)
    return make_standby(
        name, open, report, eager=eager, backoff=backoff, timing=STANDBY_TIMING._replace(dial_seconds=dial_seconds)
    )


def hangs_up(peer: Peer) -> None:
    """End the script, which closes the socket."""


def resets(peer: Peer) -> None:
    peer.reset()


def falls_silent(peer: Peer) -> None:
    peer.read_all()


def refuses_the_text(peer: Peer) -> None:
    peer.send(frame(TEXT, json.dumps({"type": "error", "message": "no voice today", "status_code": 500}).encode()))
    peer.read_all()


__all__ = ["Script", "Voice", "audio", "falls_silent", "hangs_up", "refuses_the_text", "resets", "sound", "standby"]
