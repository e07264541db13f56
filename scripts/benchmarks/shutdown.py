"""Measures the shutdown: from SIGTERM to the end mark at the transcription service, and to the exit, in each mode.

The services run in this process: the local speech server, and stand-ins that answer as melvin-asr (June 2024, April
2025) and vosk-server were measured to. A transcription takes them 0.05 s. Captions end while speech is being sent.
"eof after the last answer" counts from the last transcript, or from SIGTERM if that is later.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.recognizers import CurrentMelvinServer, MelvinServer, VoskServer, speech
from support.scripted import TEXT, Peer, Scripted
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.server.tts import tone
from agent.server.wire_log import WireLog
from agent.services.protocols.codec import Audio, End, Message, Transcript
from scripts.benchmarks._daemon import TIMEOUT_SECONDS, Daemon, Ready, daemon
from scripts.benchmarks._report import Column, Result, Table, at_most, progress
from scripts.benchmarks._server import Server

MAX_EOF_SECONDS = 0.15
"""A frame of 0.1 s, a round trip on this machine, and 0.05 s."""
MAX_EXIT_SECONDS = 0.5
TRANSCRIPTION_SECONDS = 0.05
SPEECH_SECONDS = 60.0
ANSWERS = 3
"""The daemon ends after this many answers."""


class Exchange:
    """The times of one session at the service (``time.perf_counter``). Thread-safe."""

    def __init__(self) -> None:
        self.is_busy = threading.Event()
        self.answer_at: float | None = None
        self.eof_at: float | None = None
        self._answers = 0

    def add_answer(self) -> None:
        self.answer_at = time.perf_counter()
        self._answers += 1
        if self._answers >= ANSWERS:
            self.is_busy.set()

    def add_eof(self) -> None:
        self.eof_at = self.eof_at or time.perf_counter()


class TimedPeer:
    """A peer whose transcripts and end mark are timed. Not thread-safe; owned by the script's thread."""

    def __init__(self, peer: Peer, exchange: Exchange) -> None:
        self._peer, self._exchange = peer, exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._peer, name)

    def text(self, text: str) -> None:
        if text.startswith("{"):
            self._exchange.add_answer()
        self._peer.text(text)

    def read_frame(self) -> tuple[int, bytes]:
        opcode, data = self._peer.read_frame()
        if opcode == TEXT and b"eof" in data:
            self._exchange.add_eof()
        return opcode, data


