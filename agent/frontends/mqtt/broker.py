"""Keeps a connection to an MQTT broker, and acknowledges received messages when the caller asks for it."""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from agent.errors import AgentError
from agent.frontends.mqtt.settings import PORTS, MqttSettings
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Backoff, Deadline, HasFileno, Mailbox, start_thread

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 30
"""Keepalive interval of MQTT. paho 1.6 also uses it as the timeout of the TLS handshake."""
ACCEPT_SECONDS = 10.0
"""Maximum time from the connection to the response of the broker (CONNACK)."""
RETRY_SECONDS = 60.0
"""Delay of the next attempt after a permanent failure (``BrokerFailure.is_permanent``)."""
STABLE_SECONDS = 30.0
"""The loss of a connection that has lasted at least this long resets the backoff."""
FLUSH_SECONDS = 0.5
"""Maximum time for which ``close`` waits until the broker has confirmed the last message."""
RECEIVE_MAXIMUM = 20
"""Maximum number of received messages that are not acknowledged; the broker then sends no further messages."""
MAX_QUEUED = 2000
"""Maximum number of sent messages with ``qos=1`` that the broker has not confirmed. There is room for the records that
waited for a connection, and for the retained messages of many connections. The library drops further messages."""
MAX_PACKET_BYTES = 1024 * 1024
"""Maximum size of a received message. The broker drops a larger one, so that the memory is bounded."""
SESSION_SECONDS = 7 * 24 * 3600
"""How long the broker keeps messages for a device without a connection. It equals the longest time to live of an
announcement."""
MAX_HANDSHAKES_LOST = 2
"""Number of consecutive TLS connections that the broker closes before its response (CONNACK), until this counts as a
permanent failure."""

TAKEN_OVER = 142
"""Reason code "session taken over": another client has connected with the same client identifier."""
_REFUSALS = {
    132: ("the broker does not support MQTT 5", "use mosquitto 1.6 or later"),
    133: ("the broker refuses the client identifier", "choose another mqtt.topic"),
    134: ("the broker refuses the user name or the password", "check mqtt.user and mqtt.credential"),
    135: (
        "the broker does not authorize this user",
        "check mqtt.user, mqtt.credential and the rules of the broker",
    ),
    138: ("the broker has banned this device", "check the rules of the broker"),
    140: ("the broker requires another method of authentication", "allow a password or a certificate"),
}
"""Reason and cure by reason code (MQTT 5.0, tables 3-1, CONNACK, and 3-13, DISCONNECT). A retry does not help for these
codes."""


class Message(NamedTuple):
    """A received message. Immutable.

    ``token`` is the argument of ``Broker.acknowledge``; 0: the message needs no acknowledgment (``qos=0``).
    """

    topic: str
    payload: bytes
    is_retained: bool = False
    token: int = 0


class Will(NamedTuple):
    """A retained message that the broker publishes if the connection is lost without a DISCONNECT. Immutable."""

    topic: str
    payload: bytes


class BrokerFailure(NamedTuple):
    """The reason why there is no connection. Immutable.

    ``is_permanent``: only a change of the configuration, of the broker or of another device can help.
    """

    reason: str
    is_permanent: bool = False
    cure: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.cure}" if self.cure else self.reason


_CLOSED = BrokerFailure("closed")
"""The result of the dialing thread if the broker closed the TLS connection while the thread used it."""


class BrokerTiming(NamedTuple):
    """The delays of reconnects. Immutable.

    Args:
        first_seconds: Ceiling of the first backoff delay.
        cap_seconds: Highest ceiling of a backoff delay.
        retry_seconds: Delay after a permanent failure.
    """

    first_seconds: float = 0.5
    cap_seconds: float = 30.0
    retry_seconds: float = RETRY_SECONDS


class _State(Enum):
    WAITING = auto()
    DIALING = auto()
    OPENING = auto()
    CONNECTED = auto()
    CLOSED = auto()


