"""Row 34, and what a ``say`` costs: connections are renewed before the service lets them go, addresses before they
expire, and nobody notices."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tools.authority import Authority
from tools.proxy import Proxy, Toxics
from tools.scripted import Peer, Scripted

from agent import grants
from agent.events import AudioArrived, Spoken
from agent.protocols import neuphonic
from agent.protocols.playai_authorization import MODEL_PATHS
from faults.conftest import Figure
from faults.speaking import Speaking
from faults.voices import SERVICES, Answers, encoded, messages_of, sound, speaks, synthesis, upgraded

SAID = "Nobody notices."


def test_row_34_neuphonics_idle_limit_is_never_met(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service drops what was idle for 0.3 s (90 s in truth); we renew at nine tenths of our own 0.15 s (50 s)."""
    monkeypatch.setattr(neuphonic.Client, "silent_seconds", 0.15)
    sessions: list[Answers] = []
    dropped: list[int] = []

    def script(peer: Peer) -> None:
        peer.sock.settimeout(20)
        answers = upgraded(peer, "neuphonic")
        assert answers is not None
        sessions.append(answers)
        peer.sock.settimeout(0.3)
        try:
            for message in messages_of(peer):
                for each in encoded(answers.take(message)):
                    peer.send(each)
        except TimeoutError:
            dropped.append(peer.index)

    over = threading.Event()
    with Scripted(script) as server, Speaking(synthesis(server.port, "neuphonic"), healthy_seconds=0.05) as speaking:
        said = 0
        for pause in (0.0, 0.4, 0.1, 0.7, 0.3):
            over.wait(pause)  # time that passes is what is tested here
            assert speaking.spoken(SAID) == sound(SAID)
            said += 1
        assert speaking.downs == [] and dropped == []
    renewed = len([session for session in sessions if not session.texts])
    assert renewed >= 5
    figure(34, f"neuphonic: {renewed} connections renewed unused, {said} of {said} said, 0 lines of trouble, 0 dropped")


class Expiring:
    """PlayAI with addresses that live ``seconds``; what is refused and what was granted is counted."""

    def __init__(self, seconds: float, *, honest: bool) -> None:
        self._seconds, self._honest = seconds, honest
        self.granted: list[float] = []
        self.refused = 0

    def script(self, peer: Peer) -> None:
        if peer.read_request().startswith("POST"):
            port = peer.sock.getsockname()[1]
            self.granted.append(time.monotonic())
            token = len(self.granted) - 1
            urls = {model: f"ws://127.0.0.1:{port}{path}?t={token}" for model, path in MODEL_PATHS.items()}
            said = self._seconds if self._honest else 3600.0
            expires = (datetime.now(UTC) + timedelta(seconds=said)).isoformat()
            body = json.dumps({"webSocketUrls": urls, "expiresAt": expires}).encode()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        token = int(peer.request.split("t=")[1].split(" ")[0])
        if time.monotonic() > self.granted[token] + self._seconds:
            self.refused += 1
            peer.answer("403 Forbidden")
            return
        speaks("playai")(peer)


@pytest.mark.parametrize("honest", [True, False])
def test_row_34_an_address_of_playai_is_renewed_before_or_when_it_has_grown_old(
    figure: Figure, monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    """``honest``: the address lives as long as it was said to. Otherwise it is refused, and asked for anew at once."""
    monkeypatch.setattr(grants, "GRANT_MARGIN_SECONDS", 0.1)
    service = Expiring(0.3, honest=honest)
    over = threading.Event()
    with Scripted(service.script) as server, Speaking(synthesis(server.port, "playai")) as speaking:
        for pause in (0.0, 0.35, 0.1, 0.4, 0.35):
            over.wait(pause)
            assert speaking.spoken(SAID) == sound(SAID)
        assert speaking.downs == []
    assert len(service.granted) >= 3
    assert (service.refused == 0) == honest
    how = "before it expired" if honest else f"when it was refused ({service.refused} times)"
    figure(34, f"playai: {len(service.granted)} addresses, asked for {how}, 5 of 5 said, 0 lines of trouble")


def test_row_06_an_address_that_is_refused_again_and_again_is_given_up(figure: Figure) -> None:
    service = Expiring(-1.0, honest=False)
    with Scripted(service.script) as server, Speaking(synthesis(server.port, "playai")) as speaking:
        assert "refuses the address that it granted" in speaking.failed(SAID).reason
        assert speaking.downs[0].permanent and (len(service.granted), service.refused) == (2, 2)
    figure(6, "playai: a granted address refused twice: permanent, no storm")


# --- what a say costs in round trips

DELAY = 0.05


@pytest.mark.parametrize("service", SERVICES)
def test_a_warm_say_costs_one_round_trip_and_a_cold_one_no_more_than_four(shown: Figure, service: str) -> None:
    """The proxy takes TCP connections itself: each one that a cold ``say`` needs is counted as one round trip more."""
    late = Toxics(latency_seconds=DELAY)
    with Scripted(speaks(service)) as server, Proxy(server.port, up=late, down=late) as proxy:
        with Speaking(synthesis(proxy.port, service), eager=False) as speaking:
            first = first_sound(speaking)  # PlayAI is asked for an address, which is good for an hour
            cold = first_sound(speaking)
        with Speaking(synthesis(proxy.port, service)) as speaking:
            warm = min(first_sound(speaking) for _ in range(4))
    cold_turns = round(cold / (2 * DELAY)) + 1
    first_turns = round(first / (2 * DELAY)) + (2 if service == "playai" else 1)
    assert round(warm / (2 * DELAY)) == 1
    assert cold_turns <= 3, "in plain text; TLS costs one more"
    shown(5, f"{service}: warm 1, cold {cold_turns}, the very first {first_turns}; {warm * 1000:.0f} ms warm")


def test_a_cold_say_over_tls_costs_four_round_trips(
    shown: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    late = Toxics(latency_seconds=DELAY)
    with (
        Scripted(speaks("neuphonic"), tls=authority.good()) as server,
        Proxy(server.port, up=late, down=late) as proxy,
        Speaking(synthesis(proxy.port, "neuphonic", secure=True)) as speaking,
    ):
        cold = first_sound(speaking)
    turns = round(cold / (2 * DELAY)) + 1
    assert turns == 4
    shown(5, f"over TLS: cold {turns} (TCP, TLS, upgrade, sound)")


def first_sound(speaking: Speaking) -> float:
    """Seconds from the wish to the first sound."""
    began = time.monotonic()
    utterance = speaking.say(SAID)
    arrived = AudioArrived(utterance, speaking.standbys[0].service)
    speaking.inbox.until(lambda: arrived in speaking.inbox.events)
    took = time.monotonic() - began
    assert isinstance(speaking.ended(utterance), Spoken)
    return took
