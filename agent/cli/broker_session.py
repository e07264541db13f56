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
"""Longest wait for the broker: the connection, its retained messages, and each confirmation."""
STEP_SECONDS = 1.0


class BrokerRefusalError(ServiceError):
    """The broker refuses the connection; ``failure`` is the reason."""

    def __init__(self, failure: BrokerFailure) -> None:
        super().__init__("mqtt", str(failure), permanent=failure.is_permanent)
        self.failure = failure


class BrokerSession:
    """A connection that has received all retained messages when it is entered. Not thread-safe.

    Args:
        settings: The configuration; ``url`` is an address.
        topics: The topics to receive.
        marker: A topic whose next level is free; the session sends itself a message there.
        on_message: Gets topic and payload of each message.
        answer_seconds: Longest wait for each answer of the broker on the connection.
        connect_seconds: Longest wait for the connection.

    Raises:
        ServiceError: On entering: the broker refuses the connection (``BrokerRefusalError``) or does not answer.
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
        self._log.setLevel(logging.CRITICAL)  # the error is raised instead
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
        """Send a message, and wait until the broker has it."""
        self._broker.publish(topic, payload, qos=1)
        self._wait_for(lambda: self._broker.is_confirmed, self._seconds, "the broker did not accept the text")

    def wait(self, deadline: Deadline) -> None:
        """Wait for a message or the deadline, at most a second."""
        self._broker.wait(self._box, deadline.within(STEP_SECONDS).remaining() or 0.0)

    def _wait_for(self, is_done: Callable[[], bool], seconds: float, problem: str) -> None:
        deadline = Deadline(seconds)
        while not is_done():
            if (failure := self._broker.failure) is not None:
                raise BrokerRefusalError(failure)
            if deadline.is_expired and not self._broker.is_connected:
                raise BrokerRefusalError(BrokerFailure(f"{problem} within {seconds:g} s", cure="check mqtt.url"))
            if deadline.is_expired:
                raise ServiceError("mqtt", f"{problem} within {seconds:g} s. Check mqtt.url")
            self.wait(deadline)

    def _subscribe(self) -> None:
        for topic in (*self._topics, self._marker):
            self._broker.subscribe_retained(topic)
        # The broker answers in order: after this message all retained ones have arrived.
        self._broker.publish(self._marker, b"", qos=1)

    def _receive(self, message: Message) -> None:
        if message.topic == self._marker:
            self._is_complete = True
        else:
            self._on_message(message.topic, message.payload)
        self._broker.acknowledge(message.token)