class Broker:
    """Keeps one connection to a broker and reconnects it with backoff.

    Not thread-safe; owned by the thread that calls ``wait``, which also calls all callbacks. A short-lived thread
    dials, because the resolver and a TLS handshake cannot be interrupted.

    Args:
        settings: The configuration; ``url`` is an address.
        client_id: The client identifier, which names the session at the broker.
        on_connected: Called after each connection, to subscribe and to publish.
        on_message: Receives each message.
        will: Published by the broker when the connection is lost.
        session_seconds: How long the broker keeps the session without a connection; 0: each connection has a new
            session.
        timing: The delays of reconnects.

    Attributes:
        failures: Number of failed attempts and lost connections.
        failure: The failure that was logged last; ``None`` before the first one. The same failure is logged again only
            after a stable connection.
    """

    def __init__(
        self,
        settings: MqttSettings,
        client_id: str,
        *,
        on_connected: Callable[[], None],
        on_message: Callable[[Message], None],
        will: Will | None = None,
        session_seconds: int = SESSION_SECONDS,
        timing: BrokerTiming | None = None,
    ) -> None:
        from urllib.parse import urlsplit

        parts = urlsplit(settings.url)
        self._settings, self._session_seconds = settings, session_seconds
        self._host, self._port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        self._is_tls = parts.scheme == "mqtts"
        self._on_connected, self._on_message = on_connected, on_message
        self._timing = timing or BrokerTiming()
        self._backoff = Backoff(self._timing.first_seconds, self._timing.cap_seconds)
        self._state, self._deadline, self._stable = _State.WAITING, Deadline(0.0), Deadline(None)
        self._context: ssl.SSLContext | None = None
        self._dialed: Mailbox[BrokerFailure | None] = Mailbox()
        self._lost: BrokerFailure | None = None
        self._last_sent: Any = None
        self._handshakes_lost = 0
        self.failures = 0
        self.failure: BrokerFailure | None = None
        self._client = _make_client(client_id)
        self._client.on_connect, self._client.on_disconnect = self._accept, self._disconnect
        self._client.on_message = self._receive
        self._client.max_queued_messages_set(MAX_QUEUED)
        if will is not None:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)

    @property
    def is_connected(self) -> bool:
        """Whether the broker has accepted the connection."""
        return self._state is _State.CONNECTED

    @property
    def local_host(self) -> str | None:
        """The local IP address of the connection to the broker; ``None`` without a connection."""
        connection = self._client.socket()
        return None if connection is None else str(connection.getsockname()[0])

    def subscribe(self, topics: Sequence[tuple[str, int]]) -> None:
        """Subscribe to topics, each with its maximum quality of service. The broker sends no retained messages."""
        from paho.mqtt.subscribeoptions import SubscribeOptions

        never = SubscribeOptions.RETAIN_DO_NOT_SEND
        options = [(topic, SubscribeOptions(qos=qos, retainHandling=never)) for topic, qos in topics]
        self._use(self._client.subscribe, options)

    def subscribe_retained(self, topic: str, qos: int = 1) -> None:
        """Subscribe to a topic, including its retained messages."""
        self._use(self._client.subscribe, topic, qos)

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 0, retain: bool = False) -> bool:
        """Send a message. With ``qos=1`` the library sends it again after a reconnect, until the broker confirms it.

        Returns:
            Whether there is a connection. Without one, the message is dropped.
        """
        if self._state is not _State.CONNECTED:
            return False
        sent = self._use(self._client.publish, topic, payload, qos, retain)
        if qos:
            self._last_sent = sent
        return True

    @property
    def is_confirmed(self) -> bool:
        """Whether the broker has confirmed the last message with ``qos=1``, or none is pending."""
        try:
            return self._last_sent is None or bool(self._last_sent.is_published())
        except (RuntimeError, ValueError):  # the message was not sent, because the connection was lost
            return True

    def acknowledge(self, token: int) -> None:
        """Acknowledge a received message, so that the broker does not send it again. With token 0 it does nothing."""
        if token and self._state is _State.CONNECTED:
            self._use(self._client.ack, token, 1)

    def wait(self, other: HasFileno, seconds: float, *, reads: bool = True) -> None:
        """Wait for the broker, for ``other`` or for the timeout, and process the data of the broker.

        It also starts a connection attempt that is due.

        Args:
            other: Ends the wait when it is readable.
            seconds: The timeout.
            reads: ``False``: read nothing from the broker, so that further messages stay there.
        """
        if self._state is _State.WAITING and self._deadline.is_expired:
            self._dial()
        poll = select.poll()
        poll.register(other, select.POLLIN)
        connection = self._client.socket() if self._state in (_State.OPENING, _State.CONNECTED) else None
        if self._state is _State.DIALING:
            poll.register(self._dialed, select.POLLIN)
        elif connection is not None:
            events = (select.POLLIN if reads else 0) | (select.POLLOUT if self._client.want_write() else 0)
            poll.register(connection, events)
        if (remaining := self._deadline.remaining()) is not None:
            seconds = min(seconds, remaining)
        # TLS may hold decrypted data that was not read yet. This data does not make the socket readable.
        has_more = reads and connection is not None and self._is_tls and connection.pending() > 0
        ready = dict(poll.poll(0 if has_more else 1000 * seconds + 1))
        if self._state is _State.DIALING:
            for failure in self._dialed.take():
                self._end_dial(failure)
        elif connection is None and self._state in (_State.OPENING, _State.CONNECTED):
            self._fail(self._unknown_loss())  # the connection was lost while the dialing thread sent CONNECT
        elif connection is not None:
            self._serve(ready.get(connection.fileno(), 0) | (select.POLLIN if has_more else 0))

    def refuse(self, failure: BrokerFailure) -> None:
        """Disconnect in the current or the next ``wait``, and connect again later, as after any other ``failure``."""
        self._lost = failure

    def close(self, other: HasFileno | None = None, is_aborted: Callable[[], bool] = lambda: False) -> None:
        """Disconnect, so that the broker does not publish the will. Idempotent.

        It waits at most ``FLUSH_SECONDS`` until the broker has confirmed the last message, and reads meanwhile. If a
        socket is closed while it holds unread data, the kernel resets the connection, and the broker loses the data
        that it has not read.

        Args:
            other: Interrupts the wait when it is readable; then ``is_aborted`` is called.
            is_aborted: Returns whether to end the wait. It must make ``other`` unreadable again.
        """
        if self._state is _State.CONNECTED:
            self._state = _State.CLOSED
            deadline = Deadline(FLUSH_SECONDS)
            while not self.is_confirmed and not deadline.is_expired and not is_aborted():
                if (connection := self._client.socket()) is None:
                    break
                poll = select.poll()
                poll.register(connection, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
                if other is not None:
                    poll.register(other, select.POLLIN)
                poll.poll(1000 * (deadline.remaining() or 0.0) + 1)
                self._use(self._client.loop_write)
                self._use(self._client.loop_read)
            self._use(self._client.disconnect)
        self._state = _State.CLOSED
        self._dialed.close()

    # --- dialing

    def _dial(self) -> None:
        self._state, self._deadline = _State.DIALING, Deadline(None)
        thread = threading.Thread(target=lambda: self._dialed.put(self._connect()), name="mqtt dial", daemon=True)
        try:
            start_thread(thread)
        except AgentError as error:
            self._fail(BrokerFailure(str(error)))

    def _connect(self) -> BrokerFailure | None:
        """Connect and send CONNECT, in the dialing thread. Returns the failure; ``None`` after a success."""
        import ssl

        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session_seconds
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        try:
            password = self._settings.credential.reveal()
            if password is not None or self._settings.user is not None:
                self._client.username_pw_set(self._settings.user or "", password)
            if self._is_tls and self._context is None:
                self._context = _make_context(self._settings)
                self._client.tls_set_context(self._context)
            is_new = self._session_seconds == 0
            self._client.connect(self._host, self._port, KEEPALIVE_SECONDS, clean_start=is_new, properties=properties)
        except ssl.SSLCertVerificationError as error:
            cure = "check mqtt.authority and the name in mqtt.url"
            return BrokerFailure(f"the certificate of the broker is not valid: {error.verify_message}", True, cure)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return _CLOSED
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).replace("_", " ").lower()
            return BrokerFailure(f"TLS failed: {reason}", True, "check the port, mqtt.certificate and mqtt.key")
        except AgentError as error:
            return BrokerFailure(str(error), True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return BrokerFailure(f"cannot connect to {self._host} port {self._port}: {reason}")
        return None

    def _end_dial(self, failure: BrokerFailure | None) -> None:
        self._lost = None
        if failure is None or failure is _CLOSED:
            self._state, self._deadline = _State.OPENING, Deadline(ACCEPT_SECONDS)
        if failure is not None:
            self._fail(self._unknown_loss() if failure is _CLOSED else failure)

    def _fail(self, failure: BrokerFailure) -> None:
        """Record and log a failure, close the connection and set the time of the next attempt."""
        was_stable, self._stable = self._stable.is_expired, Deadline(None)
        if was_stable:
            self._backoff.reset()
            self.failure = None
        seconds = self._timing.retry_seconds if failure.is_permanent else self._backoff.next_seconds()
        if failure != self.failure:
            level = logging.ERROR if failure.is_permanent else logging.WARNING
            log.log(level, "mqtt: no connection, %s, retry in %.1f s", escape(str(failure), 300), seconds)
            self.failure = failure
        self._state, self._deadline = _State.WAITING, Deadline(seconds)
        self.failures += 1
        if self._client.socket() is not None:
            self._use(self._client.disconnect)  # closes the socket, even if the broker does not answer

    # --- the connection

    def _use(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function of the paho client, which may use the socket. An ``OSError`` counts as a lost connection.

        paho 1.6 does not catch the errors of TLS.
        """
        try:
            return function(*arguments)
        except OSError:
            self._lost = self._lost or self._unknown_loss()
        return None

    def _serve(self, ready: int) -> None:
        if ready & (select.POLLIN | select.POLLERR | select.POLLHUP):
            self._use(self._client.loop_read)
        if ready & select.POLLOUT and self._lost is None:
            self._use(self._client.loop_write)
        if self._lost is None:
            self._use(self._client.loop_misc)
        if self._lost is None and self._state is _State.OPENING and self._deadline.is_expired:
            self._lost = BrokerFailure(f"{self._host} port {self._port} does not answer as an MQTT broker")
        if self._lost is not None:
            failure, self._lost = self._lost, None
            self._fail(failure)

    def _unknown_loss(self) -> BrokerFailure:
        """Return the failure for a connection that the broker closed without a reason."""
        if self._state is not _State.OPENING or not self._is_tls:
            return BrokerFailure("the connection was lost")
        # With TLS 1.3 a broker that refuses our certificate closes the connection after the handshake. A restart of the
        # broker looks the same, so only several losses in a row count as a permanent failure.
        self._handshakes_lost += 1
        is_permanent = self._handshakes_lost >= MAX_HANDSHAKES_LOST
        cure = "check mqtt.certificate and mqtt.key"
        return BrokerFailure("the broker closed the connection at once", is_permanent, cure)

    def _accept(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any = None) -> None:
        value = _value(reason)
        if value != 0:
            refusal, cure = _REFUSALS.get(value, (f"the broker refuses the connection: {reason}", ""))
            self._lost = BrokerFailure(refusal, value in _REFUSALS, cure)
            return
        log.info("mqtt: connected, broker=%s, port=%d, tls=%s", self._host, self._port, "yes" if self._is_tls else "no")
        self._handshakes_lost = 0
        self._state, self._deadline, self._stable = _State.CONNECTED, Deadline(None), Deadline(STABLE_SECONDS)
        self._on_connected()

    def _disconnect(self, client: Any, userdata: Any, *rest: Any) -> None:
        # paho 1.6 passes the reason and the properties; paho 2 passes the flags before them.
        if self._state in (_State.DIALING, _State.CLOSED) or self._lost is not None:
            return
        value = _value(rest[-2]) if len(rest) > 1 else 0
        if value == TAKEN_OVER:
            self._lost = same_name(self._settings)
        elif value in _REFUSALS:
            refusal, cure = _REFUSALS[value]
            self._lost = BrokerFailure(refusal, True, cure)
        else:
            self._lost = self._unknown_loss()

    def _receive(self, client: Any, userdata: Any, message: Any) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # a defect of the broker: all subscribed topics are valid UTF-8
        token = message.mid if message.qos else 0
        self._on_message(Message(topic, bytes(message.payload), bool(message.retain), token))


def same_name(settings: MqttSettings) -> BrokerFailure:
    """Return the failure for two devices with the same name."""
    topics = settings.topics
    cure = f"give each device an mqtt.topic of its own, {topics.root}/NAME"
    return BrokerFailure(f"another device uses the name {topics.name}", True, cure)


def _value(reason: Any) -> int:
    return int(getattr(reason, "value", reason))


def _make_client(client_id: str) -> Any:
    """Return a paho client that acknowledges a message only when its method ``ack`` is called."""
    import paho.mqtt.client as paho

    if hasattr(paho, "CallbackAPIVersion"):
        return paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5, manual_ack=True)
    base: Any = paho.Client

    class ManualClient(base):  # type: ignore[misc]
        """A client of paho 1.6 with manual acknowledgments.

        paho 1.6 has no ``manual_ack``: it sends PUBACK when the message callback returns. This class suppresses that.
        """

        def _send_puback(self, mid: int) -> int:
            return 0

        def ack(self, mid: int, qos: int) -> int:
            return int(super()._send_puback(mid))

    return ManualClient(client_id=client_id, protocol=paho.MQTTv5)


def _make_context(settings: MqttSettings) -> ssl.SSLContext:
    from agent.errors import ConfigError
    from agent.system.tls import tls_context

    try:
        context = tls_context(settings.authority)
        if settings.certificate is not None:
            # For an encrypted key OpenSSL would ask for the password at the terminal. An empty password prevents this.
            context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"mqtt.authority, mqtt.certificate or mqtt.key cannot be used: {reason}. Use PEM files that this user may"
            " read, and a key without a password"
        ) from error
    return context
