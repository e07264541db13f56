"""The satellite over real sockets: its port, limits, broken peers and the end."""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import resource
import socket
import time
from collections.abc import Iterator

import pytest
from support.machine import await_listener
from support.wyoming_peer import WyomingClient

from agent.frontends.api.api import Api
from agent.frontends.satellite.bridge import Bridge
from agent.frontends.satellite.frontend import MAX_CONNECTIONS, SatelliteFrontend
from agent.frontends.satellite.settings import SatelliteSettings
from agent.pipeline.events import Announce, Event, Woken
from agent.services.protocols.wyoming_event import encode_event
from agent.system.tcp_listener import ACCEPT_PAUSE_SECONDS
from agent.system.threads import Deadline, Mailbox

SECONDS = 20.0


@pytest.fixture
def inbox() -> Mailbox[Event]:
    return Mailbox()


@pytest.fixture
def frontend(inbox: Mailbox[Event]) -> Iterator[SatelliteFrontend]:
    settings = SatelliteSettings(port=0)
    made = SatelliteFrontend(settings, Bridge("device", "", "1"), Api(inbox.put), inbox.put)
    made.open()
    made.start()
    yield made
    made.stop()
    assert made.join(Deadline(SECONDS))


def test_the_audio_of_the_recognizer_reaches_home_assistant(frontend: SatelliteFrontend) -> None:
    assistant, recognizer = WyomingClient(frontend.address), WyomingClient(frontend.address)
    with assistant.socket, recognizer.socket:
        assistant.send(encode_event("run-satellite"))
        assistant.send(encode_event("ping"))
        assert assistant.type() == "pong"
        frontend.notify(Woken("okay_nabu"))
        recognizer.send(encode_event("transcribe"))
        assert [assistant.type() for _ in range(3)] == ["detection", "run-pipeline", "streaming-started"]
        recognizer.send(encode_event("audio-chunk", {"rate": 16000}, bytes(3200)))
        event = assistant.read()
        assert event is not None and event.payload == bytes(3200)


def test_a_finished_timer_is_an_announcement(frontend: SatelliteFrontend, inbox: Mailbox[Event]) -> None:
    client = WyomingClient(frontend.address)
    with client.socket:
        client.send(encode_event("run-satellite"))
        client.send(encode_event("timer-finished", {"id": "1"}))
        client.send(encode_event("ping"))
        assert client.type() == "pong"
    (announce,) = [event for event in inbox.take() if isinstance(event, Announce)]
    assert (announce.utterance.text, announce.utterance.source) == ("Timer.", "satellite")


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n", b'{"type": "a", "payload_length": 9999999}\n', b"x" * (64 * 1024 + 1)],
    ids=["no event", "long payload", "long line"],
)
def test_bytes_that_are_no_event_end_the_connection(frontend: SatelliteFrontend, sent: bytes) -> None:
    client = WyomingClient(frontend.address)
    with client.socket:
        client.send(sent)
        assert client.read_all() == []


def test_a_connection_beyond_the_limit_is_closed(frontend: SatelliteFrontend) -> None:
    clients = [WyomingClient(frontend.address) for _ in range(MAX_CONNECTIONS + 1)]
    try:
        clients[0].send(encode_event("ping"))
        assert clients[0].type() == "pong"
        assert clients[-1].read_all() == []
    finally:
        for client in clients:
            client.socket.close()


def test_a_peer_that_stops_inside_an_event_is_disconnected_and_an_idle_one_is_not(inbox: Mailbox[Event]) -> None:
    made = SatelliteFrontend(
        SatelliteSettings(port=0), Bridge("device", "", "1"), Api(inbox.put), inbox.put, stall_seconds=0.1
    )
    made.open()
    made.start()
    idle, stalled = WyomingClient(made.address), WyomingClient(made.address)
    with idle.socket, stalled.socket:
        idle.send(encode_event("ping"))
        assert idle.type() == "pong"
        stalled.send(encode_event("ping")[:-3])
        assert stalled.read_all() == []
        idle.send(encode_event("ping"))
        assert idle.type() == "pong"
        made.stop()
    assert made.join(Deadline(SECONDS))


def test_accept_pauses_while_the_process_has_no_descriptor(
    inbox: Mailbox[Event], caplog: pytest.LogCaptureFixture
) -> None:
    made = SatelliteFrontend(SatelliteSettings(port=0), Bridge("device", "", "1"), Api(inbox.put), inbox.put)
    made.open()
    client = WyomingClient(made.address)
    client.send(encode_event("ping"))
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler, logger = logging.handlers.QueueHandler(records), logging.getLogger("agent.system.tcp_listener")
    logger.addHandler(handler)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    client.socket.settimeout(ACCEPT_PAUSE_SECONDS / 2)
    began = time.monotonic()
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        made.start()
        assert "cannot accept" in records.get(timeout=SECONDS).getMessage()
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        logger.removeHandler(handler)
    client.socket.settimeout(SECONDS)
    assert client.type() == "pong"
    rounds, levels = made.heartbeats, {record.levelname for record in caplog.records}
    tries = 1 + (time.monotonic() - began) / ACCEPT_PAUSE_SECONDS
    assert levels == {"WARNING"} and len(caplog.records) <= tries
    assert rounds < 20 * tries
    client.socket.close()
    made.stop()
    assert made.join(Deadline(SECONDS))


def test_stop_closes_every_connection(frontend: SatelliteFrontend) -> None:
    client = WyomingClient(frontend.address)
    with client.socket:
        client.send(encode_event("ping"))
        assert client.type() == "pong"
        frontend.stop_accepting()
        frontend.stop()
        assert client.read_all() == []


def test_a_port_in_use_is_one_error_and_is_tried_again(inbox: Mailbox[Event], caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        settings = SatelliteSettings(port=owner.getsockname()[1])
        made = SatelliteFrontend(settings, Bridge("device", "", "1"), Api(inbox.put), inbox.put, retry_seconds=0.01)
        made.open()
        made.open()  # a second attempt is not logged again
        made.start()
    await_listener(settings.port)
    client = WyomingClient(made.address)
    client.send(encode_event("ping"))
    assert client.type() == "pong"
    client.socket.close()
    made.stop()
    assert made.join(Deadline(SECONDS))
    (error,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "change satellite.host or satellite.port" in error


def test_an_event_that_is_nested_too_deeply_ends_only_its_connection(frontend: SatelliteFrontend) -> None:
    hostile, other = WyomingClient(frontend.address), WyomingClient(frontend.address)
    with hostile.socket, other.socket:
        hostile.send(encode_event("run-satellite"))
        data = b'{"x":' + b"[" * 980 + b"]" * 980 + b"}"
        hostile.send(b'{"type":"audio-start","data_length":%d}\n%s' % (len(data), data))
        assert hostile.read_all() == []
        other.send(encode_event("ping"))
        assert other.type() == "pong"


def test_a_frontend_that_never_ran_can_be_stopped(inbox: Mailbox[Event]) -> None:
    made = SatelliteFrontend(SatelliteSettings(port=0), Bridge("device", "", "1"), Api(inbox.put), inbox.put)
    made.open()
    address = made.address
    made.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    made.stop()
    made.abort()
    assert made._mailbox.fileno() < 0
