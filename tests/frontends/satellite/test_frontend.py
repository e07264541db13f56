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

from agent.errors import ConfigError
from agent.frontends.api.api import Api
from agent.frontends.satellite.bridge import Bridge
from agent.frontends.satellite.frontend import ACCEPT_PAUSE_SECONDS, MAX_CONNECTIONS, SatelliteFrontend
from agent.frontends.satellite.settings import SatelliteSettings
from agent.pipeline.events import Announce, Event, Woken
from agent.services.protocols.wyoming_event import EventBuffer, WyomingEvent, decode_event, encode_event
from agent.system.threads import Deadline, Mailbox

SECONDS = 20.0


class Client:
    """A connection that reads whole events."""

    def __init__(self, frontend: SatelliteFrontend) -> None:
        self.socket = socket.create_connection(frontend.address, SECONDS)
        self._buffer = EventBuffer()

    def send(self, type: str, payload: bytes = b"", **data: object) -> None:
        self.socket.sendall(encode_event(type, data, payload))

    def read(self) -> WyomingEvent | None:
        """Return the next event; ``None`` at the end."""
        while (message := self._buffer.next()) is None:
            try:
                data = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer.feed(data)
        return decode_event(message)

    def type(self) -> str | None:
        event = self.read()
        return None if event is None else event.type


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
    assistant, recognizer = Client(frontend), Client(frontend)
    with assistant.socket, recognizer.socket:
        assistant.send("run-satellite")
        assistant.send("ping")
        assert assistant.type() == "pong"
        frontend.notify(Woken("okay_nabu"))
        recognizer.send("transcribe")
        assert [assistant.type() for _ in range(3)] == ["detection", "run-pipeline", "streaming-started"]
        recognizer.send("audio-chunk", bytes(3200), rate=16000)
        event = assistant.read()
        assert event is not None and event.payload == bytes(3200)


def test_a_finished_timer_is_an_announcement(frontend: SatelliteFrontend, inbox: Mailbox[Event]) -> None:
    client = Client(frontend)
    with client.socket:
        client.send("run-satellite")
        client.send("timer-finished", id="1")
        client.send("ping")
        assert client.type() == "pong"
    (announce,) = [event for event in inbox.take() if isinstance(event, Announce)]
    assert (announce.utterance.text, announce.utterance.source) == ("Timer.", "satellite")


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n", b'{"type": "a", "payload_length": 9999999}\n'])
def test_bytes_that_are_no_event_end_the_connection(frontend: SatelliteFrontend, sent: bytes) -> None:
    client = Client(frontend)
    with client.socket:
        client.socket.sendall(sent)
        assert client.read() is None


def test_a_connection_beyond_the_limit_is_closed(frontend: SatelliteFrontend) -> None:
    clients = [Client(frontend) for _ in range(MAX_CONNECTIONS + 1)]
    try:
        clients[0].send("ping")
        assert clients[0].type() == "pong"
        assert clients[-1].read() is None
    finally:
        for client in clients:
            client.socket.close()


def test_accept_pauses_while_the_process_has_no_descriptor(
    inbox: Mailbox[Event], caplog: pytest.LogCaptureFixture
) -> None:
    made = SatelliteFrontend(SatelliteSettings(port=0), Bridge("device", "", "1"), Api(inbox.put), inbox.put)
    made.open()
    client = Client(made)
    client.send("ping")
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler, logger = logging.handlers.QueueHandler(records), logging.getLogger("agent.frontends.satellite.frontend")
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
    client = Client(frontend)
    with client.socket:
        client.send("ping")
        assert client.type() == "pong"
        frontend.stop_accepting()
        frontend.stop()
        assert client.read() is None


def test_a_port_in_use_names_the_keys(frontend: SatelliteFrontend, inbox: Mailbox[Event]) -> None:
    settings = SatelliteSettings(port=frontend.address[1])
    other = SatelliteFrontend(settings, Bridge("device", "", "1"), Api(inbox.put), inbox.put)
    with pytest.raises(ConfigError, match="choose another satellite.host or satellite.port"):
        other.open()


def test_a_frontend_that_never_ran_can_be_stopped(inbox: Mailbox[Event]) -> None:
    made = SatelliteFrontend(SatelliteSettings(port=0), Bridge("device", "", "1"), Api(inbox.put), inbox.put)
    made.open()
    made.stop()
    made.abort()
