"""The MQTT frontend: receives texts and commands, and publishes the state, the events and the records."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.frontends.api.api import Api
from agent.frontends.api.caller import Caller
from agent.frontends.api.described import end_fields
from agent.frontends.api.milestones import BUTTON, TIMER, Milestones
from agent.frontends.frontend import Frontend, Notification
from agent.frontends.mqtt.arbitration import WINDOW_SECONDS, Arbitration
from agent.frontends.mqtt.device_state import PublishedState
from agent.frontends.mqtt.discovery import TURN_EVENTS, About, discovery_message, discovery_topic
from agent.frontends.mqtt.pending_acknowledgments import PendingAcknowledgments
from agent.frontends.mqtt.requests import COMMANDS, RESTART, MqttRequest, read_choice, read_command, read_say
from agent.frontends.mqtt.settings import MqttSettings
from agent.frontends.mqtt.topics import BIRTH
from agent.pipeline.actions import Record
from agent.pipeline.events import Choose, Event, Restart, WakeYielded, Woken
from agent.system.named_tuple import NamedTuple
from agent.system.rate_limiter import RateLimiter
from agent.system.text import escape
from agent.system.threads import Deadline, Mailbox

# Imported at run time by the MQTT thread, after the daemon has reported READY.
if TYPE_CHECKING:
    from agent.frontends.mqtt.broker import Broker, BrokerTiming, Message

log = logging.getLogger(__name__)

SOURCE = "mqtt"
ONLINE, OFFLINE = b"online", b"offline"
NO_DISCOVERY = "none"
HEARTBEAT_SECONDS = 4.0
BIRTH_PAUSE_SECONDS = 5.0
"""Minimum time between two answers to Home Assistant's birth message."""
MESSAGES_PER_SECOND = 100.0
"""Maximum rate of received messages; further messages stay at the broker."""
ERRORS_PER_SECOND = 5.0
"""Maximum rate of answers to rejected payloads; further rejected payloads get no answer and no log line."""
MAX_FOREIGN_CONNECTIONS = 1
"""Number of consecutive connections that may show another process with the same name. After more, this process
disconnects."""
MAX_RECORDS = 1000
"""Maximum number of records that are kept while there is no connection; then the oldest are dropped. They remain in the
history of the daemon."""


class _Signal(Enum):
    STOP_ACCEPTING = auto()
    STOP = auto()
    ABORT = auto()


class _State(NamedTuple):
    """The retained message with the state. Immutable."""

    payload: bytes


class _Happened(NamedTuple):
    """A message that is not retained. Immutable. ``topic``: the last level of its topic."""

    topic: str
    payload: bytes


class _Wake(NamedTuple):
    """A wake word that this device has heard. Immutable. ``level`` in dBFS; ``at``: monotonic time in seconds."""

    level: float
    at: float


class _Answer(NamedTuple):
    """The response of the API to a message. Immutable.

    ``number``: the number of the message in ``PendingAcknowledgments``.
    """

    number: int
    topic: str
    response: bytes


