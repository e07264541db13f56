"""Rows 11 to 23: a connection that breaks, stalls, drips or floods in the middle of an utterance. What came is heard to
the last byte and never begun again; what had not begun to sound is said by somebody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from support.fault_tts import Speaking
from support.fault_voices import (
    CHUNK_BYTES,
    RATE,
    SERVICES,
    Answers,
    breaks,
    encoded,
    sound,
    speaks,
    synthesis,
    upgraded,
)
from support.keepalive import set_keepalive
from support.proxy import Proxy, Toxics
from support.scripted import BINARY, CLOSE, PING, PONG, TEXT, Peer, Script, Scripted, close_frame, frame

from agent.pipeline.events import PlaybackStarted, UtteranceCancelled, UtteranceFailed
from agent.services.connection.websocket import Connection
from faults.conftest import Figure

TEXT_SAID = "What was begun is not begun again."
FIRST_CHUNK = {"neuphonic": 1, "playai": 2, "vachana": 2, "fish": 1}  # frames until one chunk of sound has been sent
HALF = CHUNK_BYTES / (2 * RATE)
ENDINGS: dict[str, Callable[[Peer], object]] = {
    "reset": Peer.reset,
    "fin": lambda peer: None,
    "1000": lambda peer: (peer.send(close_frame(1000)), peer.read_all()),
    "1011": lambda peer: (peer.send(close_frame(1011, "inside")), peer.read_all()),
    "1012": lambda peer: (peer.send(close_frame(1012, "restart")), peer.read_all()),
    "1013": lambda peer: (peer.send(close_frame(1013, "later")), peer.read_all()),
}


def authorisation(service: str) -> list[Script]:
    """What the first connection is for, where it is for that alone."""
    return [speaks(service)] if service == "playai" else []


def cut_short(figure: Figure, row: int, service: str, ending: str) -> None:
    """One utterance of which half is sent before the end: T, A, and what follows is said (L)."""
    bad: list[Answers] = []
    good: list[Answers] = []
    scripts = [breaks(service, FIRST_CHUNK[service], ENDINGS[ending], bad), speaks(service, bad)]
    with (
        Scripted(*authorisation(service), *scripts) as server,
        Scripted(speaks("local", good)) as other,
        Speaking(synthesis(server.port, service, "local", fallback_port=other.port)) as speaking,
    ):
        utterance = speaking.say(TEXT_SAID)
        end = speaking.ended(utterance)
        assert isinstance(end, UtteranceFailed), end
        assert speaking.heard(utterance) == sound(TEXT_SAID)[:CHUNK_BYTES]
        assert end.seconds == HALF
        began = time.monotonic()
        assert speaking.spoken("The next one.") == sound("The next one.")
        took = time.monotonic() - began
        asked = [text.strip() for session in [*bad, *good] for text in session.texts]
        assert asked.count(TEXT_SAID) == 1
        assert len(speaking.inbox.of(PlaybackStarted)) == 2
    figure(row, f"{service}: {end.seconds:g} of 0.1 s heard and told, asked for once, the next said after {took:.2f} s")


@pytest.mark.parametrize("service", SERVICES)
def test_row_11_a_reset_in_the_middle_loses_nothing_that_came(figure: Figure, service: str) -> None:
    cut_short(figure, 11, service, "reset")


def test_row_11_the_speaker_tells_how_much_was_heard(figure: Figure) -> None:
    with (
        Scripted(breaks("neuphonic", 1, Peer.reset), speaks("neuphonic")) as server,
        Speaking(synthesis(server.port, "neuphonic"), sink="none") as speaking,
    ):
        end = speaking.failed(TEXT_SAID)
        assert end.seconds == HALF
    figure(11, f"the speaker itself: {end.seconds:g} s played of the {HALF:g} s that came")


@pytest.mark.parametrize("service", SERVICES)
def test_row_12_a_fin_without_a_close_is_a_break(figure: Figure, service: str) -> None:
    cut_short(figure, 12, service, "fin")


@pytest.mark.parametrize("service", [each for each in SERVICES if each != "vachana"])
def test_row_13_a_polite_close_before_the_end_is_a_truncation(figure: Figure, service: str) -> None:
    """Vachana's own clients take such a close for the end, once sound has come: there it is one (see below)."""
    cut_short(figure, 13, service, "1000")


def test_row_13_a_polite_close_of_vachana_after_sound_is_its_end(figure: Figure) -> None:
    """What came is played whole and counts as all there is: this service may close instead of saying ``complete``, and
    nothing in its protocol tells the two apart."""
    with (
        Scripted(breaks("vachana", FIRST_CHUNK["vachana"], ENDINGS["1000"]), speaks("vachana")) as server,
        Speaking(synthesis(server.port, "vachana")) as speaking,
    ):
        assert speaking.spoken(TEXT_SAID) == sound(TEXT_SAID)[:CHUNK_BYTES]
        assert speaking.spoken("The next one.") == sound("The next one.")
    figure(13, "vachana: closed after sound, played with all that came, the next one said")


def test_row_13_a_polite_close_of_vachana_before_any_sound_is_a_failure(figure: Figure) -> None:
    with (
        Scripted(breaks("vachana", 1, ENDINGS["1000"])) as server,
        Speaking(synthesis(server.port, "vachana")) as speaking,
    ):
        assert speaking.failed(TEXT_SAID).seconds == 0
    figure(13, "vachana: no sound before the close, failed")


