"""The connection to Wyoming servers: opening, limits, deadlines and the end mark, over real sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support.wyoming_peer import FORMAT, WyomingPeer, speech_info

from agent.errors import ServiceError
from agent.services.connection.poll import wait
from agent.services.connection.tcp import connect
from agent.services.connection.websocket import Connection, ConnectionTiming
from agent.services.protocols.codec import Audio, End, Event, Failure, Flush, Text
from agent.services.protocols.wyoming import Client, Settings
from agent.services.protocols.wyoming_event import MAX_HEADER_BYTES, WyomingEvent, encode_event
from agent.system.threads import Deadline

Answer = Callable[[socket.socket, WyomingEvent], bool | None]

AUDIO = [
    encode_event("audio-start", FORMAT),
    encode_event("audio-chunk", FORMAT, b"\1\0" * 800),
    encode_event("audio-stop"),
]


def answers(*on_request: bytes) -> Answer:
    """Describe the peer, and send these bytes for each request."""

    def answer(client: socket.socket, event: WyomingEvent) -> bool | None:
        client.sendall(speech_info() if event.type == "describe" else b"".join(on_request))
        return None

    return answer


def open_connection(url: str, **timing: Any) -> Connection:
    return connect(Client(Settings(), url), Deadline(10), timing=ConnectionTiming(ping_seconds=None, **timing))


def ask(connection: Connection) -> list[Event]:
    """Send one passage and pump until its end or the end of the connection."""
    connection.send(Text("One."))
    connection.send(Flush())
    events: list[Event] = []
    deadline = Deadline(30)
    while Flush() not in events and not (connection.is_closed and not connection.has_pending):
        assert not deadline.is_expired
        wait(connection, (), deadline.remaining())
        events += connection.pump()
    return events


def test_a_passage_is_spoken_and_the_connection_ends_after_its_end_mark() -> None:
    with WyomingPeer(answers(*AUDIO)) as peer:
        connection = open_connection(peer.url)
        assert ask(connection) == [Audio(b"\1\0" * 800, 16000), Flush()]
        assert connection.finish(Deadline(10)) == []
        assert connection.is_end_delivered and connection.close_code == 1000
        assert peer.is_closed_by_client.wait(10)
    assert peer.types() == ["describe", "synthesize"]


def test_the_end_mark_of_an_open_stream_is_sent_before_the_close() -> None:
    def answer(client: socket.socket, event: WyomingEvent) -> bool | None:
        if event.type == "describe":
            client.sendall(speech_info(streams=True))
        elif event.type == "synthesize-stop":
            client.sendall(b"".join([*AUDIO, encode_event("synthesize-stopped")]))
        return None

    with WyomingPeer(answer) as peer:
        connection = open_connection(peer.url)
        connection.send(Text("One."))
        assert connection.finish(Deadline(10)) == [Audio(b"\1\0" * 800, 16000), Flush(), End()]
    assert peer.types() == ["describe", "synthesize-start", "synthesize-chunk", "synthesize-stop"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"x" * (MAX_HEADER_BYTES + 1), 1002),
        (b'{"type": "audio-chunk", "payload_length": 1048577}\n', 1002),
        (b"HTTP/1.1 400 Bad Request\r\n", 1002),
        (b'{"type": "audio-chunk", "payload_length": 100}\nabc', 1006),
    ],
    ids=["long line", "long payload", "no event", "stalls inside an event"],
)
def test_bytes_beyond_the_protocol_end_the_connection(sent: bytes, code: int) -> None:
    with WyomingPeer(answers(sent)) as peer:
        connection = open_connection(peer.url, stall_seconds=0.2, linger_seconds=0.1)
        last = ask(connection)[-1]
        assert isinstance(last, Failure) and last.fatal and last.is_end_missing and last.status == code
        assert connection.is_closed


@pytest.mark.parametrize(("sent", "code"), [(AUDIO[0], 1000), (AUDIO[1][:-1], 1006)])
def test_a_peer_that_closes_early_owes_the_end(sent: bytes, code: int) -> None:
    def answer(client: socket.socket, event: WyomingEvent) -> bool | None:
        client.sendall(speech_info() if event.type == "describe" else sent)
        return event.type == "describe"

    with WyomingPeer(answer) as peer:
        connection = open_connection(peer.url)
        last = ask(connection)[-1]
        assert isinstance(last, Failure) and last.is_end_missing and last.status == code


def test_a_peer_that_stops_reading_ends_the_connection() -> None:
    def answer(client: socket.socket, event: WyomingEvent) -> bool | None:
        client.sendall(speech_info())
        connection_ended.recv(1)  # reads nothing until the client has given up
        return False

    connection_ended, has_ended = socket.socketpair()
    with connection_ended, has_ended, WyomingPeer(answer) as peer:
        connection = open_connection(peer.url, stall_seconds=0.2)
        text = "word " * 100000
        while connection.send(Text(text)) and connection.send(Flush()) and connection.unsent_bytes < 1 << 20:
            pass
        while not connection.is_closed:
            wait(connection, (), 10)
            connection.pump()
        has_ended.sendall(b"x")
        assert "stopped reading" in connection.close_reason


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda client, event: client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not a Wyoming server"),
        (lambda client, event: client.sendall(encode_event("info", {"asr": []})), "no speech program"),
        (lambda client, event: False, "did not describe itself"),
    ],
)
def test_a_peer_that_cannot_speak_is_refused_at_the_opening(answer: Answer, why: str) -> None:
    with WyomingPeer(answer) as peer, pytest.raises(ServiceError, match=why):
        open_connection(peer.url)


def test_a_silent_peer_is_given_up_at_the_deadline() -> None:
    with WyomingPeer(lambda client, event: None) as peer, pytest.raises(ServiceError, match="in time"):
        connect(Client(Settings(), peer.url), Deadline(0.2))


def test_a_deadline_that_has_expired_is_no_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    sock, peer = socket.socketpair()
    monkeypatch.setattr("agent.services.connection.tcp.connect_socket", lambda *arguments: sock)
    sock.setblocking(False)
    with peer:
        with contextlib.suppress(BlockingIOError):
            while sock.send(bytes(65536)):
                pass
        with pytest.raises(ServiceError, match="in time"):
            connect(Client(Settings(), "tcp://127.0.0.1"), Deadline(0.0))


def test_a_public_address_needs_allow_plaintext() -> None:
    with pytest.raises(ServiceError, match="set allow_plaintext") as refused:
        connect(Client(Settings(), "tcp://93.184.216.34:10300"), Deadline(1))
    assert refused.value.permanent
