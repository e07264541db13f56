"""Standby: hands over healthy connections, replaces lost ones, and retries with backoff."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.plain import END_MARK, Plain
from support.scripted import (
    CLOSE,
    TEXT,
    Peer,
    Recorder,
    Scripted,
    close_frame,
    frame,
    hangs_up,
    mute,
    polite,
    refuses,
    silent,
)

from agent.daemon.connection_builder import STANDBY_TIMING
from agent.errors import ConfigError, ServiceError
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import Connection, connect
from agent.services.protocols.codec import Event, Failure, Message, Text
from agent.system.threads import Backoff, Deadline

CLOSED = [(TEXT, END_MARK.encode()), (CLOSE, b"\x03\xe8")]
"""The frames of a connection that was closed without use."""

LONG_SECONDS = 300.0
"""Longer than any test."""

NEVER_HEALTHY: dict[str, Any] = {"healthy_seconds": LONG_SECONDS, "quick_drop_seconds": LONG_SECONDS}
"""However slow the machine is, each lost connection counts as a quick drop."""


class QuickBackoff(Backoff):
    """A short backoff that records the requested minimum delays."""

    def __init__(self) -> None:
        super().__init__(first_seconds=0.01, cap_seconds=0.02)
        self.minimums: list[float] = []

    def next_seconds(self, at_least_seconds: float = 0.0) -> float:
        self.minimums.append(at_least_seconds)
        return super().next_seconds(at_least_seconds)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread.name


class Refused(Plain):
    """A codec for which each message is an error of the service."""

    def receive(self, message: Message) -> list[Event]:
        return [Failure(self.service, "an error", "text")]


class Kit:
    """A standby with the errors and recoveries it reported; keyword arguments are those of ``Timing``."""

    def __init__(
        self,
        url: str,
        max_idle_seconds: float | None = None,
        eager: bool = True,
        make_codec: Callable[[str], Plain] = Plain,
        **timing: Any,
    ) -> None:
        self.downs: list[ServiceError] = []
        self.ups: list[int] = []
        self.breakers: list[str] = []
        self.backoff = QuickBackoff()

        def open(deadline: Deadline) -> Connection:
            codec = make_codec(url)
            codec.max_idle_seconds = max_idle_seconds
            return connect(codec, deadline)

        self.standby = Standby(
            "plain",
            open,
            self.downs.append,
            self.ups.append,
            eager=eager,
            backoff=self.backoff,
            timing=STANDBY_TIMING._replace(**timing),
            on_breaker=self.breakers.append,
        )

    def until(self, done: Callable[[], bool], seconds: float = 30.0) -> None:
        deadline = Deadline(seconds)
        self.standby.maintain()
        while not done():
            assert not deadline.is_expired, (self.downs, self.ups, self.standby.error)
            seconds_left = [deadline.remaining(), self.standby.next_timeout()]
            wait(None, list(self.standby.waitables()), min(s for s in seconds_left if s is not None))
            self.standby.maintain()

    @property
    def is_ready(self) -> bool:
        return len(self.standby.waitables()) == 2

    def take(self) -> Connection:
        """Wait for a connection and take it."""
        self.until(lambda: self.is_ready)
        connection = self.standby.take()
        assert connection is not None
        return connection

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.standby.close(Deadline(30))
        self.standby.close(Deadline(30))


def dial_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "dial plain"]


def test_take_returns_an_open_connection_and_the_next_is_dialed() -> None:
    with Scripted(polite) as server, Kit(server.url) as kit:
        taken = kit.take()
        taken.send(Text("hello"))
        while not (events := taken.pump()):
            assert wait(taken, [], 30)[0]
        assert events == [Text("hello")]
        kit.until(lambda: kit.is_ready)
        assert len(server.peers) == 2 and not kit.downs
        taken.finish(Deadline(30))


def test_lost_connection_in_standby_is_replaced() -> None:
    go = threading.Event()

    def closes(peer: Peer) -> None:
        peer.accept()
        go.wait(30)

    with Scripted(closes, polite) as server, Kit(server.url, healthy_seconds=0.0) as kit:
        kit.until(lambda: kit.is_ready)
        first = kit.standby.waitables()[1]
        go.set()
        kit.until(lambda: kit.is_ready and kit.standby.waitables()[1] is not first)
        assert isinstance(first, Connection) and first.is_closed and not kit.downs


def test_connection_in_standby_with_a_fatal_message_gets_its_end_mark() -> None:
    received: list[tuple[int, bytes]] = []

    def fails(peer: Peer) -> None:
        peer.accept()
        peer.send(frame(TEXT, b"an error"))
        while (got := peer.read_frame())[0] >= 0:
            received.append(got)
            if got[0] == CLOSE:
                peer.send(close_frame(1000))

    with (
        Scripted(fails, polite) as server,
        Kit(server.url, make_codec=Refused, close_seconds=30.0) as kit,
    ):
        kit.until(lambda: bool(kit.downs))
    assert received[:2] == CLOSED and "an error" in str(kit.downs[0])


def test_take_returns_none_for_a_connection_that_was_just_lost() -> None:
    closed = threading.Event()

    def closes(peer: Peer) -> None:
        peer.accept()
        closed.wait(30)
        peer.send(close_frame(1000))
        peer.read_all()

    with Scripted(closes, polite) as server, Kit(server.url, healthy_seconds=0.0) as kit:
        kit.until(lambda: kit.is_ready)
        closed.set()
        assert wait(None, list(kit.standby.waitables()), 30)[1]
        assert kit.standby.take() is None


def test_row_34_unused_connection_is_renewed_before_the_service_closes_it_and_gets_its_end_mark() -> None:
    recorder = Recorder()
    with Scripted(recorder) as server, Kit(server.url, max_idle_seconds=0.2) as kit:
        start = time.monotonic()
        kit.until(lambda: kit.is_ready)
        first, due = kit.standby.waitables()[1], kit.standby.next_timeout()
        assert due is not None and due < 0.2
        kit.until(lambda: kit.is_ready and kit.standby.waitables()[1] is not first)
        assert time.monotonic() - start > 0.1 and not kit.downs
    assert len(recorder.frames) >= 2 and all(frames == CLOSED for frames in recorder.frames)


def test_row_01_failures_and_recovery_are_reported_once() -> None:
    with Scripted(refuses("500 Oh"), refuses("500 Oh"), refuses("500 Oh"), polite) as server:
        with Kit(server.url, healthy_seconds=0.1) as kit:
            kit.until(lambda: kit.standby.error is not None)
            kit.until(lambda: kit.standby.error is None)
            (down,) = kit.downs
        assert not down.permanent and "500" in str(down)
        assert kit.ups == [3]


def test_new_connection_does_not_end_the_failure_state_before_it_is_healthy() -> None:
    with Scripted(refuses("500 Oh"), polite) as server, Kit(server.url, healthy_seconds=60.0) as kit:
        kit.until(lambda: kit.is_ready)
        assert kit.standby.error is not None and kit.backoff.tries == 1
        kit.standby.report_success()
        assert kit.standby.error is None and kit.backoff.tries == 0 and kit.ups == [1]


def test_circuit_breaker_opens_at_a_failure_tries_half_open_and_closes_at_a_result() -> None:
    with Scripted(refuses("500 Oh"), polite) as server, Kit(server.url, healthy_seconds=60.0) as kit:
        assert kit.standby.breaker == "closed"
        kit.until(lambda: kit.is_ready)
        assert kit.standby.breaker == "half-open"
        kit.take()
        assert kit.standby.breaker == "half-open"
        kit.standby.report_success()
        assert kit.standby.breaker == "closed"
        assert kit.breakers[-2:] == ["half-open", "closed"] and kit.breakers.count("closed") == 1


def test_circuit_breaker_of_a_service_that_refuses_the_key_stays_open() -> None:
    with Scripted(refuses("401 No")) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.standby.error is not None)
        assert kit.standby.breaker == "open" and kit.breakers == ["open"]
        assert kit.standby.take() is None and kit.breakers == ["open"]


def test_row_06_permanent_refusal_is_retried_after_refused_seconds() -> None:
    with Scripted(refuses("401 No")) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.standby.error is not None)
        error, pause = kit.standby.error, kit.standby.next_timeout()
        assert error is not None and error.permanent and pause is not None and pause > 30
        assert kit.backoff.minimums == [60.0]
        assert kit.standby.take() is None and len(server.peers) == 1
        assert [error.permanent for error in kit.downs] == [True]


def test_row_07_retry_after_is_the_minimum_delay() -> None:
    with Scripted(refuses("429 Slow down", "Retry-After: 30")) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.standby.error is not None)
        assert kit.backoff.minimums == [30.0]


def test_three_quick_drops_are_a_permanent_refusal() -> None:
    with (
        Scripted(hangs_up()) as server,
        Kit(server.url, **NEVER_HEALTHY) as kit,
    ):
        kit.until(lambda: kit.standby.error is not None and kit.standby.error.permanent)
        assert len(server.peers) == 3 and kit.backoff.minimums == [0.0, 0.0, 60.0]
        assert [error.permanent for error in kit.downs] == [False, True]


def test_three_quick_drops_of_taken_connections_are_a_refusal_with_the_reason_of_the_service() -> None:
    with Scripted(silent) as server, Kit(server.url, quick_drop_seconds=LONG_SECONDS) as kit:
        for _ in range(3):
            kit.take().abort()
            kit.standby.report_failure("plain: it sent 'no such voice'")
        assert kit.standby.error is not None and kit.standby.error.permanent
        assert "'no such voice'" in str(kit.standby.error)


def test_quick_drops_of_a_proven_service_that_restarts_are_no_refusal() -> None:
    scripts = (silent, *[hangs_up()] * 7, silent)
    with (
        Scripted(*scripts) as server,
        Kit(server.url, **NEVER_HEALTHY) as kit,
    ):
        kit.take().abort()
        kit.standby.report_success()
        kit.until(lambda: len(server.peers) == 9 and kit.is_ready, seconds=60.0)
        assert kit.backoff.minimums == [0.0] * 7
        assert [error.permanent for error in kit.downs] == [False]


def test_eight_quick_drops_of_a_proven_service_are_a_refusal() -> None:
    with (
        Scripted(silent, hangs_up()) as server,
        Kit(server.url, **NEVER_HEALTHY) as kit,
    ):
        kit.take().abort()
        kit.standby.report_success()
        kit.until(lambda: kit.standby.error is not None and kit.standby.error.permanent, seconds=60.0)
        assert kit.backoff.minimums == [0.0] * 7 + [60.0]


def test_unreadable_key_is_a_permanent_error() -> None:
    downs: list[ServiceError] = []

    def open(deadline: Deadline) -> Connection:
        raise ConfigError("the key file /x cannot be read")

    it = Standby("plain", open, downs.append, lambda tries: None, timing=STANDBY_TIMING)
    it.maintain()
    wait(None, list(it.waitables()), 30.0)
    it.maintain()
    assert it.error is not None and it.error.permanent and len(downs) == 1
    it.close(Deadline(1))


def test_unreadable_key_is_temporary_when_descriptors_run_out() -> None:
    def open(deadline: Deadline) -> Connection:
        raise ConfigError("the key file /x cannot be read") from OSError(errno.EMFILE, "Too many open files")

    it = Standby("plain", open, lambda error: None, lambda tries: None, timing=STANDBY_TIMING)
    it.maintain()
    wait(None, list(it.waitables()), 30.0)
    it.maintain()
    assert it.error is not None and not it.error.permanent
    it.close(Deadline(1))


def test_report_success_cancels_the_delay_before_the_next_dial() -> None:
    scripts = (polite, refuses("401 Unauthorized"), polite)
    with Scripted(*scripts) as server, Kit(server.url) as kit:
        taken = kit.take()
        kit.until(lambda: kit.standby.error is not None)
        assert (kit.standby.next_timeout() or 0.0) > 50
        kit.standby.report_success()
        kit.until(lambda: kit.is_ready)  # well before the delay of 60 s has passed
        taken.finish(Deadline(30))


def test_lazy_standby_dials_no_second_connection() -> None:
    accepted: list[int] = []

    def script(peer: Peer) -> None:
        accepted.append(peer.index)
        peer.accept()
        peer.read_frame()

    with Scripted(script) as server:
        kit = Kit(server.url, eager=False)
        taken = kit.take()
        assert kit.standby.next_timeout() is None and len(kit.standby.waitables()) == 1
        taken.abort()
        kit.standby.close(Deadline(1))
    assert accepted == [0]


def test_close_sends_the_end_mark_on_an_unused_connection() -> None:
    recorder = Recorder()
    with Scripted(recorder) as server:
        with Kit(server.url) as kit:
            kit.until(lambda: kit.is_ready)
        server.join()
    assert recorder.frames == [CLOSED]


def test_close_does_not_wait_for_a_dial_that_hangs() -> None:
    with Scripted(mute, timeout_seconds=LONG_SECONDS) as server:
        kit = Kit(server.url, dial_seconds=LONG_SECONDS)
        kit.standby.maintain()
        assert server.arrived.acquire(timeout=30)
        deadline = Deadline(60)
        kit.standby.close(deadline)
        assert not deadline.is_expired


def test_close_waits_for_a_dial_that_completes_and_sends_its_end_mark() -> None:
    frames: list[tuple[int, bytes]] = []
    late = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        late.wait(30)
        peer.accept()
        frames.extend(peer.read_frame() for _ in range(2))
        peer.send(close_frame(1000))

    with Scripted(script) as server:
        kit = Kit(server.url, give_up_seconds=30.0)
        kit.standby.maintain()
        assert server.arrived.acquire(timeout=30)
        timer = threading.Timer(0.05, late.set)
        timer.start()
        kit.standby.close(Deadline(60))
        assert not dial_threads()
        server.join()
    timer.join(30)
    assert frames == CLOSED


def test_close_waits_until_a_late_connection_is_closed_although_give_up_seconds_have_passed() -> None:
    frames: list[tuple[int, bytes]] = []
    late, closing = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        late.wait(30)
        peer.accept()
        frames.append(peer.read_frame())
        closing.set()
        peer.over.wait(0.4)
        frames.append(peer.read_frame())
        peer.send(close_frame(1000))

    with Scripted(script) as server:
        kit = Kit(server.url, give_up_seconds=0.0)
        kit.standby.maintain()
        assert server.arrived.acquire(timeout=30)
        kit.standby.begin_close(Deadline(60))
        late.set()
        assert closing.wait(30)
        kit.standby.close(Deadline(60))
        assert not dial_threads(), "no thread is left"
        server.join()
    assert frames == CLOSED


def test_row_55_flapping_service_leaves_no_threads_and_is_dialed_rarely() -> None:
    with (
        Scripted(refuses("503 Later"), hangs_up(), refuses("503 Later"), polite) as server,
        Kit(server.url, healthy_seconds=0.05) as kit,
    ):
        kit.until(lambda: len(server.peers) >= 4 and kit.standby.error is None)
        assert len(dial_threads()) <= 4 and len(server.peers) <= 6
        for thread in dial_threads():
            thread.join(30)
        assert not dial_threads()


def test_reconnect_closes_the_connection_and_dials_another() -> None:
    recorder = Recorder()
    with Scripted(recorder) as server, Kit(server.url, eager=False) as kit:
        kit.until(lambda: kit.is_ready)
        first = kit.standby.waitables()[1]
        kit.standby.reconnect()
        kit.until(lambda: kit.is_ready)
        assert kit.standby.waitables()[1] is not first and not kit.downs
        assert kit.standby.take() is not None
        kit.standby.reconnect()  # nothing to replace, so a lazy standby does not dial
        assert not kit.standby.is_dialing and len(server.peers) == 2
    assert recorder.frames[0] == CLOSED