class MqttFrontend(Frontend):
    """Connects the daemon with an MQTT broker.

    Thread-safe: the main thread calls ``notify`` and the methods of a frontend; everything else is owned by the MQTT
    thread.

    Args:
        settings: The configuration; ``url`` is an address.
        api: The methods of the daemon.
        about: Facts about the device, for Home Assistant.
        report: Receives the events of the frontend.
        timing: The delays of reconnects.
        window_seconds: See ``Arbitration``.
    """

    def __init__(
        self,
        settings: MqttSettings,
        api: Api,
        about: About,
        report: Callable[[Event], None],
        *,
        timing: BrokerTiming | None = None,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        super().__init__("mqtt", report)
        self._settings, self._api, self._about, self._timing = settings, api, about, timing
        self._topics = settings.topics
        self._caller = Caller(SOURCE, may_read_texts=settings.transcripts, may_control=True)
        self._mailbox: Mailbox[Record | _Wake | _Signal | _State | _Happened | _Answer] = Mailbox()
        self._is_accepting = True
        self._end: _Signal | None = None
        self._acknowledgments = PendingAcknowledgments()
        self._rate, self._error_rate = RateLimiter(MESSAGES_PER_SECOND), RateLimiter(ERRORS_PER_SECOND)
        self._last_state: _State | None = None
        self._birth_pause = Deadline(0.0)
        self._was_connected = False
        self._is_new_connection = False
        self._foreign_connections = 0
        self._arbitration = Arbitration(self._topics.name, window_seconds=window_seconds) if settings.room else None
        self._ids: dict[int, object] = {}  # by message number: the id in the request, until the API has answered
        # Owned by the main thread:
        fixed = {"version": about.version, "groups": list(settings.groups), "room": settings.room}
        self._device_state = PublishedState(fixed, texts=settings.transcripts)
        self._milestones = Milestones(texts=settings.transcripts)
        self._records: deque[bytes] = deque(maxlen=MAX_RECORDS)

    # --- the main thread

    def open(self) -> None:
        """Do nothing: the thread connects after the daemon has reported READY, and retries while this fails."""

    def notify(self, notification: Notification) -> None:
        """Queue the messages for a notification. Never blocks."""
        if (state := self._device_state.update(notification)) is not None:
            self._mailbox.put(_State(state))
        if isinstance(notification, Woken) and self._arbitration is not None:
            self._mailbox.put(_Wake(notification.level, time.monotonic()))
        for name, fields in self._milestones.update(notification):
            if name in TURN_EVENTS:
                self._mailbox.put(_Happened("turn", _encode({"event_type": name, **fields})))
            elif name == BUTTON:
                self._mailbox.put(_Happened(BUTTON, str(fields["press"]).encode()))
            elif name == TIMER:
                self._mailbox.put(_Happened(TIMER, _encode({"event_type": fields["state"], **fields})))
        if isinstance(notification, Record):
            self._mailbox.put(notification)

    def stop_accepting(self) -> None:
        self._mailbox.put(_Signal.STOP_ACCEPTING)

    def stop(self) -> None:
        self._finish(_Signal.STOP)

    def abort(self) -> None:
        self._finish(_Signal.ABORT)

    def _finish(self, signal: _Signal) -> None:
        self._mailbox.put(signal)
        if self.ident is None:
            self._mailbox.close()

    # --- the MQTT thread

    def run(self) -> None:
        from agent.frontends.mqtt.broker import Broker, Will

        topics = self._topics
        self._broker: Broker = Broker(
            self._settings,
            f"{topics.root}-{topics.name}",
            on_connected=self._handle_connection,
            on_message=self._receive,
            will=Will(topics.of("availability"), OFFLINE),
            timing=self._timing,
        )
        self._handlers: dict[str, Callable[[Message], None]] = dict.fromkeys(topics.says, self._say)
        for command in COMMANDS:
            self._handlers[topics.of(command)] = self._command
        for setting in self._about.selects:
            self._handlers[topics.of(f"{setting}/set")] = self._choose
        self._handlers[BIRTH] = self._handle_birth
        if self._settings.room is not None:
            self._handlers[topics.room(self._settings.room)] = self._receive_room
        self._instance = os.urandom(8).hex().encode()
        try:
            while self._end is None:
                self.heartbeat()
                self._step()
        finally:
            if self._end is _Signal.STOP:
                self._broker.publish(topics.of("availability"), OFFLINE, qos=1, retain=True)
            self._broker.close(self._mailbox, self._is_aborted)
            self._mailbox.close()

    def _is_aborted(self) -> bool:
        """Return whether ``abort`` was called. Drops all other items of the mailbox."""
        if _Signal.ABORT in self._mailbox.take():
            self._end = _Signal.ABORT
        return self._end is _Signal.ABORT

    def _step(self) -> None:
        is_throttled = self._rate.wait_seconds() > 0.0
        # A throttled broker is read again after at most 1 / MESSAGES_PER_SECOND, when the next token is available.
        seconds = 1 / MESSAGES_PER_SECOND if is_throttled else HEARTBEAT_SECONDS
        self._broker.wait(self._mailbox, seconds, reads=self._is_accepting and not is_throttled)
        if self._is_new_connection:
            self._is_new_connection = False
            self._publish_all()
        state = self._last_state
        for item in self._mailbox.take():
            match item:
                case _Signal.STOP_ACCEPTING:
                    self._is_accepting = False
                case _Signal():
                    self._end = item
                case _Answer():
                    self._answer(item)
                case _Wake(level, at):
                    self._wake(level, at)
                case _State():
                    self._last_state = item
                case _Happened(topic, payload):
                    self._broker.publish(self._topics.of(topic), payload)
                case Record():
                    self._record(item)
        if state is not self._last_state:  # several changes are published as one message
            self._publish_state()

    def _handle_connection(self) -> None:
        """Subscribe and publish the instance, after each connection."""
        topics = self._topics
        self._acknowledgments.forget_connection()
        # Quality of service 0 for commands: the broker must not keep them while the device is not connected. A hush of
        # yesterday must not stop the speech of today.
        says = [(topic, 1) for topic in topics.says]
        commands = [*COMMANDS, *(f"{setting}/set" for setting in self._about.selects)]
        self._broker.subscribe([*says, *((topics.of(command), 0) for command in commands)])
        if self._settings.discovery != NO_DISCOVERY:
            self._broker.subscribe([(BIRTH, 0)])
        if self._settings.room is not None:
            self._broker.subscribe([(topics.room(self._settings.room), 0)])
        # Subscribe before the publish, so that the broker sends the retained instance of the last process first.
        self._broker.subscribe_retained(topics.of("instance"), qos=0)
        self._broker.publish(topics.of("instance"), self._instance, qos=1, retain=True)
        # After this callback the library resends the messages that the broker has not confirmed. Newer messages must
        # follow them, so they are published later, in _step.
        self._is_new_connection = True

    def _publish_all(self) -> None:
        """Publish the retained messages and the queued records, after each connection."""
        self._publish_retained()
        while self._records and self._broker.is_connected:
            self._broker.publish(self._topics.of("record"), self._records.popleft(), qos=1)

    def _publish_retained(self) -> None:
        """Publish all retained messages. A broker without persistence loses them at its restart."""
        topics, about, host = self._topics, self._about, self._broker.local_host
        payload = b""  # removes a device that was announced by an earlier configuration from Home Assistant
        if self._settings.discovery != NO_DISCOVERY:
            payload = _encode(discovery_message(topics, about.at(host)))
        self._broker.publish(discovery_topic(topics), payload, qos=1, retain=True)
        version = {"installed_version": about.version, "latest_version": about.version}
        self._broker.publish(topics.of("version"), _encode(version), qos=1, retain=True)
        self._broker.publish(topics.of("availability"), ONLINE, qos=1, retain=True)
        self._publish_state()

    # --- received messages

    def _receive(self, message: Message) -> None:
        self._rate.take()
        if message.topic == self._topics.of("instance"):
            self._compare_instance(message)
            return
        handler = self._handlers.get(message.topic)
        if handler is None or message.is_retained:
            if handler is not None:
                log.warning("mqtt: retained message ignored, topic=%s", escape(message.topic, 200))
            self._broker.acknowledge(message.token)
            return
        handler(message)

    def _say(self, message: Message) -> None:
        number = self._acknowledgments.add(message.token)
        self._call(number, message, read_say(message.payload))

    def _command(self, message: Message) -> None:
        number = self._acknowledgments.add(message.token)
        name = message.topic.removeprefix(self._topics.of(""))
        self._call(number, message, read_command(name, message.payload))

    def _choose(self, message: Message) -> None:
        setting = message.topic.removeprefix(self._topics.of("")).removesuffix("/set")
        value, problem = read_choice(message.payload, self._about.selects[setting])
        if value is None:
            self._reject(message.topic, problem)
        else:
            self.report(Choose(setting, value, SOURCE))
        self._broker.acknowledge(message.token)

    def _compare_instance(self, message: Message) -> None:
        """Detect a second process with the name of this device.

        Both processes use the same session, so the broker closes the connection of the first process when the second
        one connects. Mosquitto 2.0.11 closes it without a reason code, so each process publishes a random instance. A
        single message with another instance is no proof: it may be an old retained message that a broker restored after
        a crash.
        """
        self._broker.acknowledge(message.token)
        if message.payload == self._instance:
            self._was_connected = True
            self._foreign_connections = 0 if message.is_retained else self._foreign_connections
            return
        self._foreign_connections += self._was_connected
        if self._foreign_connections > MAX_FOREIGN_CONNECTIONS:
            from agent.frontends.mqtt.broker import same_name

            self._broker.refuse(same_name(self._settings))

    def _handle_birth(self, message: Message) -> None:
        """Publish the retained messages again after a start of Home Assistant."""
        if message.payload == ONLINE and self._birth_pause.is_expired:
            self._birth_pause = Deadline(BIRTH_PAUSE_SECONDS)
            self._publish_retained()

    def _call(self, number: int, message: Message, request: MqttRequest | str) -> None:
        if isinstance(request, MqttRequest) and request.method == RESTART:
            self.report(Restart(SOURCE))
            # Acknowledge in any case: the daemon may refuse the restart and continue.
            self._acknowledge(self._acknowledgments.finish(number))
            return
        if isinstance(request, str):
            self._reject(message.topic, request)
            self._acknowledge(self._acknowledgments.finish(number))
            return
        if "id" in request.params:
            self._ids[number] = request.params["id"]
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": request.method, "params": request.params})
        topic = message.topic
        self._api.call(line.encode(), self._caller, lambda data: self._mailbox.put(_Answer(number, topic, data)))

    def _answer(self, answer: _Answer) -> None:
        response = json.loads(answer.response)
        error, result = response.get("error"), response.get("result", {})
        id = self._ids.pop(answer.number, None)
        if error is not None:
            if error.get("data", {}).get("name") == "shutting_down":
                return  # not acknowledged, so that the broker sends the text again after the restart of the daemon
            self._reject(answer.topic, error["message"], id)
            self._acknowledge(self._acknowledgments.finish(answer.number))
        elif "record" in result:  # the history already has this id: the broker has sent the text again
            record = result["record"]
            self._publish_record({key: record[key] for key in ("id", "state", "reason", "seconds")})
            self._acknowledge(self._acknowledgments.accept(answer.number, record["id"], is_durable=True))
        elif "id" in result and answer.topic in self._topics.says:
            self._publish_record({**result, "state": "accepted"})
            tokens = self._acknowledgments.accept(answer.number, result["id"], is_durable=result["durable"])
            self._acknowledge(tokens)
        else:
            self._acknowledge(self._acknowledgments.finish(answer.number))

    def _reject(self, topic: str, reason: str, id: object = None) -> None:
        if not self._error_rate.take():
            return
        log.warning("mqtt: payload rejected, topic=%s, %s", escape(topic, 200), escape(reason, 300))
        self._broker.publish(self._topics.of("error"), _encode({"topic": topic, "id": id, "error": reason}))

    def _acknowledge(self, tokens: list[int]) -> None:
        for token in tokens:
            self._broker.acknowledge(token)

    # --- the wake words of the room

    def _wake(self, level: float, at: float) -> None:
        assert self._arbitration is not None and self._settings.room is not None
        message = _encode({"device": self._topics.name, "level": level})
        if self._broker.publish(self._topics.room(self._settings.room), message):
            self._yield_to(self._arbitration.wake(level, at))

    def _receive_room(self, message: Message) -> None:
        assert self._arbitration is not None
        self._yield_to(self._arbitration.receive(message.payload))

    def _yield_to(self, device: str | None) -> None:
        if device is not None:
            self.report(WakeYielded(device))

    # --- sent messages

    def _publish_state(self) -> None:
        if self._last_state is not None:
            self._broker.publish(self._topics.of("state"), self._last_state.payload, qos=1, retain=True)

    def _record(self, record: Record) -> None:
        if record.utterance.source == SOURCE:
            self._publish_record(end_fields(record))
        self._acknowledge(self._acknowledgments.end(record.utterance.id))

    def _publish_record(self, record: dict[str, object]) -> None:
        payload = _encode({"device": self._topics.name, **record})
        if not self._broker.publish(self._topics.of("record"), payload, qos=1):
            self._records.append(payload)


def _encode(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
