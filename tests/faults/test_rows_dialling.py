"""Rows 1 to 10 and 62: faults up to the first audio. The utterance fails or the next service speaks; no key leaks."""

from __future__ import annotations

import select
import socket
import threading
import time
from pathlib import Path

import pytest
from support.authority import Authority
from support.fault_rows import Record
from support.scripted import Peer, Script, Scripted, mute, polite, refuses, silent
from support.speech_services import KEY, SERVICES, answer_authorization, audio_of, serve_speech, synthesis_settings
from support.tts_pipeline import TtsPipeline

from agent.pipeline.events import ServiceDown, ServiceUp, UtterancePlayed
from agent.services.connection import resolve as addresses
from agent.services.connection.resolve import Address

TEXT = "Nothing is lost."


SHORT_CONNECT_SECONDS = 2.0
"""Short, but long enough for a healthy service on a busy machine."""


LONG_TIMEOUTS = {"first_audio_seconds": 90.0, "dial_seconds": 90.0}
"""Longer than any test waits: an earlier end has another cause."""


def seconds_until_retry(pipeline: TtsPipeline) -> float:
    """Return the delay from the last failure of the first service to its next dial."""
    left = pipeline.standbys[0].next_timeout()
    assert left is not None
    return left + time.monotonic() - pipeline.standbys[0].failed_at


