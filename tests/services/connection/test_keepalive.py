"""Keepalive: which deadlines a connection has, and when."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from agent.services.connection.keepalive import PING_DUE, Keepalive

NO_PONG = "the service does not answer pings"


class Suspended:
    """The seconds that the machine has been suspended."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def suspended() -> Suspended:
    return Suspended()


def make_keepalive(ping_seconds: float | None, suspended: Callable[[], float]) -> Keepalive:
    return Keepalive(ping_seconds, 45_000.0, 10_000.0, suspended)


def timeouts(keepalive: Keepalive) -> list[tuple[float, str]]:
    """Return the seconds until each deadline, rounded so that a slow machine makes no difference."""
    now = time.monotonic()
    return [(round(deadline - now, -3), reason) for deadline, reason in keepalive.deadlines(is_sending=False)]


def test_silence_makes_a_ping_due_and_a_missing_pong_means_the_connection_is_lost(suspended: Suspended) -> None:
    keepalive = make_keepalive(50_000.0, suspended)
    assert timeouts(keepalive) == [(50_000, PING_DUE)]
    keepalive.ping_sent()
    assert timeouts(keepalive) == [(45_000, NO_PONG)]
    keepalive.received(1)
    assert timeouts(keepalive) == [(50_000, PING_DUE)]


def test_ping_is_due_immediately_after_a_suspend(suspended: Suspended) -> None:
    """The peer may have given up the connection meanwhile, and the monotonic clock does not show the suspend."""
    keepalive = make_keepalive(50_000.0, suspended)
    suspended.seconds = 3_600_000.0
    assert timeouts(keepalive) == [(50_000 - 3_600_000, PING_DUE)]
    keepalive.ping_sent()
    assert timeouts(keepalive) == [(45_000, NO_PONG)], "the peer has its full time to answer"
    keepalive.received(1)
    assert timeouts(keepalive) == [(50_000, PING_DUE)]


def test_suspend_has_no_effect_without_pings(suspended: Suspended) -> None:
    keepalive = make_keepalive(None, suspended)
    suspended.seconds = 1e9
    assert timeouts(keepalive) == []
