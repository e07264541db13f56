"""``voice-agent fleet``: the state of all devices at an MQTT broker, and a text for them."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence

from agent.errors import ConfigError, ServiceError, UsageError
from agent.frontends.mqtt.broker import Broker, Message
from agent.frontends.mqtt.fleet import Fleet
from agent.frontends.mqtt.topics import ALL, FLEET, GROUP, name_problem
from agent.settings.model import Config
from agent.system.text import escape, validate_text
from agent.system.threads import Deadline, Mailbox

ANSWER_SECONDS = 10.0
"""Longest wait for the broker: the connection, and its retained messages."""
STEP_SECONDS = 1.0
COLUMNS = ("device", "online", "state", "volume", "queue", "version", "last_fault")


def status(config: Config, *, as_json: bool = False) -> int:
    """Print the state of all devices.

    Returns:
        The exit code: 0, or 69 if a device is offline.

    Raises:
        ServiceError: The broker cannot be reached.
    """
    with _Session(config) as session:
        devices = session.fleet.devices()
    if as_json:
        print(json.dumps({"devices": devices}, ensure_ascii=False))
    else:
        print(table(devices))
    return 0 if all(device["online"] for device in devices) else ServiceError.exit_code


def say(
    config: Config,
    text: str,
    *,
    group: str | None = None,
    device: str | None = None,
    options: Mapping[str, object] | None = None,
    timeout_seconds: float = 120.0,
    as_json: bool = False,
) -> int:
    """Let devices speak a text, and print how it ended on each of them.

    Args:
        config: The configuration.
        text: The text.
        group: Only the devices of this group.
        device: Only this device.
        options: Further keys of the message, such as ``priority``.
        timeout_seconds: Longest wait for the ends.
        as_json: Print JSON.

    Returns:
        The exit code: 0, or 69 if it was not played to its end on each device.

    Raises:
        ServiceError: The broker cannot be reached, or no device is there.
        UsageError: The text or a name cannot be used.
    """
    text = validate_text(text)
    for name in (group, device):
        if name is not None and (problem := name_problem(name)):
            raise UsageError(f"{escape(name, 40)}: {problem}")
    with _Session(config) as session:
        fleet, root = session.fleet, config.mqtt.topics.root
        expected = [each for each in fleet.devices() if _is_addressed(each, group, device)]
        if not expected:
            raise ServiceError("mqtt", "no device is there: voice-agent fleet status lists the devices of this broker")
        online = [str(each["device"]) for each in expected if each["online"]]
        fleet.id = f"fleet-{os.urandom(6).hex()}"
        where = device or (f"{GROUP}/{group}" if group else ALL)
        message = {"message": text, "id": fleet.id, **(options or {})}
        session.publish(f"{root}/{where}/say", json.dumps(message))
        progress = _Progress(len(online))
        deadline = Deadline(timeout_seconds)
        while not deadline.is_expired and not set(online) <= set(fleet.ended()):
            session.wait(deadline)
            progress.show(len(fleet.ended()))
        progress.end()
    rows = [_result(str(each["device"]), bool(each["online"]), fleet.records) for each in expected]
    if as_json:
        print(json.dumps({"id": fleet.id, "records": rows}, ensure_ascii=False))
    else:
        print(_lines(("device", "state", "seconds", "reason"), rows))
    return 0 if all(row["state"] == "played" for row in rows) else ServiceError.exit_code


def table(devices: Sequence[Mapping[str, object]]) -> str:
    """Return the devices as lines with columns."""
    shown = [{**device, "online": "yes" if device["online"] else "no"} for device in devices]
    count = sum(bool(device["online"]) for device in devices)
    return f"{_lines(COLUMNS, shown)}\n{count} of {len(devices)} devices are online"


def _lines(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    cells = [[name.replace("_", " ") for name in columns]]
    cells += [["" if row.get(name) is None else escape(str(row[name]), 60) for name in columns] for row in rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _is_addressed(device: Mapping[str, object], group: str | None, name: str | None) -> bool:
    groups = device.get("groups")
    if name is not None:
        return device["device"] == name
    return group is None or (isinstance(groups, list) and group in groups)


def _result(name: str, is_online: bool, records: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    if name in records:
        return {key: value for key, value in records[name].items() if key != "id"}
    if not is_online:
        return {"device": name, "state": "offline", "reason": "the broker keeps the text until the device is back"}
    return {"device": name, "state": "unknown", "reason": "no answer"}


class _Session:
    """A connection that knows the fleet when it is entered. Not thread-safe.

    Args:
        config: The configuration.
    """

    _log = logging.getLogger("agent.frontends.mqtt")

    def __init__(self, config: Config) -> None:
        if not config.mqtt.is_on:
            raise ConfigError("mqtt.url is none: set it to the address of the broker of the fleet")
        root = config.mqtt.topics.root
        self.fleet = Fleet(root)
        self._marker = f"{root}/{FLEET}/{os.urandom(6).hex()}"
        self._is_complete = False
        self._box: Mailbox[None] = Mailbox()
        self._broker = Broker(
            config.mqtt, self._marker, on_connected=self._subscribe, on_message=self._receive, session_seconds=0
        )

    def __enter__(self) -> _Session:
        self._log.setLevel(logging.CRITICAL)  # the error is raised instead
        try:
            self._wait_for(lambda: self._is_complete, "the broker does not answer")
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
        self._wait_for(lambda: self._broker.is_confirmed, "the broker did not accept the text")

    def wait(self, deadline: Deadline) -> None:
        """Wait for a message or the deadline, at most a second."""
        self._broker.wait(self._box, deadline.within(STEP_SECONDS).remaining() or 0.0)

    def _wait_for(self, is_done: Callable[[], bool], problem: str) -> None:
        deadline = Deadline(ANSWER_SECONDS)
        while not is_done():
            if (failure := self._broker.failure) is not None:
                raise ServiceError("mqtt", failure.reason)
            if deadline.is_expired:
                raise ServiceError("mqtt", f"{problem} within {ANSWER_SECONDS:g} s. Check mqtt.url")
            self.wait(deadline)

    def _subscribe(self) -> None:
        for topic in (*self.fleet.topics, self._marker):
            self._broker.subscribe_retained(topic)
        # The broker answers in order: after this message all retained ones have arrived.
        self._broker.publish(self._marker, b"", qos=1)

    def _receive(self, message: Message) -> None:
        if message.topic == self._marker:
            self._is_complete = True
        else:
            self.fleet.receive(message.topic, message.payload)
        if message.token:
            self._broker.acknowledge(message.token)


class _Progress:
    """The number of devices that have spoken, on the terminal. Not thread-safe."""

    def __init__(self, total: int) -> None:
        self._total, self._is_terminal = total, sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self._is_terminal:
            print(f"\r{done} of {self._total} devices", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
