"""The connection as echo client of Autobahn|Testsuite: ``python tests/support/echo.py ws://127.0.0.1:9001``.

Start ``wstest -m fuzzingserver`` first (release 0.8.2, on Python 2.7). It writes its report at the end.
"""

from __future__ import annotations

import sys

from agent.services.connection.dial import dial
from agent.services.connection.poll import wait
from agent.services.connection.websocket import DEFAULT_TIMING, Connection, ConnectionTiming, connect
from agent.services.protocols.codec import Encoding, Event, Handshake, Message, Text
from agent.system.threads import Deadline


class Echo:
    """A codec that sends back the received messages on any event."""

    service = "echo"
    encoding = Encoding("raw", 16000)
    receive_timeout_seconds: float | None = None
    max_idle_seconds: float | None = None
    is_single_use = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.messages: list[Message] = []

    def handshake(self) -> Handshake:
        return Handshake(self.url)

    def send(self, event: Event) -> list[Message]:
        messages, self.messages = self.messages, []
        return messages

    def receive(self, message: Message) -> list[Event]:
        self.messages.append(message)
        return [Text("")]

    def receive_timeout(self) -> list[Event]:
        return []

    def receive_close(self, code: int, reason: str = "") -> list[Event]:
        return []


def echo(
    url: str, *, seconds: float = 60.0, linger_seconds: float = DEFAULT_TIMING.linger_seconds
) -> tuple[int | None, list[Message]]:
    """Echo until the server closes; return the close code and the messages that were not sent back."""
    codec = Echo(url)
    sock = dial(codec.handshake(), codec.service, Deadline(60))
    connection = Connection(sock, codec, ConnectionTiming(ping_seconds=None, linger_seconds=linger_seconds))
    deadline = Deadline(seconds)
    while not connection.is_closed and not deadline.is_expired:
        wait(connection, (), deadline.remaining())
        for event in connection.pump():
            connection.send(event)
    connection.abort()
    return connection.close_code, codec.messages


def receive_all(url: str) -> list[Message]:
    """Return all messages until the server closes."""
    codec = Echo(url)
    connection = connect(codec, Deadline(60), timing=ConnectionTiming(ping_seconds=None))
    deadline = Deadline(60)
    while not connection.is_closed and not deadline.is_expired:
        wait(connection, (), deadline.remaining())
        connection.pump()
    connection.abort()
    return codec.messages


def main(url: str, agent: str = "voice-agent") -> None:
    count = int(receive_all(f"{url}/getCaseCount")[0])
    for case in range(1, count + 1):
        echo(f"{url}/runCase?case={case}&agent={agent}")
    receive_all(f"{url}/updateReports?agent={agent}")
    print(f"{count} cases")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/"))
