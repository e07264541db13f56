"""Rows 11 to 23: a connection that fails or stalls during an utterance. Received audio is played exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from support.fault_rows import Record
from support.proxy import Proxy, Toxics
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Script, Scripted, close_frame, frame
from support.speech_services import (
    CHUNK_BYTES,
    RATE,
    SERVICES,
    ServiceSession,
    accept_session,
    audio_of,
    client_messages,
    fail_after,
    frames_of,
    serve_speech,
    synthesis_settings,
)
from support.tts_pipeline import TtsPipeline

from agent.pipeline.events import PlaybackStarted, UtteranceCancelled, UtteranceFailed

TEXT_SPOKEN = "An utterance that has started is not started again."
FIRST_CHUNK = {"neuphonic": 1, "playai": 2, "vachana": 2, "fish": 1}  # frames until one chunk of audio has been sent
HALF = CHUNK_BYTES / (2 * RATE)
ENDINGS: dict[str, Callable[[Peer], object]] = {
    "reset": Peer.reset,
    "fin": lambda peer: None,
    "1000": lambda peer: (peer.send(close_frame(1000)), peer.read_all()),
    "1011": lambda peer: (peer.send(close_frame(1011, "inside")), peer.read_all()),
    "1012": lambda peer: (peer.send(close_frame(1012, "restart")), peer.read_all()),
    "1013": lambda peer: (peer.send(close_frame(1013, "later")), peer.read_all()),
}


def authorization(service: str) -> list[Script]:
    """Return the script for the first connection of a service that authorizes on a separate one."""
    return [serve_speech(service)] if service == "playai" else []


def check_interrupted_utterance(record_row: Record, row: int, service: str, ending: str) -> None:
    """Half of an utterance is sent before the end: it fails with that audio, and the next one is played."""
    bad: list[ServiceSession] = []
    good: list[ServiceSession] = []
    scripts = [fail_after(service, FIRST_CHUNK[service], ENDINGS[ending], bad), serve_speech(service, bad)]
    with (
        Scripted(*authorization(service), *scripts) as server,
        Scripted(serve_speech("local", good)) as other,
        TtsPipeline(synthesis_settings(server.port, service, "local", fallback_port=other.port)) as pipeline,
    ):
        utterance = pipeline.say(TEXT_SPOKEN)
        end = pipeline.ended(utterance)
        assert isinstance(end, UtteranceFailed), end
        assert pipeline.heard(utterance) == audio_of(TEXT_SPOKEN)[:CHUNK_BYTES]
        assert end.seconds == HALF
        began = time.monotonic()
        assert pipeline.spoken("The next one.") == audio_of("The next one.")
        took = time.monotonic() - began
        asked = [text.strip() for session in [*bad, *good] for text in session.texts]
        assert asked.count(TEXT_SPOKEN) == 1
        assert len(pipeline.inbox.of(PlaybackStarted)) == 2
    record_row(
        row,
        f"{service}: {end.seconds:g} of 0.1 s played and reported, requested once, the next played after {took:.2f} s",
    )


@pytest.mark.parametrize("service", SERVICES)
def test_row_11_a_reset_plays_the_audio_received(record_row: Record, service: str) -> None:
    check_interrupted_utterance(record_row, 11, service, "reset")


def test_row_11_the_speaker_reports_the_seconds_played(record_row: Record) -> None:
    with (
        Scripted(fail_after("neuphonic", 1, Peer.reset), serve_speech("neuphonic")) as server,
        TtsPipeline(synthesis_settings(server.port, "neuphonic"), sink="none") as pipeline,
    ):
        end = pipeline.failed(TEXT_SPOKEN)
        assert end.seconds == HALF
    record_row(11, f"the speaker itself: {end.seconds:g} s played of the {HALF:g} s received")


@pytest.mark.parametrize("service", SERVICES)
def test_row_12_a_fin_without_a_close_frame_fails_the_utterance(record_row: Record, service: str) -> None:
    check_interrupted_utterance(record_row, 12, service, "fin")


@pytest.mark.parametrize("service", [each for each in SERVICES if each != "vachana"])
def test_row_13_a_normal_close_before_the_end_fails_the_utterance(record_row: Record, service: str) -> None:
    """Not Vachana, whose own clients treat such a close after audio as the end (next test)."""
    check_interrupted_utterance(record_row, 13, service, "1000")


@pytest.mark.parametrize("announces", [True, False], ids=["start", "no start"])
def test_row_13_a_normal_close_of_vachana_after_audio_is_the_end(record_row: Record, announces: bool) -> None:
    """The first page of the service has no end mark, and its own clients take this close for the end."""

    def script(peer: Peer) -> None:
        session = accept_session(peer, "vachana")
        assert session is not None
        for message in client_messages(peer):
            for each in frames_of(session.receive(message))[not announces : FIRST_CHUNK["vachana"]]:
                peer.send(each)
            ENDINGS["1000"](peer)
            return

    with (
        Scripted(script, serve_speech("vachana")) as server,
        TtsPipeline(synthesis_settings(server.port, "vachana")) as pipeline,
    ):
        assert pipeline.spoken(TEXT_SPOKEN) == audio_of(TEXT_SPOKEN)[:CHUNK_BYTES]
        assert pipeline.spoken("The next one.") == audio_of("The next one.")
    record_row(13, f"vachana: closed after {'a start and ' if announces else ''}audio, end")


def test_row_13_a_normal_close_of_vachana_before_audio_fails_the_utterance(record_row: Record) -> None:
    with (
        Scripted(fail_after("vachana", 1, ENDINGS["1000"])) as server,
        TtsPipeline(synthesis_settings(server.port, "vachana")) as pipeline,
    ):
        assert pipeline.failed(TEXT_SPOKEN).seconds == 0
    record_row(13, "vachana: no audio before the close, failed")


@pytest.mark.parametrize("code", ["1011", "1012", "1013"])
@pytest.mark.parametrize("service", SERVICES)
def test_row_14_a_server_error_close_reconnects(record_row: Record, service: str, code: str) -> None:
    check_interrupted_utterance(record_row, 14, service, code)


@pytest.mark.parametrize("service", SERVICES)
def test_row_15_an_incomplete_frame_times_out(record_row: Record, service: str) -> None:
    def half(peer: Peer) -> None:
        peer.send(frame(BINARY, b"x" * 100, length=4000))
        peer.read_all()

    sessions: list[ServiceSession] = []
    scripts = [fail_after(service, FIRST_CHUNK[service], half, sessions), serve_speech(service, sessions)]
    with (
        Scripted(*authorization(service), *scripts) as server,
        TtsPipeline(synthesis_settings(server.port, service), connection={"stall_seconds": 0.3}) as pipeline,
    ):
        began = time.monotonic()
        end = pipeline.failed(TEXT_SPOKEN)
        took = time.monotonic() - began
        assert end.seconds == HALF and "in the middle of a message" in end.reason
        assert pipeline.spoken("The next one.") == audio_of("The next one.")
    record_row(15, f"{service}: noticed after {took:.2f} s of the 0.3 s here (10 s as shipped), the next one played")


@pytest.mark.parametrize("service", SERVICES)
def test_row_19_one_byte_segments_deliver_the_same_audio(record_row: Record, service: str) -> None:
    slices = Toxics(slice_bytes=1)
    with Scripted(serve_speech(service)) as server, Proxy(server.port, down=slices, up=Toxics(slice_bytes=7)) as proxy:
        config = synthesis_settings(proxy.port, service)
        with TtsPipeline(config) as pipeline:
            heard = pipeline.spoken(TEXT_SPOKEN)
            assert heard == audio_of(TEXT_SPOKEN)
    record_row(19, f"{service}: {len(heard)} bytes, bit for bit")


@pytest.mark.parametrize("service", SERVICES)
def test_row_21_a_slow_close_does_not_delay_shutdown(record_row: Record, service: str) -> None:
    """The shutdown does not wait for a peer that answers each close after minutes."""
    with Scripted(serve_speech(service)) as server:
        proxy = Proxy(server.port, up=Toxics(close_seconds=300), down=Toxics(close_seconds=300))
        with proxy:
            pipeline = TtsPipeline(synthesis_settings(proxy.port, service))
            with pipeline:
                assert pipeline.spoken(TEXT_SPOKEN) == audio_of(TEXT_SPOKEN)
                began = time.monotonic()
            took = time.monotonic() - began
    assert took < 20.0
    record_row(21, f"{service}: ended after {took:.2f} s")


@pytest.mark.parametrize("service", SERVICES)
def test_row_22_a_peer_that_stops_reading_does_not_block_hush(record_row: Record, service: str) -> None:
    """L: the utterance is cancelled at once. No timeout of the connection may end it first."""
    timing = {"ping_seconds": None, "stall_seconds": 90.0}
    is_blocked = threading.Event()

    def stops_reading(peer: Peer) -> None:
        is_blocked.set()
        peer.wait()

    script = fail_after(service, 0, stops_reading)
    with (
        Scripted(*authorization(service), script, receive_bytes=4096) as server,
        TtsPipeline(synthesis_settings(server.port, service), first_audio_seconds=90.0, connection=timing) as pipeline,
    ):
        utterance = pipeline.say(None)
        for _ in range(300):
            pipeline.synthesizer.append_text(
                utterance, "A sentence that is long enough to fill what a socket takes. " * 16
            )
        assert is_blocked.wait(30)
        began = time.monotonic()
        pipeline.synthesizer.cancel_all("test")
        end = pipeline.ended(utterance)
        took = time.monotonic() - began
        assert isinstance(end, UtteranceCancelled) and end.reason == "test" and took < 10.0
    record_row(22, f"{service}: hushed after {took * 1000:.0f} ms although nothing could be sent")


@pytest.mark.parametrize("service", SERVICES)
def test_row_23_a_flood_of_pings_and_pongs_does_not_change_the_audio(record_row: Record, service: str) -> None:
    """Identical audio with 2000 pings and as many unsolicited pongs between two chunks."""
    flood = b"".join(frame(PING, b"p" * 125) + frame(PONG, b"u" * 125) for _ in range(2000))

    def script(peer: Peer) -> None:
        session = accept_session(peer, service)
        if session is None:
            return
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(CLOSE, data))
                return
            if opcode in (TEXT, BINARY):
                for each in frames_of(session.receive(data.decode() if opcode == TEXT else data)):
                    peer.send(each)
                    peer.send(flood)

    with Scripted(script) as server, TtsPipeline(synthesis_settings(server.port, service)) as pipeline:
        used = time.process_time()
        assert pipeline.spoken(TEXT_SPOKEN) == audio_of(TEXT_SPOKEN)
        used = time.process_time() - used
    record_row(23, f"{service}: bit for bit among 8000 pings, {used:.2f} s of CPU with the server's own")
