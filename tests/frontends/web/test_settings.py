"""The section ``web``."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.frontends.web.settings import ListenAddress, WebSettings, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8395", ListenAddress("127.0.0.1", 8395)),
        ("localhost:80", ListenAddress("localhost", 80)),
        ("[::1]:8395", ListenAddress("::1", 8395)),
        ("0.0.0.0:8395", ListenAddress("0.0.0.0", 8395)),
        ("none", None),
        ("", None),
        ("8395", None),
        (":8395", None),
        ("127.0.0.1", None),
        ("127.0.0.1:0", None),
        ("127.0.0.1:65536", None),
        ("127.1:8395", None),
        ("::1:8395", None),
        ("kiosk.example:8395", None),
    ],
)
def test_address_is_an_ip_address_and_a_port(text: str, address: ListenAddress | None) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(("text", "is_loopback"), [("127.9.9.9:1", True), ("[::1]:1", True), ("[::]:1", False)])
def test_loopback_is_known(text: str, is_loopback: bool) -> None:
    address = parse_address(text)
    assert address is not None
    assert address.is_loopback is is_loopback


def test_each_error_is_found(tmp_path: Path) -> None:
    settings = WebSettings(
        listen="eth0",
        origins=("https://kiosk.example", "kiosk.example", "*", "https://kiosk.example/"),
        directory=str(tmp_path / "missing"),
        certificate=str(tmp_path / "missing.pem"),
    )
    keys = [finding.key for finding in settings.check()]
    assert keys == ["listen", "origins[1]", "origins[2]", "origins[3]", "directory", "certificate", "key"]
    assert list(WebSettings(listen="127.0.0.1:8395").check()) == []


def test_network_without_encryption_is_a_warning(tmp_path: Path) -> None:
    assert [finding.key for finding in WebSettings(listen="0.0.0.0:8395").warnings()] == ["listen"]
    assert not [*WebSettings(listen="0.0.0.0:8395", certificate="c", key="k").warnings()]
    assert not [*WebSettings(listen="127.0.0.1:8395").warnings()]