@pytest.mark.parametrize("service", SERVICES)
def test_row_01_a_refused_connection_fails_the_utterance_and_is_reported_once(record_row: Record, service: str) -> None:
    """Each utterance fails; the first one after the service is up is played."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with TtsPipeline(synthesis_settings(port, service), healthy_seconds=0.05) as pipeline:
            ends = [pipeline.failed(TEXT) for _ in range(3)]
            assert all(end.reason and end.seconds == 0 and KEY not in end.reason for end in ends)
            began = time.monotonic()
            with Scripted(serve_speech(service), port=port):  # beside the socket that holds the port and never listens
                pipeline.inbox.until(lambda: bool(pipeline.ups))
                assert pipeline.spoken(TEXT) == audio_of(TEXT)
                took = time.monotonic() - began
                tries = pipeline.ups[0].attempts
                assert len(pipeline.downs) == 1 and tries >= 1
    record_row(
        1, f"{service}: 3 of 3 failed with the reason, 1 line for {tries} tries, played again after {took:.2f} s"
    )


def test_row_02_a_connect_timeout_fails_over_to_the_next_service(record_row: Record) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        queued = []
        for _ in range(4):  # a full accept queue drops the SYN
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
            queued.append(sock)
        assert select.select([], queued, [], 30)[1], "no connection entered the accept queue"
        began = time.monotonic()
        port = full.getsockname()[1]
        with (
            Scripted(serve_speech("local")) as good,
            TtsPipeline(
                synthesis_settings(port, "neuphonic", "local", fallback_port=good.port),
                connection={"connect_seconds": SHORT_CONNECT_SECONDS},
                **LONG_TIMEOUTS,
            ) as pipeline,
        ):
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
            took = time.monotonic() - began
            assert [(down.service, down.permanent) for down in pipeline.downs] == [("neuphonic", False)]
        for sock in queued:
            sock.close()
    record_row(
        2,
        f"connect timed out after {SHORT_CONNECT_SECONDS:g} s here (5 s as shipped), played next in {took:.2f} s",
    )


def test_row_03_a_hanging_lookup_does_not_block_the_synthesizer(
    record_row: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    look_up = addresses.look_up

    def hangs(host: str, port: int) -> list[Address]:
        if host == "hangs.example":
            over.wait(90)
        return look_up(host, port)

    monkeypatch.setattr(addresses, "look_up", hangs)
    with Scripted(serve_speech("local")) as good:
        config = synthesis_settings(good.port, "neuphonic", "local")
        settings = config.settings("neuphonic")._replace(url="wss://hangs.example/speak/en")
        config = config.with_settings("neuphonic", settings)
        with TtsPipeline(config, connection={"connect_seconds": SHORT_CONNECT_SECONDS}, **LONG_TIMEOUTS) as pipeline:
            rounds = pipeline.synthesizer.heartbeats
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
            rounds = pipeline.synthesizer.heartbeats - rounds
            assert [down.service for down in pipeline.downs] == ["neuphonic"]
    over.set()
    assert rounds >= 2
    record_row(3, f"the lookup was abandoned, {rounds} heartbeats meanwhile, the next service spoke")


def test_row_04_an_invalid_certificate_gets_no_request(
    record_row: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is permanent, and the key is not sent in plain text. Other certificates: ``test_dial.py``."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    with Scripted(polite, tls=authority.self_signed()) as server:
        with TtsPipeline(synthesis_settings(server.port, "neuphonic", secure=True)) as pipeline:
            end = pipeline.failed(TEXT)
            assert "cannot be trusted" in end.reason and KEY not in end.reason
            assert pipeline.downs[0].permanent
        assert server.requests == [""] and len(server.peers) == 1
    record_row(4, "self-signed: 1 dial, 0 bytes of a request, permanent")


def test_row_05_a_stalled_tls_handshake_times_out(record_row: Record) -> None:
    """``dial_seconds`` covers the whole dial. Handshakes that stop later: ``test_dial.py``."""
    with (
        Scripted(mute) as server,
        TtsPipeline(
            synthesis_settings(server.port, "neuphonic", secure=True), **{**LONG_TIMEOUTS, "dial_seconds": 1.5}
        ) as pipeline,
    ):
        began = time.monotonic()
        end = pipeline.failed(TEXT)
        took = time.monotonic() - began
    assert "TLS handshake in time" in end.reason
    record_row(5, f"no handshake: timed out after {took:.2f} s of 1.5 s here (10 s as shipped)")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_row_06_a_rejected_key_is_not_retried(record_row: Record, service: str, status: str) -> None:
    def refuse(peer: Peer) -> None:
        peer.answer(status, body=f"bad key {KEY}".encode())

    with Scripted(refuse) as server, TtsPipeline(synthesis_settings(server.port, service)) as pipeline:
        ends = [pipeline.failed(TEXT) for _ in range(3)]
        down = pipeline.downs[0]
        assert down.permanent and down.status == int(status[:3]) and len(pipeline.downs) == 1
        assert all(KEY not in each for each in [down.reason, *[end.reason for end in ends]])
        wait = seconds_until_retry(pipeline)
        assert wait >= 60
        assert len(server.peers) == 1
    record_row(6, f"{service}: 1 dial for 3 utterances, the next after {wait:.0f} s, no key in any reason")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_row_07_retry_after_delays_the_retry_and_fails_over(record_row: Record, service: str, status: str) -> None:
    with (
        Scripted(refuses(status, "Retry-After: 70")) as server,
        Scripted(serve_speech("local")) as good,
        TtsPipeline(synthesis_settings(server.port, service, "local", fallback_port=good.port)) as pipeline,
    ):
        assert pipeline.spoken(TEXT) == audio_of(TEXT)
        assert pipeline.spoken("Once more.") == audio_of("Once more.")
        left = pipeline.standbys[0].next_timeout()
        wait = seconds_until_retry(pipeline)
        assert left is not None and left < 70.1 and wait >= 70
        assert len(server.peers) == 1 and not pipeline.downs[0].permanent
    record_row(7, f"{service}: asked for 70 s, the next dial after {wait:.2f} s, 2 of 2 played by the next service")


@pytest.mark.parametrize("service", SERVICES)
def test_row_08_a_redirect_is_not_followed(record_row: Record, service: str) -> None:
    with Scripted(polite) as second:
        go = refuses("302 Found", f"Location: ws://127.0.0.1:{second.port}/elsewhere")
        with Scripted(go) as first, TtsPipeline(synthesis_settings(first.port, service)) as pipeline:
            end = pipeline.failed(TEXT)
            assert pipeline.downs[0].permanent and KEY not in end.reason
            assert any(KEY in request for request in first.requests)
        assert second.peers == []
    record_row(8, f"{service}: the second host was asked 0 times and saw no key")


@pytest.mark.parametrize("service", SERVICES)
def test_row_10_a_service_without_a_response_fails_over(record_row: Record, service: str) -> None:
    """No audio was received, so the next service speaks the utterance."""

    def accepts_and_is_silent(peer: Peer) -> None:
        if not answer_authorization(peer):
            silent(peer)

    with (
        Scripted(accepts_and_is_silent) as server,
        Scripted(serve_speech("local")) as good,
        TtsPipeline(
            synthesis_settings(server.port, service, "local", fallback_port=good.port),
            connection={"ping_seconds": 0.2, "pong_seconds": 0.2},
            **LONG_TIMEOUTS,
        ) as pipeline,
    ):
        began = time.monotonic()
        utterance = pipeline.say(TEXT)
        assert isinstance(pipeline.ended(utterance), UtterancePlayed) and pipeline.heard(utterance) == audio_of(TEXT)
        took = time.monotonic() - began
    record_row(
        10,
        f"{service}: played by the next service after {took:.2f} s (ping 0.2 s here, 9.5 s as shipped)",
    )


def test_row_10_the_only_service_is_retried_on_a_new_connection(record_row: Record) -> None:
    """A stale standby connection (a change of network) does not lose an utterance of which nothing was played."""
    is_stale = threading.Event()

    def stale(peer: Peer) -> None:
        peer.accept()
        peer.read_frame()
        is_stale.set()
        peer.reset()

    with Scripted(stale, serve_speech("neuphonic")) as server:
        with TtsPipeline(synthesis_settings(server.port, "neuphonic")) as pipeline:
            utterance = pipeline.say(TEXT)
            assert isinstance(pipeline.ended(utterance), UtterancePlayed) and pipeline.heard(utterance) == audio_of(
                TEXT
            )
        assert is_stale.is_set()
    record_row(10, "a stale connection of the only service: played on the next one")


def test_a_service_that_closes_after_the_upgrade_is_retried_with_backoff() -> None:
    def accepts_and_hangs_up(peer: Peer) -> None:
        peer.accept()

    with (
        Scripted(accepts_and_hangs_up) as server,
        TtsPipeline(
            synthesis_settings(server.port, "neuphonic"), healthy_seconds=90.0, quick_drop_seconds=90.0
        ) as pipeline,
    ):
        pipeline.inbox.until(lambda: any(down.permanent for down in pipeline.downs))
        assert "closed each immediately" in pipeline.failed(TEXT).reason
        assert len(server.peers) == 3
        assert [type(event) for event in pipeline.inbox.of(ServiceDown, ServiceUp)] == [ServiceDown, ServiceDown]


def resets_once(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def hangs_up_once(peer: Peer) -> None:
    peer.read_request()


TRANSIENT: dict[str, Script] = {
    "500": refuses("500 Internal Server Error"),
    "502": refuses("502 Bad Gateway"),
    "503": refuses("503 Service Unavailable"),
    "504": refuses("504 Gateway Timeout"),
    "429": refuses("429 Too Many Requests", "Retry-After: 0"),
    "reset": resets_once,
    "end of stream": hangs_up_once,
}


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("fault", TRANSIENT)
@pytest.mark.parametrize("eager", [True, False], ids=["daemon", "command"])
def test_row_62_the_only_service_is_tried_again_after_a_transient_error(
    record_row: Record, service: str, fault: str, eager: bool
) -> None:
    """The fault hits the first request: the handshake, or PlayAI's authorization."""
    asked = threading.Event()

    def once(peer: Peer) -> None:
        asked.wait(60)  # the error is not older than the utterance
        TRANSIENT[fault](peer)

    with (
        Scripted(once, serve_speech(service)) as server,
        TtsPipeline(synthesis_settings(server.port, service), eager=eager) as pipeline,
    ):
        utterance = pipeline.say(TEXT)
        asked.set()
        assert isinstance(pipeline.ended(utterance), UtterancePlayed) and pipeline.heard(utterance) == audio_of(TEXT)
    record_row(62, f"{service}, {fault}, {'daemon' if eager else 'command'}: played by the next connection")


