"""Other ping timings for the connections of a test."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest

from agent.services import service as services
from agent.services.protocols.codec import KeepaliveTiming
from agent.services.registry import SERVICES


def set_keepalive(
    monkeypatch: pytest.MonkeyPatch, name: str, ping_seconds: float | None, pong_seconds: float = 4.5
) -> None:
    """Set the ping timing of a speech service or of ``transcription`` until the test ends."""
    timing = KeepaliveTiming(ping_seconds, pong_seconds)
    if name == "transcription":
        monkeypatch.setattr(services, "TRANSCRIPTION_KEEPALIVE", timing)
        return
    module = importlib.import_module(SERVICES[name])
    monkeypatch.setattr(module, "SERVICE", replace(module.SERVICE, keepalive=timing))
