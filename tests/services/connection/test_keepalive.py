"""The clocks of a connection: what is due, and when."""

from __future__ import annotations

import time

import pytest

from agent.services.connection import keepalive as vigil
from agent.services.connection.keepalive import PING_DUE, Keepalive


def due(watch: Keepalive) -> list[tuple[float, str]]:
    """In how many seconds, rounded to so many that a slow machine makes no difference."""
    now = time.monotonic()
    return [(round(moment - now, -3), reason) for moment, reason in watch.moments(sending=False)]


def test_silence_asks_for_a_sign_of_life_and_its_want_is_the_end() -> None:
    watch = Keepalive(50_000.0, 45_000.0, 10_000.0)
    assert due(watch) == [(50_000, PING_DUE)]
    watch.pinged()
    assert due(watch) == [(45_000, "the service gives no sign of life")]
    watch.received(1)
    assert due(watch) == [(50_000, PING_DUE)]


def test_after_a_sleep_a_sign_of_life_is_asked_for_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The monotonic clock does not see that the machine slept: a connection that the other side had long given up was
    trusted for as long as if nothing had been."""
    watch = Keepalive(50_000.0, 45_000.0, 10_000.0)
    slept = vigil._slept_seconds()
    monkeypatch.setattr(vigil, "_slept_seconds", lambda: slept + 3_600_000.0)
    assert due(watch) == [(50_000 - 3_600_000, PING_DUE)]
    watch.pinged()
    assert due(watch) == [(45_000, "the service gives no sign of life")], "it has its time to answer"
    watch.received(1)
    assert due(watch) == [(50_000, PING_DUE)]


def test_where_nobody_is_asked_a_sleep_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Keepalive(None, 45_000.0, 10_000.0)
    monkeypatch.setattr(vigil, "_slept_seconds", lambda: 1e9)
    assert due(watch) == []
