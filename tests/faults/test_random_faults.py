"""A seeded run of random faults, one after the other, over all services: whatever comes, every utterance ends in one
state, in order, and what is heard of it is the beginning of it. ``FAULTS`` says how many, ``FAULT_SEED`` which."""

from __future__ import annotations

import os
import random
import struct
import threading
from collections.abc import Callable

import pytest
from support.fault_tts import Speaking
from support.fault_voices import SERVICES, encoded, messages_of, sound, synthesis, upgraded
from support.keepalive import set_keepalive
from support.proxy import Proxy, Toxics
from support.scripted import BINARY, PING, TEXT, Peer, Scripted, close_frame, frame

from agent.pipeline.events import UtteranceCancelled, UtteranceFailed, UtterancePlayed
from agent.services.connection.websocket import Connection
from faults.conftest import Figure

COUNT = int(os.environ.get("FAULTS", "120"))
SEED = int(os.environ.get("FAULT_SEED", "3"))
TIMEOUT_SECONDS = 0.3


class Moody:
    """A service that does to each session whatever its dice say; the faults by name, and how often each came."""

    def __init__(self, service: str, seed: int) -> None:
        self._service, self._dice = service, random.Random(seed)
        self._lock = threading.Lock()
        self.calm = False
        self.received: dict[str, int] = {}
        # Vachana's own clients take a polite close after some sound for the end of it.
        codes = (1001, 1011, 1013) if service == "vachana" else (1000, 1001, 1011, 1013)
        self._faults: dict[str, Callable[[Peer], object]] = {
            "reset": Peer.reset,
            "fin": lambda peer: peer.sock.shutdown(2),
            "close": lambda peer: (peer.send(close_frame(self._dice.choice(codes))), peer.read_all()),
            "half a frame": lambda peer: (peer.send(frame(BINARY, b"x", length=900)), peer.read_all()),
            "silence": lambda peer: peer.read_all(),
            # No frame begins with a reserved bit: what did not might be a whole frame of sound, by one chance in 500.
            "garbage": lambda peer: (peer.send(b"\xf2" + self._dice.randbytes(200)), peer.read_all()),
            "giant": lambda peer: (peer.send(frame(TEXT, b"x", length=1 << 50)), peer.read_all()),
            "wrong utf-8": lambda peer: (peer.send(frame(TEXT, b"\xff\xfe")), peer.read_all()),
        }

    def script(self, peer: Peer) -> None:
        with self._lock:
            mood = "calm" if self.calm else self._dice.choice(["refuses", "hangs up", *self._faults, *["calm"] * 8])
            after = self._dice.randrange(5)
            self.received[mood] = self.received.get(mood, 0) + 1
        if mood == "refuses":
            peer.answer("503 Service Unavailable")
            return
        answers = upgraded(peer, self._service)
        if answers is None or mood == "hangs up":
            return
        sent = 0
        for message in messages_of(peer):
            for each in encoded(answers.take(message)):
                if mood in self._faults and sent == after:
                    self._faults[mood](peer)
                    return
                peer.send(frame(PING, struct.pack("!I", sent)) + each)
                sent += 1


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("service", SERVICES)
def test_whatever_comes_every_utterance_ends_in_one_state(
    shown: Figure, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    set_keepalive(monkeypatch, service, TIMEOUT_SECONDS, TIMEOUT_SECONDS)
    monkeypatch.setitem(Connection.__init__.__kwdefaults__, "stall_seconds", TIMEOUT_SECONDS)
    dice = random.Random(SEED)
    moody = Moody(service, SEED)
    states = {UtterancePlayed: 0, UtteranceFailed: 0, UtteranceCancelled: 0}
    down = Toxics()
    with (
        Scripted(moody.script) as server,
        Proxy(server.port, down=down, seed=SEED) as proxy,
        Speaking(
            synthesis(proxy.port, service), first_audio_seconds=TIMEOUT_SECONDS, healthy_seconds=0.01,
            refused_seconds=0.05,
        ) as speaking,
    ):  # fmt: skip
        for number in range(COUNT):
            down.slice_bytes = dice.choice((None, None, 1, 7, 100))
            down.latency_seconds = dice.choice((0.0, 0.0, 0.01))
            text = f"Number {number}."
            utterance = speaking.say(text)
            if dice.random() < 0.1:
                speaking.synthesizer.hush("dice")
            if dice.random() < 0.05:
                proxy.cut()
            end = speaking.ended(utterance)
            heard, whole = speaking.heard(utterance), sound(text)
            assert heard == whole[: len(heard)], (number, text)
            assert not isinstance(end, UtterancePlayed) or heard == whole, (number, end)
            states[type(end)] += 1
            if number % 20 == 19:
                speaking.forget()
        moody.calm = True
        down.slice_bytes, down.latency_seconds = None, 0.0
        speaking.said_again("And at the end all is well.", within_seconds=60.0)
    faults = sum(count for mood, count in moody.received.items() if mood != "calm")
    ends = f"{states[UtterancePlayed]} said, {states[UtteranceFailed]} failed, {states[UtteranceCancelled]} cancelled"
    shown(
        9, f"{service}: {faults} faults of {len(moody.received) - 1} kinds, {COUNT} utterances: {ends}, then said again"
    )
