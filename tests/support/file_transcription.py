"""A recognizer that transcribes a file in this process, over connections that break where a test wants it."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agent.cli.audio_input import FileFrames
from agent.daemon.connection_builder import CLOSE_TIMING, STANDBY_TIMING
from agent.pipeline.capture.endpointer import NullEndpointer
from agent.pipeline.events import Gap, Heard
from agent.pipeline.stage import make_standby
from agent.pipeline.stt.recognizer import Recognizer
from agent.services.connection.websocket import Connection, ConnectionTiming
from agent.services.protocols import transcription
from agent.system.threads import Backoff, Deadline
from support.recognizers import recognize
from support.scripted import Peer
from support.tts_pipeline import TIMEOUT_SECONDS, Inbox

TIMING = ConnectionTiming(ping_seconds=None, close_seconds=0.2)


class Broken(Exception):
    """The connection is cut here."""


class CutPeer(Peer):
    """The server's end of a connection that breaks after ``limit`` sent bytes. One thread owns it."""

    def __init__(self, sock: socket.socket, over: threading.Event, limit: int | None) -> None:
        super().__init__(sock, 0, over)
        self.limit = limit
        self.sent_bytes = 0

    def send(self, data: bytes) -> None:
        if self.limit is not None:
            data = data[: self.limit - self.sent_bytes]
        super().send(data)
        self.sent_bytes += len(data)
        if self.limit is not None and self.sent_bytes >= self.limit:
            raise Broken


class Transcribed(NamedTuple):
    """The result: words in their order, gaps, the number of connections, and the bytes that the first one received."""

    words: list[str]
    gaps: list[Gap]
    connections: int
    first_bytes: int

    def lost(self, pcm: bytes) -> list[str]:
        """Return the words of the audio that are neither printed nor in a gap."""
        return [
            word.text
            for word in recognize(pcm)
            if word.text not in self.words
            and not any(
                gap.start_seconds < word.end and word.start < gap.start_seconds + gap.seconds for gap in self.gaps
            )
        ]

    @property
    def repeated(self) -> list[str]:
        return [word for word in set(self.words) if self.words.count(word) > 1]


def transcribe(
    path: Path,
    serve: Callable[[Peer], object],
    *limits: int,
    dialect: str = "melvin",
    answer_seconds: float = 10.0,
    outage_seconds: float = 30.0,
) -> Transcribed:
    """Transcribe a WAV file.

    Args:
        path: The file, 16 kHz mono.
        serve: Serves one connection after the handshake.
        limits: After how many bytes from the server each of the first connections breaks.
        dialect: The dialect of the client.
        answer_seconds: As for ``Recognizer``.
        outage_seconds: As for ``Recognizer``.
    """
    over = threading.Event()
    peers: list[CutPeer] = []
    threads: list[threading.Thread] = []

    def run(peer: CutPeer) -> None:
        with peer.sock:
            try:
                serve(peer)
            except (Broken, OSError, EOFError):
                return

    def open(deadline: Deadline) -> Connection:
        ours, theirs = socket.socketpair()
        theirs.settimeout(TIMEOUT_SECONDS)
        peers.append(CutPeer(theirs, over, limits[len(peers)] if len(peers) < len(limits) else None))
        threads.append(threading.Thread(target=run, args=[peers[-1]], name="scripted"))
        threads[-1].start()
        return Connection(ours, transcription.Client("ws://x/", dialect=dialect), TIMING)

    inbox = Inbox()
    standby = make_standby(
        "transcription", open, inbox.put, eager=False, backoff=Backoff(0.001, 0.002), timing=STANDBY_TIMING
    )
    recognizer = Recognizer(
        FileFrames(path, 0.1),
        NullEndpointer(),
        standby,
        inbox.put,
        captions=True,
        answer_seconds=answer_seconds,
        outage_seconds=outage_seconds,
        close_timing=CLOSE_TIMING,
    )
    recognizer.start()
    assert recognizer.join(Deadline(TIMEOUT_SECONDS)), "the recognizer did not end"
    over.set()
    for thread in threads:
        thread.join(TIMEOUT_SECONDS)
    text = " ".join(heard.text for heard in inbox.of(Heard))
    return Transcribed(re.findall(r"\S+", text), inbox.of(Gap), len(peers), peers[0].sent_bytes if peers else 0)
