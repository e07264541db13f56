"""Row 34: renewal of idle connections and expiring URLs; round trips of a ``say``."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from support.authority import Authority
from support.fault_rows import Record
from support.proxy import Proxy, Toxics
from support.scripted import Peer, Scripted
from support.speech_services import (
    SERVICES,
    ServiceSession,
    accept_session,
    audio_of,
    client_messages,
    frames_of,
    serve_speech,
    synthesis_settings,
)
from support.tts_pipeline import TtsPipeline

from agent.pipeline.events import AudioArrived, UtterancePlayed
from agent.services import url_cache as grants
from agent.services.protocols import neuphonic
from agent.services.protocols.playai_auth import MODEL_PATHS
from agent.system.threads import Deadline

SAID = "Nobody notices."


def test_row_34_neuphonic_connections_are_renewed_before_the_idle_limit(
    record_row: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service drops what was idle for 4 s (90 s in truth); we renew at nine tenths of our own 0.15 s (50 s). The
    rest is what a busy machine may take over it."""
    monkeypatch.setattr(neuphonic.Client, "max_idle_seconds", 0.15)
    sessions: list[ServiceSession] = []
    dropped: list[int] = []
    renewed = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        session = accept_session(peer, "neuphonic")
        assert session is not None
        sessions.append(session)
        peer.sock.settimeout(4.0)
        try:
            for message in client_messages(peer):
                for each in frames_of(session.receive(message)):
                    peer.send(each)
        except TimeoutError:
            dropped.append(peer.index)
        if not session.texts:
            renewed.release()

    over = threading.Event()
    with (
        Scripted(script) as server,
        TtsPipeline(synthesis_settings(server.port, "neuphonic"), healthy_seconds=0.05) as pipeline,
    ):
        said = 0
        for pause in (0.0, 0.4, 0.1, 4.5, 0.3):
            over.wait(pause)  # time that passes is what is tested here
            assert pipeline.spoken(SAID) == audio_of(SAID)
            said += 1
        for _ in range(5):
            assert renewed.acquire(timeout=30), "nothing was renewed"
        assert pipeline.downs == [] and dropped == []
    count = len([session for session in sessions if not session.texts])
    record_row(
        34, f"neuphonic: {count} connections renewed unused, {said} of {said} said, 0 lines of trouble, 0 dropped"
    )


class Expiring:
    """PlayAI with addresses that are said to live ``seconds``, and live until ``age``, if ``generous`` at all. What is
    refused and what was granted is counted."""

    def __init__(self, seconds: float, *, generous: bool = True) -> None:
        self._seconds, self._generous = seconds, generous
        self._changed = threading.Condition()
        self._aged = self.accepted = 0
        self.granted: list[float] = []
        self.refused = 0

    def age(self, accepted: int) -> None:
        """All that has been granted is refused from now on. Before, so many connections have been accepted: none is
        under way whose address would be of no use as soon as it was granted."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.accepted >= accepted, 30), self.accepted
            self._aged = len(self.granted)

    def script(self, peer: Peer) -> None:
        if peer.read_request().startswith("POST"):
            port = peer.sock.getsockname()[1]
            with self._changed:
                self.granted.append(time.monotonic())
                token = len(self.granted) - 1
            urls = {model: f"ws://127.0.0.1:{port}{path}?t={token}" for model, path in MODEL_PATHS.items()}
            expires = (datetime.now(UTC) + timedelta(seconds=self._seconds)).isoformat()
            body = json.dumps({"webSocketUrls": urls, "expiresAt": expires}).encode()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        token = int(peer.request.split("t=")[1].split(" ")[0])
        with self._changed:
            good = self._generous and token >= self._aged and time.monotonic() <= self.granted[token] + self._seconds
            self.accepted += good
            self.refused += not good
            self._changed.notify_all()
        if good:
            serve_speech("playai")(peer)
        else:
            peer.answer("403 Forbidden")


def test_row_34_a_playai_url_is_renewed_before_it_expires(record_row: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken for old 0.3 s after it was granted, and refused 30 s later (5 minutes in truth)."""
    monkeypatch.setattr(grants, "EXPIRY_MARGIN_SECONDS", 30.0)
    service = Expiring(30.3)
    over = threading.Event()
    with Scripted(service.script) as server, TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline:
        for pause in (0.0, 0.35, 0.1, 0.4, 0.35):
            over.wait(pause)  # time that passes is what is tested here
            assert pipeline.spoken(SAID) == audio_of(SAID)
        assert pipeline.downs == []
    assert len(service.granted) >= 3 and service.refused == 0
    record_row(34, f"playai: {len(service.granted)} addresses, each in time, 5 of 5 said, 0 lines of trouble")