@pytest.mark.parametrize("code", ["1011", "1012", "1013"])
@pytest.mark.parametrize("service", SERVICES)
def test_row_14_a_service_in_trouble_is_dialled_again(figure: Figure, service: str, code: str) -> None:
    cut_short(figure, 14, service, code)


@pytest.mark.parametrize("service", SERVICES)
def test_row_15_half_a_frame_and_then_silence_ends(
    figure: Figure, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    monkeypatch.setitem(Connection.__init__.__kwdefaults__, "stall_seconds", 0.3)

    def half(peer: Peer) -> None:
        peer.send(frame(BINARY, b"x" * 100, length=4000))
        peer.read_all()

    sessions: list[Answers] = []
    scripts = [breaks(service, FIRST_CHUNK[service], half, sessions), speaks(service, sessions)]
    with (
        Scripted(*authorisation(service), *scripts) as server,
        Speaking(synthesis(server.port, service)) as speaking,
    ):
        began = time.monotonic()
        end = speaking.failed(TEXT_SAID)
        took = time.monotonic() - began
        assert end.seconds == HALF and "in the middle of a message" in end.reason
        assert speaking.spoken("The next one.") == sound("The next one.")
    figure(15, f"{service}: noticed after {took:.2f} s of the 0.3 s here (10 s as shipped), the next one said")


@pytest.mark.parametrize("service", SERVICES)
def test_row_19_single_bytes_are_the_same_sound(figure: Figure, service: str) -> None:
    slices = Toxics(slice_bytes=1)
    with Scripted(speaks(service)) as server, Proxy(server.port, down=slices, up=Toxics(slice_bytes=7)) as proxy:
        config = synthesis(proxy.port, service)
        with Speaking(config) as speaking:
            heard = speaking.spoken(TEXT_SAID)
            assert heard == sound(TEXT_SAID)
    figure(19, f"{service}: {len(heard)} bytes, bit for bit")


@pytest.mark.parametrize("service", SERVICES)
def test_row_21_a_late_close_delays_no_shutdown(figure: Figure, service: str) -> None:
    """The end of an utterance, and of all, while the peer takes minutes over its part of every close."""
    with Scripted(speaks(service)) as server:
        proxy = Proxy(server.port, up=Toxics(close_seconds=300), down=Toxics(close_seconds=300))
        with proxy:
            speaking = Speaking(synthesis(proxy.port, service))
            with speaking:
                assert speaking.spoken(TEXT_SAID) == sound(TEXT_SAID)
                began = time.monotonic()
            took = time.monotonic() - began
    assert took < 20.0
    figure(21, f"{service}: ended after {took:.2f} s")


@pytest.mark.parametrize("service", SERVICES)
def test_row_22_a_peer_that_stops_reading_holds_nobody(
    figure: Figure, monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """L: the utterance can be hushed at once, and the loop goes round."""
    set_keepalive(monkeypatch, service, None)  # nothing else is to end it while the test looks the other way
    monkeypatch.setitem(Connection.__init__.__kwdefaults__, "stall_seconds", 90.0)
    deafened = threading.Event()

    def stops_reading(peer: Peer) -> None:
        deafened.set()
        peer.wait()

    script = breaks(service, 0, stops_reading)
    with (
        Scripted(*authorisation(service), script, receive_bytes=4096) as server,
        Speaking(synthesis(server.port, service), first_audio_seconds=90.0) as speaking,
    ):
        utterance = speaking.say(None)
        for _ in range(300):
            speaking.synthesizer.append_text(
                utterance, "A sentence that is long enough to fill what a socket takes. " * 16
            )
        assert deafened.wait(30)
        began = time.monotonic()
        speaking.synthesizer.hush("test")
        end = speaking.ended(utterance)
        took = time.monotonic() - began
        assert isinstance(end, UtteranceCancelled) and end.reason == "test" and took < 10.0
    figure(22, f"{service}: hushed after {took * 1000:.0f} ms although nothing could be sent")


@pytest.mark.parametrize("service", SERVICES)
def test_row_23_pings_and_pongs_between_the_sound_change_nothing(figure: Figure, service: str) -> None:
    """A: bit for bit, with 2000 pings and as many pongs that nobody asked for between two chunks."""
    flood = b"".join(frame(PING, b"p" * 125) + frame(PONG, b"u" * 125) for _ in range(2000))

    def script(peer: Peer) -> None:
        answers = upgraded(peer, service)
        if answers is None:
            return
        for opcode, data in iter(peer.read_frame, (-1, b"")):
            if opcode == CLOSE:
                peer.send(frame(CLOSE, data))
                return
            if opcode in (TEXT, BINARY):
                for each in encoded(answers.take(data.decode() if opcode == TEXT else data)):
                    peer.send(each)
                    peer.send(flood)

    with Scripted(script) as server, Speaking(synthesis(server.port, service)) as speaking:
        used = time.process_time()
        assert speaking.spoken(TEXT_SAID) == sound(TEXT_SAID)
        used = time.process_time() - used
    figure(23, f"{service}: bit for bit among 8000 pings, {used:.2f} s of CPU with the server's own")
