"""Wake words that a service finds."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from support.gathered import Gathered
from support.machine import free_port
from support.wyoming_peer import WyomingPeer

from agent.audio.format import SPEECH
from agent.daemon.connection_builder import standby_for
from agent.errors import ConfigError
from agent.pipeline.capture.spotter import Spot
from agent.pipeline.capture.wyoming_words import AFTER_SECONDS, HELD_SECONDS, STALE_SECONDS, WyomingSpotter
from agent.pipeline.events import ServiceDown, ServiceUp
from agent.services.connection.poll import wait
from agent.services.connection.websocket import Connection
from agent.services.protocols.wyoming_event import WyomingEvent, encode_event
from agent.services.service import WakeService
from agent.settings.loader import load
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0
INFO = encode_event("info", {"wake": [{"name": "peer", "models": [{"name": "alexa"}]}]})
QUIET, WORD, DROP = bytes(3200), b"\x01" * 3200, b"\x02" * 3200


def answer(client: socket.socket, event: WyomingEvent) -> bool:
    """Find the word in one kind of frame, several times as wyoming-openwakeword does; end the connection at another."""
    if event.type == "describe":
        client.sendall(INFO)
    if event.payload == WORD:
        client.sendall(3 * encode_event("detection", {"name": "alexa", "timestamp": event.data["timestamp"]}))
    return event.payload != DROP


class Rig:
    def __init__(self, url: str, pause_seconds: float = STALE_SECONDS) -> None:
        self.reported = Gathered()
        self.standby = standby_for(WakeService(url, ["alexa"], allow_plaintext=False), self.reported, eager=False)
        self.spotter = WyomingSpotter(self.standby, "alexa", stale_seconds=pause_seconds)

    def find(self, *frames: bytes) -> list[Spot]:
        return [spot for frame in frames if (spot := self.spotter.find(frame)) is not None]

    def until(self, is_done: Callable[[], object], frame: bytes = b"") -> list[Spot]:
        """Feed frames until something has happened."""
        deadline, found = Deadline(TIMEOUT_SECONDS), []
        while not is_done():
            assert not deadline.is_expired
            wait(None, self.standby.waitables(), 0.01)
            found += self.find(frame)
        return found

    def close(self) -> None:
        self.spotter.close(Deadline(TIMEOUT_SECONDS))


def chunks(peer: WyomingPeer) -> list[bytes]:
    return [event.payload for event in peer.received if event.type == "audio-chunk"]


def test_frames_wait_for_the_connection_and_a_word_is_found_once() -> None:
    with WyomingPeer(answer) as peer:
        rig = Rig(peer.url)
        spots: list[Spot] = rig.find(QUIET, QUIET, WORD)  # rarely, the connection is open already
        deadline = Deadline(TIMEOUT_SECONDS)
        while not spots and not deadline.is_expired:
            wait(None, rig.standby.waitables(), 0.01)
            spots += rig.find(b"")
        (spot,) = spots
        assert (spot.word, spot.is_found) == ("alexa", True)
        assert AFTER_SECONDS < spot.after_seconds <= 1.0, "at least the frame with the end of the word"
        assert chunks(peer)[1:] == [QUIET, QUIET, WORD]
        assert rig.find(QUIET) == [], "the same word again"
        rig.close()
    assert peer.types()[-1] == "audio-stop"


def test_a_word_that_is_reported_after_a_pause_is_old() -> None:
    received: list[socket.socket] = []

    def hold(client: socket.socket, event: WyomingEvent) -> bool:
        received.append(client)
        return answer(client, event)

    with WyomingPeer(hold) as peer:
        rig = Rig(peer.url, pause_seconds=0.0)  # each frame follows a pause, in which the gate was open
        rig.until(lambda: QUIET in chunks(peer), QUIET)
        received[0].sendall(encode_event("detection", {"name": "alexa"}))
        wait(None, [rig.spotter], TIMEOUT_SECONDS)
        assert rig.find(QUIET) == []
        rig.close()


def test_a_lost_service_is_reported_and_reconnected() -> None:
    with WyomingPeer(answer) as peer:
        rig = Rig(peer.url)
        rig.until(lambda: rig.reported.of(ServiceDown), DROP)
        rig.until(lambda: rig.reported.of(ServiceUp), QUIET)
        rig.close()


def test_without_a_service_the_newest_audio_is_kept() -> None:
    rig = Rig(f"tcp://127.0.0.1:{free_port()}")
    assert rig.until(lambda: rig.reported.of(ServiceDown)) == []
    frames = [bytes([number]) * 3200 for number in range(100)]
    assert rig.find(*frames) == []
    kept = b"".join(rig.spotter._held)
    assert SPEECH.seconds_of(len(kept)) == pytest.approx(HELD_SECONDS, abs=0.1) and kept.endswith(frames[-1])
    rig.close()


def test_audio_that_a_connection_does_not_take_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    with WyomingPeer(answer) as peer:
        rig = Rig(peer.url)
        rig.until(lambda: QUIET in chunks(peer), QUIET)
        with monkeypatch.context() as full:
            full.setattr(Connection, "send", lambda connection, event: False)
            rig.find(WORD)
        rig.until(lambda: WORD in chunks(peer), QUIET)
        rig.close()


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("url: 'tcp://wake.example.com'", "allow_plaintext"),
        ("url: 'http://127.0.0.1'", "tcp://"),
        ("words: []", "no wake word"),
    ],
)
def test_a_wrong_setting_is_refused(tmp_path: Path, lines: str, part: str) -> None:
    (tmp_path / "config.yaml").write_text(f"wake:\n  engine: wyoming\n  {lines}\n")
    with pytest.raises(ConfigError, match=part):
        load(tmp_path / "config.yaml", {})
