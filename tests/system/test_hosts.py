"""Hosts: private names and addresses, and unusable URLs."""

from __future__ import annotations

import pytest

from agent.system.hosts import find_url_problem, is_private_host, unencrypted_public_url


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.9.9.9",
        "localhost",
        "LOCALHOST.",
        "::1",
        "[::1]",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.1.1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:192.168.1.1",
        "raspberrypi",
        "pi.local",
        "stt.home.arpa",
        "box.lan",
    ],
)
def test_host_of_a_local_network_is_private(host: str) -> None:
    assert is_private_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "example.com",
        "8.8.8.8",
        "172.32.0.1",
        "192.169.0.1",
        "100.64.0.1",
        "2001:db8::1",
        "::ffff:8.8.8.8",
        "0.0.0.0",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "2130706433",
        "134744072",
        "0x08080808",
        "0x7f.1",
        "pi.local.org",
    ],
)
def test_host_of_the_internet_is_public(host: str) -> None:
    assert not is_private_host(host)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "stt",
        "http://h/",
        "ws:/h",
        "ws://",
        "ws://:80",
        "ws://h:0/",
        "ws://h:99999/",
        "ws://h:x/",
        "ws://[::1/",
        "ws://a b/",
        "ws://h/\r\nX: y",
        "ws://h\\@evil/",
        "ws://u@h/",
        "ws://u:p@h/",
        "ws://h/?api_key=x",
        "ws://h/?a=b&TOKEN=",
        "ws://h/#x",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "ws://h\u202e/",
    ],
)
def test_unusable_url_has_a_printable_problem(url: str) -> None:
    problem = find_url_problem(url, ("wss", "ws"))
    assert problem is not None and problem.isprintable()


@pytest.mark.parametrize(
    "url", ["ws://h", "ws://h:1/", "wss://h/a?b=c", "WSS://H/", "ws://[::1]:8394/", "ws://127.0.0.1/"]
)
def test_usable_url_has_no_problem(url: str) -> None:
    assert find_url_problem(url, ("wss", "ws")) is None


def test_only_public_hosts_without_encryption_are_returned() -> None:
    assert unencrypted_public_url("ws://example.com/") is not None
    assert unencrypted_public_url("http://8.8.8.8/") is not None
    assert unencrypted_public_url("wss://example.com/") is None
    assert unencrypted_public_url("ws://192.168.1.5:8394/") is None
