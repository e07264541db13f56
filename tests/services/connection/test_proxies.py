"""A proxy in the environment is named where a host cannot be reached, and never used."""

from __future__ import annotations

import pytest
from support.scripted import Scripted, polite

from agent.errors import ServiceError
from agent.services.connection import resolve
from agent.services.connection.dial import dial
from agent.services.connection.proxies import proxy_hint
from agent.services.protocols.codec import Handshake
from agent.system.threads import Deadline

VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def no_proxy_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", VARIABLES)
def test_proxy_hint_names_the_variable_without_its_value(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert proxy_hint("api.example.com") == ""
    monkeypatch.setenv(name, "http://user:s3cret@proxy:3128")
    hint = proxy_hint("api.example.com")
    assert name in hint and "api.example.com" in hint and "s3cret" not in hint


@pytest.mark.parametrize("host", ["192.168.1.7", "127.0.0.1", "nas.local", "server"])
def test_proxy_hint_is_empty_for_a_private_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert proxy_hint(host) == ""


@pytest.mark.parametrize("exceptions", ["*", "example.com", ".example.com", "*.example.com", "a.b, api.example.com"])
def test_proxy_hint_is_empty_for_an_exception(monkeypatch: pytest.MonkeyPatch, exceptions: str) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", exceptions)
    assert proxy_hint("api.example.com") == ""
    assert bool(proxy_hint("api.example.org")) is (exceptions != "*")


def test_a_failed_lookup_names_the_ignored_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(polite) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setattr(resolve, "look_up", lambda host, port: [])
        with pytest.raises(ServiceError) as raised:
            dial(Handshake("wss://api.example.com/"), "plain", Deadline(0.2))
        assert "https_proxy is set" in str(raised.value) and proxy.peers == []
