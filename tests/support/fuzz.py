"""Thousands of invalid messages for the client and server of each codec: none may raise or stay in memory.

Each message is a mutated valid message or junk. A codec receives a dozen of them, between events that its own side
sends, and then the close.
"""

from __future__ import annotations

import gc
import json
import random
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack

from agent.services.protocols import fish, neuphonic, playai, transcription, vachana
from agent.services.protocols.codec import Audio, End, Failure, Flush, Log, Message, Text, Transcript, Word
from support.machine import resident_kib

AUDIO = bytes(range(256)) * 2
SESSION_MESSAGES = 12
URL = "ws://127.0.0.1:1/speak/en"
KEY = "s3cret-key-of-the-fuzzer"


@dataclass(frozen=True)
class Target:
    """A client or server: its constructor, the valid messages of its peer, and the events that its own side sends."""

    make: Callable[[], Any]
    valid: list[Message]
    events: list[Any]


@dataclass(frozen=True)
class Cost:
    """The cost of a run."""

    messages: int
    seconds: float
    grown_kib: int
    events: int


def _ask() -> list[Any]:
    return [Text("One. "), Flush(), Text("Zwei ü 🎉."), Flush(), End()]


def _answer() -> list[Any]:
    return [Text("One."), Audio(AUDIO), Audio(AUDIO[:7], 16000), Flush(), Log("so"), Failure("x", "y", "z"), End()]


def _client(make: Callable[[], Any], server: Callable[[], Any], path: str) -> Target:
    one, other = make(), server()
    other.handshake(path, {"x-api-key": KEY})
    valid: list[Message] = []
    for word in _ask():
        for message in one.send(word):
            other.receive(message)
    for word in _answer():
        valid += other.send(word)
    return Target(make, valid, _ask())


def _server(make: Callable[[], Any], client: Callable[[], Any], path: str) -> Target:
    def opened() -> Any:
        codec = make()
        codec.handshake(path, {"x-api-key": KEY})
        return codec

    one = client()
    valid = [message for word in _ask() for message in one.send(word)]
    return Target(opened, valid, _answer())


def _heard() -> list[Any]:
    word = Word("one", 0.1, 0.4, 0.9)
    return [Transcript("one", False), Transcript("one two", True, (word,)), Log("so"), End("3" * 32)]


def _playai_client() -> Any:
    numbers = iter(range(1 << 30))
    return playai.Client(f"{URL}?token={KEY}", "v", request_ids=lambda: f"r{next(numbers)}")


def targets() -> dict[str, Target]:
    """Return all clients and servers by the names `SERVICE client` and `SERVICE server`."""
    sides: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
        "neuphonic": (lambda: neuphonic.Client(URL, KEY), neuphonic.Server, "/speak/en"),
        "playai": (_playai_client, playai.Server, "/playht-fal/playht-tts/stream"),
        "vachana": (lambda: vachana.Client(URL, KEY), vachana.Server, "/api/v1/tts"),
        "fish": (lambda: fish.Client(URL, KEY), fish.Server, "/v1/tts/live"),
    }
    result: dict[str, Target] = {}
    for name, (client, server, path) in sides.items():
        result[f"{name} client"] = _client(client, server, path)
        result[f"{name} server"] = _server(server, client, path)
    listener = transcription.Server()
    frames: list[Any] = [Audio(AUDIO * 8), Audio(AUDIO * 8), End()]
    replies = [message for event in _heard() for message in listener.send(event)]
    result["transcription client"] = Target(lambda: transcription.Client(URL, KEY), replies, frames)
    speaker = transcription.Client(URL, KEY)
    requests = [message for event in frames for message in speaker.send(event)]
    result["transcription server"] = Target(transcription.Server, requests, _heard())
    return result


JUNK: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 70, 1e308, "", "\x00\x1b[31m\u202e", "eof", "<STOP>", [], {}, [[]] * 5, {"": {"": {}}},
    "ÿ" * 300, "AAAA", "AAA", "!!!!", "\ud800", 3.5, "NaN",
)  # fmt: skip


