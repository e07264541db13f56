"""A short connection to an MQTT broker, for one command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

from agent.errors import ServiceError
from agent.frontends.mqtt.broker import Broker, BrokerFailure, Message
from agent.frontends.mqtt.settings import MqttSettings
from agent.system.threads import Deadline, Mailbox

ANSWER_SECONDS = 10.0
"""Timeout of each wait for the broker: for the connection, for all retained messages, and for a confirmation."""
STEP_SECONDS = 1.0


class BrokerConnectionError(ServiceError):
    """There is no connection: the broker refuses it, cannot be reached or does not answer. ``failure``: the reason."""

    def __init__(self, failure: BrokerFailure) -> None:
        super().__init__("mqtt", str(failure), permanent=failure.is_permanent)
        self.failure = failure


class BrokerSession:
    """A connection to a broker. Inside the ``with`` block all retained messages have arrived. Not thread-safe.

    Args:
        settings: The configuration; ``url`` is an address.
        topics: The topics to receive.
        marker: A topic without levels below it. The session sends itself a message on a random level below it.
        on_message: Receives the topic and the payload of each message.
        answer_seconds: Longest wait for each answer of the connected broker.
        connect_seconds: Longest wait for the connection.

    Raises:
        ServiceError: From ``__enter__`` and ``publish``: there is no connection (``BrokerConnectionError``), or the
            connected broker does not answer.
    """

    _log = logging.getLogger("agent.frontends.mqtt")

    def __init__(
        self,
        settings: MqttSettings,
        topics: Sequence[str],
        marker: str,
        on_message: Callable[[str, bytes], None],
        *,
        answer_seconds: float = ANSWER_SECONDS,
        connect_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._topics, self._on_message = topics, on_message
        self._seconds, self._connect_seconds = answer_seconds, connect_seconds
        self._marker = f"{marker}/{os.urandom(6).hex()}"
        self._is_complete = False
        self._box: Mailbox[None] = Mailbox()
        self._broker = Broker(
            settings, self._marker, on_connected=self._subscribe, on_message=self._receive, session_seconds=0
        )

    def __enter__(self) -> BrokerSession:
        self._log.setLevel(logging.CRITICAL)  # errors are raised instead of logged
        try:
            self._wait_for(lambda: self._broker.is_connected, self._connect_seconds, "the broker does not answer")
            self._wait_for(lambda: self._is_complete, self._seconds, "the broker does not pass messages on")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._broker.close()
        self._box.close()
        self._log.setLevel(logging.NOTSET)

    def publish(self, topic: str, payload: str) -> None:
        """Send a message, and wait until the broker has confirmed it."""
        if not self._broker.publish(topic, payload, qos=1):
            raise BrokerConnectionError(self._broker.failure or BrokerFailure("the connection was lost"))
        self._wait_for(lambda: self._broker.is_confirmed, self._seconds, "the broker did not accept the text")

    def wait(self, deadline: Deadline) -> None:
        """Wait until a message arrives or the deadline expires, at most ``STEP_SECONDS``. Handle received messages."""
        self._broker.wait(self._box, deadline.within(STEP_SECONDS).remaining() or 0.0)

    def _wait_for(self, is_done: Callable[[], bool], seconds: float, problem: str) -> None:
        deadline = Deadline(seconds)
        while not is_done():
            if (failure := self._broker.failure) is not None:
                raise BrokerConnectionError(failure)
            if deadline.is_expired and not self._broker.is_connected:
                raise BrokerConnectionError(BrokerFailure(f"{problem} within {seconds:g} s", cure="check mqtt.url"))
            if deadline.is_expired:
                raise ServiceError("mqtt", f"{problem} within {seconds:g} s. Check mqtt.url")
            self.wait(deadline)

    def _subscribe(self) -> None:
        for topic in (*self._topics, self._marker):
            self._broker.subscribe_retained(topic)
        # The broker delivers in order: when this message comes back, all retained messages have arrived.
        self._broker.publish(self._marker, b"", qos=1)

    def _receive(self, message: Message) -> None:
        if message.topic == self._marker:
            self._is_complete = True
        else:
            self._on_message(message.topic, message.payload)
        self._broker.acknowledge(message.token)