def test_row_34_a_rejected_playai_url_is_renewed_immediately(record_row: Record) -> None:
    """It grows old long before the time that was said."""
    service = Expiring(3600.0)
    with Scripted(service.script) as server, TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline:
        for number in range(5):
            assert pipeline.spoken(SAID) == audio_of(SAID)
            service.age(number + 2)  # those that have been spoken on, and the one that is ready
        assert pipeline.downs == []
    assert service.refused >= 3 and len(service.granted) >= 4
    record_row(
        34, f"playai: {len(service.granted)} addresses, {service.refused} refused, 5 of 5 said, 0 lines of trouble"
    )


def test_row_06_a_repeatedly_rejected_playai_url_is_permanent(record_row: Record) -> None:
    service = Expiring(3600.0, generous=False)
    with Scripted(service.script) as server, TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline:
        assert "refuses the URL that it issued" in pipeline.failed(SAID).reason
        assert pipeline.downs[0].permanent and (len(service.granted), service.refused) == (2, 2)
    record_row(6, "playai: a granted address refused twice: permanent, no storm")


# --- what a say costs in round trips

DELAY = 0.1


@pytest.mark.parametrize("service", SERVICES)
def test_a_warm_say_takes_one_round_trip_and_a_cold_one_four(record_show: Record, service: str) -> None:
    """The proxy takes TCP connections itself: each one that a cold ``say`` needs is counted as one round trip more."""
    late = Toxics(latency_seconds=DELAY)
    with Scripted(serve_speech(service)) as server, Proxy(server.port, up=late, down=late) as proxy:
        with TtsPipeline(synthesis_settings(proxy.port, service), eager=False) as pipeline:
            first = first_sound(pipeline)  # PlayAI is asked for an address, which is good for an hour
            cold = round_trips(lambda: first_sound(pipeline), 2)
        with TtsPipeline(synthesis_settings(proxy.port, service)) as pipeline:
            warm = round_trips(lambda: first_sound(pipeline), 1)
    first_turns = round(first / (2 * DELAY)) + (2 if service == "playai" else 1)
    assert warm == 1
    assert cold + 1 <= 3, "in plain text; TLS costs one more"
    record_show(5, f"{service}: warm {warm}, cold {cold + 1}, the very first {first_turns}")


def test_a_cold_say_over_tls_takes_four_round_trips(
    record_show: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: they are too many to be all as quick as the way itself on a busy machine."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    encrypted = authority.good()
    encrypted.num_tickets = 0  # nobody waits for them, but they would come between
    asked: list[int] = []

    def script(peer: Peer) -> None:
        session = accept_session(peer, "neuphonic")
        assert session is not None
        for message in client_messages(peer):
            reply = frames_of(session.receive(message))
            if reply:  # the first sound, which ends the round trip that is under way
                asked.append(proxy.turns_up)
            for each in reply:
                peer.send(each)

    with Scripted(script, tls=encrypted) as server, Proxy(server.port) as proxy:
        with TtsPipeline(synthesis_settings(proxy.port, "neuphonic", secure=True), eager=False) as pipeline:
            assert pipeline.spoken(SAID) == audio_of(SAID)
        assert proxy.connections == 1
    turns = asked[0] + 1  # the proxy takes the TCP connection itself
    assert turns == 4
    record_show(5, f"over TLS: cold {turns} (TCP, TLS, upgrade, sound)")


def round_trips(seconds: Callable[[], float], least: int) -> int:
    """How many it takes at the best. A busy machine only adds to what the way takes, which nothing falls short of: it
    is measured until it is ``least``, and for half a minute at the most."""
    deadline = Deadline(30.0)
    best = round(seconds() / (2 * DELAY))
    while best > least and not deadline.is_expired:
        best = min(best, round(seconds() / (2 * DELAY)))
    return best


def first_sound(pipeline: TtsPipeline) -> float:
    """Seconds from the wish to the first sound."""
    began = time.monotonic()
    utterance = pipeline.say(SAID)
    arrived = AudioArrived(utterance, pipeline.standbys[0].service)
    pipeline.inbox.until(lambda: arrived in pipeline.inbox.events)
    took = time.monotonic() - began
    assert isinstance(pipeline.ended(utterance), UtterancePlayed)
    return took