class Mutator:
    """Makes invalid messages from valid ones, the same ones for the same seed."""

    def __init__(self, valid: list[Message], seed: int) -> None:
        self._random = random.Random(seed)
        self._valid = valid

    def message(self) -> Message:
        chance = self._random.random()
        good = self._random.choice(self._valid)
        if chance < 0.1:
            return good
        if chance < 0.2:
            return self._junk()
        if chance < 0.6 and (changed := self._restructured(good)) is not None:
            return changed
        return self._scrambled(good)

    def _junk(self) -> Message:
        size = self._random.choice((0, 1, 2, 3, 17, 200, 3000))
        data = self._random.randbytes(size)
        return data if self._random.random() < 0.5 else data.decode("latin-1")

    def _scrambled(self, good: Message) -> Message:
        data = bytearray(good.encode("utf-8", "surrogatepass") if isinstance(good, str) else good)
        for _ in range(self._random.randint(1, 4)):
            at = self._random.randint(0, len(data))
            what = self._random.randrange(5)
            if what == 0:
                data[at:] = b""
            elif what == 1:
                data[at:at] = self._random.randbytes(self._random.randint(1, 8))
            elif what == 2 and data:
                data[at % len(data)] ^= 1 << self._random.randrange(8)
            elif what == 3:
                data[at : at + self._random.randint(1, 30)] = b""
            else:
                data[at:at] = struct.pack("!BI", self._random.choice((0xC6, 0xDD, 0xDF, 0xDB)), 0xFFFFFFF0)
        binary = isinstance(good, bytes) ^ (self._random.random() < 0.1)
        return bytes(data) if binary else data.decode("utf-8", "replace")

    def _restructured(self, good: Message) -> Message | None:
        try:
            fields = json.loads(good) if isinstance(good, str) else msgpack.unpackb(good, raw=False)
        except (ValueError, msgpack.UnpackException, UnicodeDecodeError, RecursionError):
            return None
        if not isinstance(fields, dict):
            return None
        self._spoil(fields)
        try:
            return (
                json.dumps(fields) if isinstance(good, str) else bytes(msgpack.packb(fields, unicode_errors="replace"))
            )
        except (ValueError, TypeError, OverflowError):
            return None

    def _spoil(self, fields: dict[Any, Any]) -> None:
        place = fields
        while self._random.random() < 0.5 and (deeper := [v for v in place.values() if isinstance(v, dict) and v]):
            place = self._random.choice(deeper)
        names = list(place) or ["x"]
        name = self._random.choice(names)
        what = self._random.randrange(3)
        if what == 0:
            place.pop(name, None)
        elif what == 1:
            place[name] = self._random.choice(JUNK)
        else:
            place[self._random.choice((*names, "error", "status", "stop", "type", "event"))] = self._random.choice(JUNK)


def run(target: Target, messages: int, seed: int = 1) -> Cost:
    """Pass a number of messages to a target and measure the cost; `grown_kib` ignores the first 2000 messages."""
    mutator = Mutator(target.valid, seed)
    dice = random.Random(seed + 1)
    events = 0
    before = resident_kib()
    warm = min(2000, messages // 4)
    began = time.monotonic()
    done = 0
    while done < messages:
        codec = target.make()
        words = list(target.events)
        for _ in range(SESSION_MESSAGES):
            if words and dice.random() < 0.2:
                codec.send(words.pop(0))
            events += _checked(codec.receive(mutator.message()))
            done += 1
        if hasattr(codec, "receive_timeout"):
            events += _checked(codec.receive_timeout())
        code = dice.choice((1000, 1005, 1006, 1011, 4000))
        events += _checked(codec.receive_close(code, "why\x07"))
        assert codec.receive_close(code) == [], "the end is returned once"
        if done <= warm < done + SESSION_MESSAGES:
            gc.collect()
            before = resident_kib()
    gc.collect()
    return Cost(done, time.monotonic() - began, resident_kib() - before, events)


def _checked(events: list[Any]) -> int:
    for event in events:
        assert isinstance(event, Text | Audio | Flush | End | Transcript | Log | Failure), event
        if isinstance(event, Failure):
            assert len(event.received) <= 400 and event.received.isprintable(), event
            assert KEY not in event.received and KEY not in event.expected, event
    return len(events)
