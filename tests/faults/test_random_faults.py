"""Seeded random faults of every service, one after the other; every utterance ends in exactly one state.

``FAULTS`` sets the number of utterances, ``FAULT_SEED`` the seed.
"""

from __future__ import annotations

import os
import random
import struct
import threading
from collections.abc import Callable

import pytest
from support.fault_rows import Record
from support.proxy import Proxy, Toxics
from support.scripted import BINARY, PING, TEXT, Peer, Scripted, close_frame, frame
from support.speech_services import SERVICES, accept_session, audio_of, client_messages, frames_of, synthesis_settings
from support.tts_pipeline import TtsPipeline

from agent.pipeline.events import UtteranceCancelled, UtteranceFailed, UtterancePlayed

COUNT = int(os.environ.get("FAULTS", "120"))
SEED = int(os.environ.get("FAULT_SEED", "3"))
TIMEOUT_SECONDS = 0.3
NONE = "none"


class FaultyService:
    """A service that draws a fault for each session; ``counts`` has the number of sessions by fault."""

    def __init__(self, service: str, seed: int) -> None:
        self._service, self._random = service, random.Random(seed)
        self._lock = threading.Lock()
        self.is_healthy = False
        self.counts: dict[str, int] = {}
        # Vachana's clients treat a normal close after audio as the end of the audio.
        codes = (1001, 1011, 1013) if service == "vachana" else (1000, 1001, 1011, 1013)
        self._faults: dict[str, Callable[[Peer], object]] = {
            "reset": Peer.reset,
            "fin": lambda peer: peer.sock.shutdown(2),
            "close": lambda peer: (peer.send(close_frame(self._random.choice(codes))), peer.read_all()),
            "half a frame": lambda peer: (peer.send(frame(BINARY, b"x", length=900)), peer.read_all()),
            "silence": lambda peer: peer.read_all(),
            # The first byte sets a reserved bit: otherwise one of 500 random strings is a valid frame.
            "garbage": lambda peer: (peer.send(b"\xf2" + self._random.randbytes(200)), peer.read_all()),
            "giant": lambda peer: (peer.send(frame(TEXT, b"x", length=1 << 50)), peer.read_all()),
            "invalid utf-8": lambda peer: (peer.send(frame(TEXT, b"\xff\xfe")), peer.read_all()),
        }

    def script(self, peer: Peer) -> None:
        with self._lock:
            choices = ["refuses", "disconnects", *self._faults, *[NONE] * 8]
            fault = NONE if self.is_healthy else self._random.choice(choices)
            frames_before = self._random.randrange(5)
            self.counts[fault] = self.counts.get(fault, 0) + 1
        if fault == "refuses":
            peer.answer("503 Service Unavailable")
            return
        session = accept_session(peer, self._service)
        if session is None or fault == "disconnects":
            return
        sent = 0
        for message in client_messages(peer):
            for each in frames_of(session.receive(message)):
                if fault in self._faults and sent == frames_before:
                    self._faults[fault](peer)
                    return
                peer.send(frame(PING, struct.pack("!I", sent)) + each)
                sent += 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("service", SERVICES)
def test_every_utterance_ends_in_one_state_under_random_faults(record_show: Record, service: str) -> None:
    timing = dict.fromkeys(("ping_seconds", "pong_seconds", "stall_seconds"), TIMEOUT_SECONDS)
    chance = random.Random(SEED)
    faulty = FaultyService(service, SEED)
    states = {UtterancePlayed: 0, UtteranceFailed: 0, UtteranceCancelled: 0}
    down = Toxics()
    with (
        Scripted(faulty.script) as server,
        Proxy(server.port, down=down, seed=SEED) as proxy,
        TtsPipeline(
            synthesis_settings(proxy.port, service), connection=timing, first_audio_seconds=TIMEOUT_SECONDS,
            healthy_seconds=0.01, refused_seconds=0.05,
        ) as pipeline,
    ):  # fmt: skip
        for number in range(COUNT):
            down.slice_bytes = chance.choice((None, None, 1, 7, 100))
            down.latency_seconds = chance.choice((0.0, 0.0, 0.01))
            text = f"Number {number}."
            utterance = pipeline.say(text)
            if chance.random() < 0.1:
                pipeline.synthesizer.cancel_all("test")
            if chance.random() < 0.05:
                proxy.cut()
            end = pipeline.ended(utterance)
            played, expected = pipeline.heard(utterance), audio_of(text)
            assert played == expected[: len(played)], (number, text)
            assert not isinstance(end, UtterancePlayed) or played == expected, (number, end)
            states[type(end)] += 1
            if number % 20 == 19:
                pipeline.forget()
        faulty.is_healthy = True
        down.slice_bytes, down.latency_seconds = None, 0.0
        pipeline.speak_until_played("The service is healthy again.", within_seconds=60.0)
    faults = sum(count for fault, count in faulty.counts.items() if fault != NONE)
    ends = f"{states[UtterancePlayed]} played, {states[UtteranceFailed]} failed, {states[UtteranceCancelled]} cancelled"
    kinds = len(faulty.counts) - 1
    record_show(9, f"{service}: {faults} faults of {kinds} kinds, {COUNT} utterances: {ends}, then played again")
