"""The recognizer with real connections to scripted transcription services, and frames whose every byte is known."""

from __future__ import annotations

import itertools
import json
import struct
import threading
from collections.abc import Iterator
from typing import Any

from agent.daemon.connection_builder import CLOSE_TIMING, STANDBY_TIMING
from agent.pipeline.capture.endpointer import NullEndpointer, VadEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.events import Gap, Heard, ServiceDown
from agent.pipeline.stage import make_standby
from agent.pipeline.stt.recognizer import Recognizer
from agent.services.connection.websocket import ConnectionTiming
from agent.services.service import TranscriptionService
from agent.services.settings import TranscriptionSettings
from agent.system.threads import Backoff, Deadline
from support.frame_detector import FrameDetector
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Script, frame
from support.transcriber import ANSWERS_LATE
from support.tts_pipeline import TIMEOUT_SECONDS, Inbox

MAX_FRAME_BYTES = 3200
EXPORT = "399e7f744c3e47c3a32f28a19f07739d"


class Session:
    """What one connection received: the numbers of its frames and the count of ``eof``. Thread-safe."""

    def __init__(self, changed: threading.Condition) -> None:
        self.frames: list[int] = []
        self.eofs = 0
        self.changed = changed

    def take(self, opcode: int, data: bytes) -> None:
        with self.changed:
            if opcode == BINARY:
                assert len(data) % 2 == 0
                for at in range(0, len(data) // MAX_FRAME_BYTES * MAX_FRAME_BYTES, MAX_FRAME_BYTES):
                    self.frames.append(struct.unpack_from("<H", data, at)[0])
            elif data == b"eof":
                self.eofs += 1
            self.changed.notify_all()


class Sessions(list[Session]):
    """The sessions in the order in which they were opened. Thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def begin(self) -> Session:
        """Append a session."""
        with self._changed:
            self.append(Session(self._changed))
            return self[-1]

    def await_frames(self, count: int) -> Session:
        """Wait for a session with ``count`` frames; return the first (an earlier one may have less)."""

        def matching() -> list[Session]:
            return [session for session in self if len(session.frames) >= count]

        with self._changed:
            assert self._changed.wait_for(matching, TIMEOUT_SECONDS), [session.frames for session in self]
            return matching()[0]

    @property
    def ended(self) -> list[Session]:
        """Sessions that received frames and ``eof``."""
        return [session for session in self if session.frames and session.eofs]


def numbered_frame(number: int, loud: bool = True) -> bytes:
    """Return a frame of 0.1 s whose first sample is its number."""
    return struct.pack("<H", number) + (b"\x00\x20" if loud else b"\0\0") * (MAX_FRAME_BYTES // 2 - 1)


def audio_messages(peer: Peer) -> Iterator[tuple[int, bytes]]:
    """Yield the client's messages until it disconnects; answer pings and the close."""
    for opcode, data in iter(peer.read_frame, (-1, b"")):
        if opcode == PING:
            peer.send(frame(PONG, data))
        elif opcode == CLOSE:
            peer.send(frame(CLOSE, data))
            return
        elif opcode in (TEXT, BINARY):
            yield opcode, data


def serve_transcription(sessions: Sessions, *finals: str, export: bool = True, every: int | None = None) -> Script:
    """Return the script of a healthy service: it answers ``eof`` with the finals, the export ID and a close.

    Args:
        every: Send the finals also after each frame whose number is a multiple of this, with their end time.
    """

    def script(peer: Peer) -> None:
        peer.accept(ANSWERS_LATE)
        session = sessions.begin()
        for opcode, data in audio_messages(peer):
            session.take(opcode, data)
            if data == b"eof" or (every is not None and session.frames[-1] % every == 0):
                word = {"word": "word", "start": 0.0, "end": len(session.frames) * 0.1, "conf": 1.0}
                for final in finals:
                    peer.text(json.dumps({"result": [word] if every else [], "text": final}))
            if data == b"eof":
                if export:
                    peer.text(EXPORT)
                peer.send(frame(CLOSE, struct.pack("!H", 1000)))

    return script


class SttPipeline:
    """``with SttPipeline(port) as pipeline``: a running recognizer. Not thread-safe.

    ``say`` queues frames; the exit ends the stream and waits for the recognizer.

    Args:
        connection: Timing of the connections, as for ``ConnectionTiming``.
        timing: As for ``Timing`` of the standby connection.
    """

    def __init__(
        self,
        port: int,
        *,
        captions: bool = False,
        outage_seconds: float = 30.0,
        answer_seconds: float = 10.0,
        connection: dict[str, Any] | None = None,
        **timing: Any,
    ) -> None:
        self.inbox = Inbox()
        self.frames = FrameQueue(outage_seconds if captions else 600.0)
        url = f"ws://127.0.0.1:{port}/"
        connection_timing = ConnectionTiming(**connection) if connection else None
        service = TranscriptionService(TranscriptionSettings(url=url), timing=connection_timing)
        self.standby = make_standby(
            "transcription",
            service.open,
            self.inbox.put,
            backoff=Backoff(0.01, 0.02),
            timing=STANDBY_TIMING._replace(**timing),
        )
        endpointer = (
            NullEndpointer()
            if captions
            else VadEndpointer(
                FrameDetector(_is_loud, onset_seconds=0.1),
                silence_seconds=0.3,
                turn_seconds=600.0,
                pre_roll_seconds=0.2,
            )
        )
        self.recognizer = Recognizer(
            self.frames,
            endpointer,
            self.standby,
            self.inbox.put,
            captions=captions,
            outage_seconds=outage_seconds,
            answer_seconds=answer_seconds,
            close_timing=CLOSE_TIMING,
        )
        self._numbers = itertools.count(1)

    def __enter__(self) -> SttPipeline:
        self.recognizer.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.recognizer.stop() if kind is None else self.recognizer.abort()
        ended = self.recognizer.join(Deadline(TIMEOUT_SECONDS))
        assert ended or kind is not None, "the recognizer did not end"

    def say(self, count: int, *, loud: bool = True) -> list[int]:
        """Queue ``count`` frames; return their numbers."""
        numbers = list(itertools.islice(self._numbers, count))
        for number in numbers:
            self.frames.put(numbered_frame(number, loud))
        return numbers

    def turn(self, count: int) -> list[int]:
        """Queue a turn of ``count`` loud frames and a pause; return the frame numbers."""
        return [*self.say(count), *self.say(4, loud=False)]

    def heard(self, count: int) -> list[Heard]:
        self.inbox.until(lambda: len([e for e in self.inbox.events if isinstance(e, Heard)]) >= count)
        return self.inbox.of(Heard)

    @property
    def gaps(self) -> list[Gap]:
        return self.inbox.of(Gap)

    @property
    def downs(self) -> list[ServiceDown]:
        return self.inbox.of(ServiceDown)


def _is_loud(data: bytes) -> bool:
    return data[3] != 0