class TimedLog(WireLog):
    """Times transcripts and end marks in place of a wire log. Thread-safe."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(None)
        self._exchange = exchange
        self._is_transcribing = False

    def message(
        self, connection: int, service: str, direction: str, message: Message, events: Iterable[Any] = ()
    ) -> None:
        kinds = {type(event) for event in events}
        self._is_transcribing = self._is_transcribing or (direction == "in" and Audio in kinds)
        if direction == "out" and Transcript in kinds:
            self._exchange.add_answer()
        elif direction == "in" and End in kinds and self._is_transcribing:
            self._exchange.add_eof()


def local_server(folder: Path, exchange: Exchange) -> Server:
    """Start the local server with exact engines."""
    script = folder / "script.txt"
    script.write_text("one two three\n" * 1000)
    return Server(TimedLog(exchange), "--recognition", "script", "--script", str(script))


@contextlib.contextmanager
def stand_in(server: Callable[..., Any], exchange: Exchange) -> Iterator[int]:
    """Run a stand-in for a transcription service; yield its port."""

    def script(peer: Peer) -> None:
        peer.accept()
        with contextlib.suppress(EOFError, OSError):
            server(TimedPeer(peer, exchange), TRANSCRIPTION_SECONDS).run()

    with Scripted(script) as scripted:
        yield scripted.port


class Way(NamedTuple):
    """One kind of shutdown. Immutable."""

    mode: str
    service: str
    dialect: str = "melvin"
    server: Callable[..., Any] | None = None
    is_busy: bool = False


WAYS = (
    Way("announce", "local"),
    Way("assistant, waiting", "local"),
    Way("assistant, in a turn", "local", is_busy=True),
    Way("captions", "local", is_busy=True),
    Way("captions", "melvin-asr of 2024", server=MelvinServer, is_busy=True),
    Way("captions", "melvin-asr of 2025", server=CurrentMelvinServer, is_busy=True),
    Way("captions", "vosk-server", "vosk", VoskServer, is_busy=True),
)


class Shutdown(NamedTuple):
    """One shutdown, in seconds; ``eof`` and ``late`` are ``None`` where no transcription is in progress."""

    eof: float | None
    late: float | None
    exit: float


def measure(way: Way, folder: Path, ready: Ready, card: VirtualCard) -> Shutdown:
    """Start a daemon and end it."""
    exchange = Exchange()
    card.inject(bytes(SPEECH.bytes_of(0.1)), SPEECH)
    with local_server(folder, exchange) as server, contextlib.ExitStack() as stack:
        listener = stack.enter_context(stand_in(way.server, exchange)) if way.server else server.port
        config = (
            f"conversation: {{mode: {way.mode.partition(',')[0]}, vad: energy}}\n"
            "microphone: {device: mic}\nspeaker: {device: speaker}\nserver: {start: false}\n"
            f"transcription: {{url: 'ws://127.0.0.1:{listener}/', dialect: {way.dialect}}}\n"
            f"synthesis: {{services: [local], local: {{url: 'ws://127.0.0.1:{server.port}'}}}}\n"
        )
        running: Daemon = stack.enter_context(daemon(folder, ready, config, card.env))
        if way.is_busy:
            talk = speech(SPEECH_SECONDS) if way.server else tone.pcm("word " * 300, SPEECH.rate)
            card.inject(talk, SPEECH)
            if not exchange.is_busy.wait(TIMEOUT_SECONDS):
                raise SystemExit(f"{way.mode}: the service has received no speech: {running.log()}")
        else:  # everything is imported, and the standby connection is open
            running.speak("good evening")
        began = time.perf_counter()
        seconds = running.terminate()
        if not way.is_busy:
            return Shutdown(None, None, seconds)
        if exchange.eof_at is None or exchange.answer_at is None:
            raise SystemExit(f"{way.mode}, {way.service}: no end mark: {running.log()}")
        # Answers that follow the end mark do not count.
        last = max(began, min(exchange.answer_at, exchange.eof_at))
        return Shutdown(exchange.eof_at - began, exchange.eof_at - last, seconds)


def run(rounds: int) -> Result:
    found: dict[Way, list[Shutdown]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready, card = Ready(folder), VirtualCard(folder)
        for turn in range(rounds):
            for way in WAYS:
                found[way].append(measure(way, folder, ready, card))
            progress(f"shutdown: turn {turn + 1} of {rounds}")
    rows: list[tuple[Any, ...]] = []
    late, exits = {}, {}
    for way, times in found.items():
        middle = [statistics.median(kind) if None not in kind else None for kind in zip(*times, strict=True)]
        rows.append((way.mode, way.service, *(None if each is None else each * 1000 for each in middle)))
        exits[f"{way.mode}, {way.service}"] = middle[2] * 1000
        if middle[1] is not None:
            late[f"{way.mode}, {way.service}"] = middle[1] * 1000
    columns = ("SIGTERM to eof, ms", "eof after the last answer, ms", "SIGTERM to exit, ms")
    return Result(
        [Table((f"mode ({rounds} turns)", "service"), tuple(Column(each, 0) for each in columns), rows)],
        [
            at_most(f"eof within {MAX_EOF_SECONDS * 1000:g} ms of the last answer", MAX_EOF_SECONDS * 1000, late),
            at_most(f"exit within {MAX_EXIT_SECONDS * 1000:g} ms", MAX_EXIT_SECONDS * 1000, exits),
        ],
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench shutdown", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="turns (7)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(arguments)
    return run(options.rounds).show(as_json=options.json)
