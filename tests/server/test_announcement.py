"""The announcement over zeroconf, found by a browser of the library on the loopback interface."""

from __future__ import annotations

import logging
import queue
import uuid
from logging.handlers import QueueHandler

import pytest
from ifaddr import IP, Adapter
from zeroconf import InterfaceChoice, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from agent.server.announcement import TYPE, Announcement, announce

SECONDS = 30.0


def test_the_port_is_found_until_it_is_withdrawn() -> None:
    name = f"device-{uuid.uuid4().hex[:8]}"
    changes: queue.Queue[ServiceStateChange] = queue.Queue()

    def note(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name == full_name and state_change is not ServiceStateChange.Updated:
            changes.put(state_change)

    full_name = f"{name}.{TYPE}"
    with Zeroconf(interfaces=["127.0.0.1"]) as zeroconf:
        ServiceBrowser(zeroconf, TYPE, handlers=[note])
        announcement = Announcement("127.0.0.1", 12345, name)
        assert changes.get(timeout=SECONDS) is ServiceStateChange.Added
        info = zeroconf.get_service_info(TYPE, full_name)
        assert info is not None and (info.port, info.parsed_addresses()) == (12345, ["127.0.0.1"])
        announcement.withdraw()
        assert changes.get(timeout=SECONDS) is ServiceStateChange.Removed
        announcement.withdraw()


def test_a_name_that_zeroconf_refuses_is_a_warning() -> None:
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = QueueHandler(records)
    logger = logging.getLogger("agent.server.announcement")
    logger.addHandler(handler)
    try:
        announcement = Announcement("127.0.0.1", 12345, "x" * 64)  # Linux allows it as a host name
        record = records.get(timeout=SECONDS)
        announcement.withdraw()
    finally:
        logger.removeHandler(handler)
    assert record.levelno == logging.WARNING and "not announced" in record.getMessage()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_a_listener_that_only_this_machine_reaches_is_not_announced(host: str) -> None:
    assert announce(host, 1) is None


@pytest.mark.parametrize(("host", "expected"), [("0.0.0.0", ["192.0.2.2"]), ("::", ["2001:db8::2", "fe80::2"])])
def test_a_listener_on_all_interfaces_announces_the_addresses_it_accepts(
    host: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ips = [IP("127.0.0.1", 8, "lo"), IP(("::1", 0, 0), 128, "lo")]
    ips += [IP("192.0.2.2", 24, "eth0"), IP(("2001:db8::2", 0, 0), 64, "eth0"), IP(("fe80::2", 0, 2), 64, "eth0")]
    announced: queue.SimpleQueue[ServiceInfo] = queue.SimpleQueue()

    class FakeZeroconf:
        def __init__(self, interfaces: object) -> None:
            assert interfaces is InterfaceChoice.All

        def register_service(self, info: ServiceInfo, *, allow_name_change: bool) -> None:
            announced.put(info)

        def close(self) -> None:
            """The fake has nothing to release."""

    monkeypatch.setattr("ifaddr.get_adapters", lambda: [Adapter("eth0", "eth0", ips)])
    monkeypatch.setattr("zeroconf.Zeroconf", FakeZeroconf)
    announcement = Announcement(host, 12345, "device")
    info = announced.get(timeout=SECONDS)
    announcement.withdraw()
    assert info.parsed_addresses() == expected
