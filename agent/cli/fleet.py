"""``voice-agent fleet``: show the state of all devices at an MQTT broker, or let devices speak a text."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence

from agent.cli.broker_session import BrokerSession
from agent.errors import ConfigError, ServiceError, UsageError
from agent.frontends.mqtt.fleet import Fleet
from agent.frontends.mqtt.requests import MAX_PAYLOAD_BYTES
from agent.frontends.mqtt.topics import ALL, FLEET, GROUP, name_problem
from agent.settings.model import Config
from agent.system.text import escape, validate_text
from agent.system.threads import Deadline

COLUMNS = ("device", "online", "state", "volume", "queue", "version", "last_fault")


def status(config: Config, *, as_json: bool = False) -> int:
    """Print the state of all devices.

    Returns:
        The exit code: 0, or 69 if a device is offline.

    Raises:
        ServiceError: The broker cannot be reached.
    """
    fleet = Fleet(_root(config))
    with _session(config, fleet):
        devices = fleet.devices()
    if as_json:
        print(json.dumps({"devices": devices}))
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
    """Let devices speak a text, and print how the text ended on each device.

    Args:
        config: The configuration.
        text: The text.
        group: Address only the devices of this group.
        device: Address only this device.
        options: Further keys of the message, such as ``priority``.
        timeout_seconds: Longest wait until the text has ended on all addressed devices that are online.
        as_json: Print one JSON object instead of a table.

    Returns:
        The exit code: 0, or 69 if an addressed device did not play the text to its end.

    Raises:
        ServiceError: The broker cannot be reached, or it knows no addressed device.
        UsageError: The text or a name is invalid, or the text is too long.
    """
    text = validate_text(text)
    for name in (group, device):
        if name is not None and (problem := name_problem(name)):
            raise UsageError(f"{escape(name, 40)}: {problem}")
    root = _root(config)
    fleet = Fleet(root)
    fleet.id = f"fleet-{os.urandom(6).hex()}"
    message = json.dumps({"message": text, "id": fleet.id, **(options or {})}, ensure_ascii=False)
    if (size := len(message.encode())) > MAX_PAYLOAD_BYTES:
        raise UsageError(
            f"the message has {size} bytes, at most {MAX_PAYLOAD_BYTES} are accepted: say the text in parts"
        )
    with _session(config, fleet) as session:
        expected = [each for each in fleet.devices() if _is_addressed(each, group, device)]
        if not expected:
            raise ServiceError("mqtt", "no device is there: voice-agent fleet status lists the devices of this broker")
        online = [str(each["device"]) for each in expected if each["online"]]
        where = device or (f"{GROUP}/{group}" if group else ALL)
        session.publish(f"{root}/{where}/say", message)
        progress = _Progress(len(online))
        deadline = Deadline(timeout_seconds)
        while not deadline.is_expired and not set(online) <= set(fleet.ended()):
            session.wait(deadline)
            progress.show(len(fleet.ended()))
        progress.end()
    rows = [_result(str(each["device"]), bool(each["online"]), fleet.records) for each in expected]
    if as_json:
        print(json.dumps({"id": fleet.id, "records": rows}))
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


def _root(config: Config) -> str:
    if not config.mqtt.is_on:
        raise ConfigError("mqtt.url is none: set it to the address of the broker of the fleet")
    return config.mqtt.topics.root


def _session(config: Config, fleet: Fleet) -> BrokerSession:
    """Return a session that passes all retained messages to ``fleet`` before its ``with`` block begins."""
    return BrokerSession(config.mqtt, fleet.topics, f"{config.mqtt.topics.root}/{FLEET}", fleet.receive)


class _Progress:
    """Shows on a terminal on how many devices the text has ended. Not thread-safe; owned by the main thread."""

    def __init__(self, total: int) -> None:
        self._total, self._is_terminal = total, sys.stderr.isatty()

    def show(self, done: int) -> None:
        if self._is_terminal:
            print(f"\r{done} of {self._total} devices", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
