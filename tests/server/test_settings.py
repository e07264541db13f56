"""The section ``server``: origins of web pages."""

from __future__ import annotations

import pytest

from agent.server.settings import ServerSettings


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://kiosk.example", "http://localhost:5173", "http://[::1]:80", "tauri://localhost"]
)
def test_origin_is_accepted(origin: str) -> None:
    assert list(ServerSettings(allow_origins=(origin,)).check()) == []


@pytest.mark.parametrize("origin", ["kiosk.example", "https://kiosk.example/", "https://kiosk.example/page", "", "* "])
def test_origin_with_a_path_or_without_a_scheme_is_named_with_its_key(origin: str) -> None:
    findings = list(ServerSettings(allow_origins=("*", origin)).check())
    assert [finding.key for finding in findings] == ["allow_origins[1]"]