def test_row_62_a_refused_upgrade_behind_a_good_authorization_is_tried_again(record_row: Record) -> None:
    good = serve_speech("playai")
    with (
        Scripted(good, TRANSIENT["502"], good) as server,
        TtsPipeline(synthesis_settings(server.port, "playai")) as pipeline,
    ):
        assert pipeline.spoken(TEXT) == audio_of(TEXT)
    record_row(62, "playai: 1 of 1 authorization and 502 for the upgrade, then played")


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_NONAME, socket.EAI_FAIL])
@pytest.mark.parametrize("service", ["neuphonic", "playai"])
def test_row_62_a_lookup_that_fails_once_is_tried_again(
    record_row: Record, monkeypatch: pytest.MonkeyPatch, service: str, code: int
) -> None:
    look_up, failures = addresses.look_up, []

    def fails_once(host: str, port: int) -> list[Address]:
        if host == "once.localhost" and not failures:
            failures.append(host)
            raise socket.gaierror(code, "no answer")
        return look_up("127.0.0.1" if host == "once.localhost" else host, port)

    monkeypatch.setattr(addresses, "look_up", fails_once)
    with Scripted(serve_speech(service)) as server:
        config = synthesis_settings(server.port, service)
        key = "auth_url" if service == "playai" else "url"
        settings = config.settings(service)
        settings = settings._replace(**{key: getattr(settings, key).replace("127.0.0.1", "once.localhost")})
        with TtsPipeline(config.with_settings(service, settings)) as pipeline:
            assert pipeline.spoken(TEXT) == audio_of(TEXT)
    assert failures
    record_row(62, f"{service}: 1 failed lookup ({code}), then played")


def test_row_62_a_service_that_keeps_failing_is_given_up_after_the_time_for_the_first_audio(record_row: Record) -> None:
    """The next utterance gets one attempt: the service has been failing for longer."""
    with (
        Scripted(TRANSIENT["503"]) as server,
        TtsPipeline(synthesis_settings(server.port, "neuphonic"), first_audio_seconds=0.5) as pipeline,
    ):
        began = time.monotonic()
        reason = pipeline.failed(TEXT).reason
        took = time.monotonic() - began
        assert "503" in reason and len(server.peers) > 1
        assert "503" in pipeline.failed(TEXT).reason
    record_row(62, f"503 for good: failed after {took:.2f} s of 0.5 s here (10 s as shipped)")


@pytest.mark.parametrize("service", SERVICES)
def test_row_62_no_message_promises_a_retry_that_does_not_come(record_row: Record, service: str) -> None:
    """A command ends with the error, so that the reason names the fault and the attempts only."""
    with (
        Scripted(TRANSIENT["500"]) as server,
        TtsPipeline(synthesis_settings(server.port, service), eager=False, first_audio_seconds=0.5) as pipeline,
    ):
        reason = pipeline.failed(TEXT).reason
    assert "500" in reason
    assert not any(word in reason for word in ("retr", "again", "later", "next"))
    record_row(62, f"{service}: {reason[:100]}")
