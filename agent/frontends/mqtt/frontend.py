"""The MQTT frontend: receives texts and commands, and publishes the state, the events and the records."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import TYPE_CHECKING

from agent.frontends.api.api import Api
from agent.frontends.api.caller import Caller
from agent.frontends.api.described import ended
from agent.frontends.frontend import Frontend, Notification
from agent.frontends.mqtt.receipts import Receipts
from agent.frontends.mqtt.requests import COMMANDS, MqttRequest, read_command, read_say
from agent.frontends.mqtt.settings import MqttSettings
from agent.pipeline.actions import Record
from agent.pipeline.events import Event
from agent.pipeline.status import Status
from agent.system.named_tuple import NamedTuple
from agent.system.rate_limiter import RateLimiter
from agent.system.text import escape
from agent.system.threads import Mailbox

# Imported by the thread, after READY.
if TYPE_CHECKING:
    from agent.frontends.mqtt.broker import Broker, BrokerTiming, Message

log = logging.getLogger(__name__)

SOURCE = "mqtt"
ONLINE, OFFLINE = b"online", b"offline"
HEARTBEAT_SECONDS = 4.0
MESSAGES_PER_SECOND = 100.0
"""More messages stay with the broker."""
ERRORS_PER_SECOND = 5.0
"""More rejected payloads are counted and not answered."""
MAX_RECORDS = 1000
"""Records that wait for the broker while it is away; the history of the daemon has all of them."""


class _Signal(Enum):
    STOP_ACCEPTING = auto()
    STOP = auto()
    ABORT = auto()


class _Answer(NamedTuple):
    """The response of the API to a message. Immutable."""

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
        report: Receives the events of the frontend.
        timing: The delays of reconnects.
    """

    def __init__(
        self,
        settings: MqttSettings,
        api: Api,
        report: Callable[[Event], None],
        *,
        timing: BrokerTiming | None = None,
    ) -> None:
        super().__init__("mqtt", report)
        self._settings, self._api, self._timing = settings, api, timing
        self._topics = settings.topics
        self._caller = Caller(SOURCE, may_read_texts=settings.transcripts, may_control=True)
        self._mailbox: Mailbox[Notification | _Signal | _Answer] = Mailbox()
        self._is_accepting = True
        self._end: _Signal | None = None
        self._receipts = Receipts()
        self._rate, self._error_rate = RateLimiter(MESSAGES_PER_SECOND), RateLimiter(ERRORS_PER_SECOND)
        self._state: bytes | None = None
        self._records: deque[bytes] = deque(maxlen=MAX_RECORDS)

    # --- the main thread

    def open(self) -> None:
        """Do nothing: the thread connects after READY, and again until the broker is there."""

    def notify(self, notification: Notification) -> None:
        """Queue a notification for the broker. Never blocks."""
        if isinstance(notification, Status | Record):
            self._mailbox.put(notification)

    def stop_accepting(self) -> None:
        self._mailbox.put(_Signal.STOP_ACCEPTING)

    def stop(self) -> None:
        self._mailbox.put(_Signal.STOP)

    def abort(self) -> None:
        self._mailbox.put(_Signal.ABORT)

    # --- the MQTT thread

    def run(self) -> None:
        from agent.frontends.mqtt.broker import Broker, Will

        topics = self._topics
        self._broker: Broker = Broker(
            self._settings,
            f"{topics.root}-{topics.name}",
            on_connected=self._greet,
            on_message=self._receive,
            will=Will(topics.of("availability"), OFFLINE),
            timing=self._timing,
        )
        self._handlers: dict[str, Callable[[Message], None]] = dict.fromkeys(topics.says, self._say)
        for command in COMMANDS:
            self._handlers[topics.of(command)] = self._command
        try:
            while self._end is None:
                self.heartbeat()
                self._step()
        finally:
            if self._end is _Signal.STOP:
                self._broker.publish(topics.of("availability"), OFFLINE, qos=1, retain=True)
            self._broker.close()
            self._mailbox.close()

    def _step(self) -> None:
        throttle_seconds = self._rate.wait_seconds()
        reads = self._is_accepting and throttle_seconds == 0.0
        seconds = HEARTBEAT_SECONDS if reads else max(0.01, min(HEARTBEAT_SECONDS, throttle_seconds))
        self._broker.wait(self._mailbox, seconds if self._is_accepting else HEARTBEAT_SECONDS, reads=reads)
        is_changed = False
        for item in self._mailbox.take():
            match item:
                case _Signal.STOP_ACCEPTING:
                    self._is_accepting = False
                case _Signal():
                    self._end = item
                case _Answer():
                    self._answer(item)
                case Status():
                    is_changed = self._update_state(item) or is_changed
                case Record():
                    self._record(item)
        if is_changed:  # several changes at once are one message
            self._publish_state()

    def _greet(self) -> None:
        """Subscribe and publish after each connection."""
        topics = self._topics
        self._receipts.forget_connection()
        # Commands are not kept for a device that is away: a hush of yesterday must not stop the speech of today.
        says = [(topic, 1) for topic in topics.says]
        self._broker.subscribe([*says, *((topics.of(command), 0) for command in COMMANDS)])
        self._broker.publish(topics.of("availability"), ONLINE, qos=1, retain=True)
        self._publish_state()
        while self._records:
            self._broker.publish(topics.of("record"), self._records.popleft(), qos=1)

    # --- received messages

    def _receive(self, message: Message) -> None:
        self._rate.take()
        handler = self._handlers.get(message.topic)
        if handler is None or message.is_retained:
            if handler is not None:
                log.warning("mqtt: retained message ignored, topic=%s", escape(message.topic, 200))
            self._acknowledge([message.token] if message.token else [])
            return
        handler(message)

    def _say(self, message: Message) -> None:
        number = self._receipts.add(message.token)
        self._call(number, message, read_say(message.payload))

    def _command(self, message: Message) -> None:
        number = self._receipts.add(message.token)
        name = message.topic.removeprefix(self._topics.of(""))
        self._call(number, message, read_command(name, message.payload))

    def _call(self, number: int, message: Message, request: MqttRequest | str) -> None:
        if isinstance(request, str):
            self._reject(message.topic, request)
            self._acknowledge(self._receipts.finish(number))
            return
        line = json.dumps({"jsonrpc": "2.0", "id": number, "method": request.method, "params": request.params})
        topic = message.topic
        self._api.call(line.encode(), self._caller, lambda data: self._mailbox.put(_Answer(number, topic, data)))

    def _answer(self, answer: _Answer) -> None:
        response = json.loads(answer.response)
        error, result = response.get("error"), response.get("result", {})
        if error is not None:
            if error.get("data", {}).get("name") == "shutting_down":
                return  # not acknowledged: the broker sends the text again after the start
            self._reject(answer.topic, error["message"])
            self._acknowledge(self._receipts.finish(answer.number))
        elif "record" in result:  # the id is known: a redelivery
            record = result["record"]
            self._publish_record({key: record[key] for key in ("id", "state", "reason", "seconds")})
            self._acknowledge(self._receipts.accept(answer.number, record["id"], is_durable=True))
        elif "id" in result and answer.topic in self._topics.says:
            self._publish_record({**result, "state": "accepted"})
            tokens = self._receipts.accept(answer.number, result["id"], is_durable=result["durable"])
            self._acknowledge(tokens)
        else:
            self._acknowledge(self._receipts.finish(answer.number))

    def _reject(self, topic: str, reason: str) -> None:
        if not self._error_rate.take():
            return
        log.warning("mqtt: payload rejected, topic=%s, %s", escape(topic, 200), escape(reason, 300))
        self._broker.publish(self._topics.of("error"), _encode({"topic": topic, "error": reason}))

    def _acknowledge(self, tokens: list[int]) -> None:
        for token in tokens:
            self._broker.acknowledge(token)

    # --- sent messages

    def _update_state(self, status: Status) -> bool:
        """Note a change of the status; return whether other programs see it."""
        state = _encode(
            {
                "state": status.visible_state,
                "volume": status.volume,
                "microphone": "OFF" if "microphone" in status.muted else "ON",
                "speaker": "OFF" if "speaker" in status.muted else "ON",
                "queue": status.queue,
                "troubles": list(status.problems),
            }
        )
        is_changed, self._state = state != self._state, state
        return is_changed

    def _publish_state(self) -> None:
        if self._state is not None:
            self._broker.publish(self._topics.of("state"), self._state, qos=1, retain=True)

    def _record(self, record: Record) -> None:
        if record.utterance.source == SOURCE:
            self._publish_record(ended(record))
        self._acknowledge(self._receipts.end(record.utterance.id))

    def _publish_record(self, record: dict[str, object]) -> None:
        payload = _encode({"device": self._topics.name, **record})
        if not self._broker.publish(self._topics.of("record"), payload, qos=1):
            self._records.append(payload)


def _encode(value: dict[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
