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
from agent.services import url_cache
from agent.services.protocols import neuphonic
from agent.services.protocols.playai_auth import MODEL_PATHS
from agent.system.threads import Deadline

TEXT = "The renewal is inaudible."


def test_row_34_neuphonic_connections_are_renewed_before_the_idle_limit(
    record_row: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service drops connections idle for 4 s (really 90 s); the client renews after 90 % of 0.15 s (really 50 s).

    The difference is the tolerance for a busy machine.
    """
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
        played = 0
        for pause in (0.0, 0.4, 0.1, 4.5, 0.3):
            over.wait(pause)  # time that passes is what is tested here
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
            played += 1
        for _ in range(5):
            assert renewed.acquire(timeout=30), "nothing was renewed"
        assert pipeline.downs == [] and dropped == []
    count = len([session for session in sessions if not session.texts])
    record_row(34, f"neuphonic: {count} connections renewed unused, {played} of {played} played, no failure, 0 dropped")


class ExpiringUrls:
    """PlayAI with URLs that are valid for ``seconds`` or until ``expire``. Thread-safe.

    Args:
        accepts: Whether valid URLs are accepted at all.
    """

    def __init__(self, seconds: float, *, accepts: bool = True) -> None:
        self._seconds, self._accepts = seconds, accepts
        self._changed = threading.Condition()
        self._min_token = self.accepted = 0
        self.issued: list[float] = []
        self.refused = 0

    def expire(self, accepted: int) -> None:
        """Refuse all URLs issued so far; first wait for ``accepted`` connections, so that no dial is in progress."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.accepted >= accepted, 30), self.accepted
            self._min_token = len(self.issued)

    def script(self, peer: Peer) -> None:
        if peer.read_request().startswith("POST"):
            port = peer.sock.getsockname()[1]
            with self._changed:
                self.issued.append(time.monotonic())
                token = len(self.issued) - 1
            urls = {model: f"ws://127.0.0.1:{port}{path}?t={token}" for model, path in MODEL_PATHS.items()}
            expires = (datetime.now(UTC) + timedelta(seconds=self._seconds)).isoformat()
            body = json.dumps({"webSocketUrls": urls, "expiresAt": expires}).encode()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            return
        token = int(peer.request.split("t=")[1].split(" ")[0])
        with self._changed:
            good = self._accepts and token >= self._min_token and time.monotonic() <= self.issued[token] + self._seconds
            self.accepted += good
            self.refused += not good
            self._changed.notify_all()
        if good:
            serve_speech("playai")(peer)
        else:
            peer.answer("403 Forbidden")


def test_row_34_a_playai_url_is_renewed_before_it_expires(record_row: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL counts as expired 0.3 s after its issue and is refused 30 s later (really 5 minutes)."""
    monkeypatch.setattr(url_cache, "EXPIRY_MARGIN_SECONDS", 30.0)
    service = ExpiringUrls(30.3)
    over = threading.Event()
    with Scripted(service.script) as server, TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline:
        for pause in (0.0, 0.35, 0.1, 0.4, 0.35):
            over.wait(pause)  # time that passes is what is tested here
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
        assert pipeline.downs == []
    assert len(service.issued) >= 3 and service.refused == 0
    record_row(34, f"playai: {len(service.issued)} URLs, each in time, 5 of 5 played, no failure")


def test_row_34_a_rejected_playai_url_is_renewed_immediately(record_row: Record) -> None:
    """The URL is refused long before the time that the service announced."""
    service = ExpiringUrls(3600.0)
    with Scripted(service.script) as server, TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline:
        for number in range(5):
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
            service.expire(number + 2)  # the used connections and the standby connection
        assert pipeline.downs == []
    assert service.refused >= 3 and len(service.issued) >= 4
    record_row(34, f"playai: {len(service.issued)} URLs, {service.refused} refused, 5 of 5 played, no failure")


def test_row_06_a_repeatedly_rejected_playai_url_is_permanent(record_row: Record) -> None:
    service = ExpiringUrls(3600.0, accepts=False)
    with Scripted(service.script) as server, TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline:
        assert "refuses the URL that 127.0.0.1 issued (HTTP 403): check" in pipeline.failed(TEXT).reason
        assert pipeline.downs[0].permanent and (len(service.issued), service.refused) == (2, 2)
    record_row(6, "playai: an issued URL refused twice: permanent, no retry storm")


# --- what a say costs in round trips

DELAY = 0.1


@pytest.mark.parametrize("service", SERVICES)
def test_a_warm_say_takes_one_round_trip_and_a_cold_one_four(record_show: Record, service: str) -> None:
    """The proxy accepts TCP connections itself, so each connection of a cold ``say`` counts as one more round trip."""
    late = Toxics(latency_seconds=DELAY)
    with Scripted(serve_speech(service)) as server, Proxy(server.port, up=late, down=late) as proxy:
        with TtsPipeline(synthesis_settings(proxy.port, service), eager=False) as pipeline:
            first = first_sound(pipeline)  # PlayAI issues a URL, which is valid for an hour
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
    """Counted, not timed: on a busy machine one of so many round trips is always late."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    encrypted = authority.good()
    encrypted.num_tickets = 0  # session tickets would count as a round trip
    turns_at_audio: list[int] = []

    def script(peer: Peer) -> None:
        session = accept_session(peer, "neuphonic")
        assert session is not None
        for message in client_messages(peer):
            reply = frames_of(session.receive(message))
            if reply:  # the first audio ends the current round trip
                turns_at_audio.append(proxy.turns_up)
            for each in reply:
                peer.send(each)

    with Scripted(script, tls=encrypted) as server, Proxy(server.port) as proxy:
        with TtsPipeline(synthesis_settings(proxy.port, "neuphonic", secure=True), eager=False) as pipeline:
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
        assert proxy.connections == 1
    turns = turns_at_audio[0] + 1  # the proxy takes the TCP connection itself
    assert turns == 4
    record_show(5, f"over TLS: cold {turns} (TCP, TLS, upgrade, audio)")


def round_trips(seconds: Callable[[], float], least: int) -> int:
    """Return the smallest number of round trips; measure for up to 30 s until it is ``least``.

    A busy machine only adds time.
    """
    deadline = Deadline(30.0)
    best = round(seconds() / (2 * DELAY))
    while best > least and not deadline.is_expired:
        best = min(best, round(seconds() / (2 * DELAY)))
    return best


def first_sound(pipeline: TtsPipeline) -> float:
    """Return the seconds from the request to the first audio."""
    began = time.monotonic()
    utterance = pipeline.say(TEXT)
    arrived = AudioArrived(utterance, pipeline.standbys[0].service)
    pipeline.inbox.until(lambda: arrived in pipeline.inbox.events)
    took = time.monotonic() - began
    assert isinstance(pipeline.ended(utterance), UtterancePlayed)
    return took
