"""One connection kept ready: handed over while it is healthy, replaced when it is not, and never hammered for."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.plain import END_MARK, Plain
from support.scripted import CLOSE, TEXT, Peer, Scripted, close_frame, hangs_up, mute, polite, refuses, silent

from agent.errors import ConfigError
from agent.pipeline.events import Event, ServiceDown, ServiceUp
from agent.pipeline.stage import make_standby
from agent.services.connection import standby
from agent.services.connection.poll import wait
from agent.services.connection.standby import Standby
from agent.services.connection.websocket import Connection, connect
from agent.services.protocols.codec import Text
from agent.system.threads import Backoff, Deadline

LONG_SECONDS = 300.0
"""No test lasts so long."""


class Quick(Backoff):
    """A backoff without patience that remembers the floors it was asked for."""

    def __init__(self) -> None:
        super().__init__(first_seconds=0.01, cap_seconds=0.02, seed=1)
        self.floors: list[float] = []

    def next_seconds(self, at_least_seconds: float = 0.0) -> float:
        self.floors.append(at_least_seconds)
        return super().next_seconds(at_least_seconds)


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive(), thread.name


@pytest.fixture
def all_is_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a connection that was dropped was dropped at once."""
    monkeypatch.setattr(standby, "AT_ONCE_SECONDS", LONG_SECONDS)


class Kit:
    """A standby with what it reported."""

    def __init__(self, url: str, silent_seconds: float | None = None, **keys: Any) -> None:
        self.told: list[Event] = []
        self.backoff = Quick()

        def open(deadline: Deadline) -> Connection:
            codec = Plain(url)
            codec.silent_seconds = silent_seconds
            return connect(codec, deadline)

        self.standby: Standby = make_standby("plain", open, self.told.append, backoff=self.backoff, **keys)

    def until(self, done: Callable[[], bool], seconds: float = 30.0) -> None:
        deadline = Deadline(seconds)
        self.standby.maintain()
        while not done():
            assert not deadline.is_expired, (self.told, self.standby.error)
            seconds_left = [deadline.remaining(), self.standby.next_timeout()]
            wait(None, list(self.standby.waitables()), min(s for s in seconds_left if s is not None))
            self.standby.maintain()

    @property
    def ready(self) -> bool:
        return len(self.standby.waitables()) == 2

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.standby.close(Deadline(30))
        self.standby.close(Deadline(30))


def dials() -> list[threading.Thread]:
    """The threads that dial."""
    return [thread for thread in threading.enumerate() if thread.name == "dial plain"]


def test_a_connection_is_ready_before_it_is_wanted_and_the_next_follows() -> None:
    with Scripted(polite) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.ready)
        taken = kit.standby.take()
        assert taken is not None
        taken.send(Text("hello"))
        while not (events := taken.pump()):
            assert wait(taken, [], 30)[0]
        assert events == [Text("hello")]
        kit.until(lambda: kit.ready)
        assert len(server.peers) == 2 and kit.told == []
        taken.finish(Deadline(30))


def test_a_connection_that_died_in_standby_is_not_handed_over() -> None:
    go = threading.Event()

    def dies(peer: Peer) -> None:
        peer.accept()
        go.wait(30)

    with Scripted(dies, polite) as server, Kit(server.url, healthy_seconds=0.0) as kit:
        kit.until(lambda: kit.ready)
        first = kit.standby.waitables()[1]
        go.set()
        kit.until(lambda: kit.ready and kit.standby.waitables()[1] is not first)
        assert isinstance(first, Connection) and first.is_closed and kit.told == []


def test_a_death_is_seen_at_the_moment_of_taking_too() -> None:
    closed = threading.Event()

    def dies(peer: Peer) -> None:
        peer.accept()
        closed.wait(30)
        peer.send(close_frame(1000))
        peer.read_all()

    with Scripted(dies, polite) as server, Kit(server.url, healthy_seconds=0.0) as kit:
        kit.until(lambda: kit.ready)
        closed.set()
        assert wait(None, list(kit.standby.waitables()), 30)[1]
        assert kit.standby.take() is None


def test_row_34_an_unused_connection_is_renewed_before_the_service_drops_it_and_gets_its_end_mark() -> None:
    seen: list[list[tuple[int, bytes]]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        frames: list[tuple[int, bytes]] = []
        seen.append(frames)
        while (found := peer.read_frame())[0] >= 0:
            frames.append(found)
            if found[0] == CLOSE:
                peer.send(close_frame(1000))
                break

    with Scripted(script) as server, Kit(server.url, silent_seconds=0.2) as kit:
        began = time.monotonic()
        kit.until(lambda: kit.ready)
        first, due = kit.standby.waitables()[1], kit.standby.next_timeout()
        assert due is not None and due < 0.2
        kit.until(lambda: kit.ready and kit.standby.waitables()[1] is not first)
        assert time.monotonic() - began > 0.1 and kit.told == []
    assert len(seen) >= 2 and all([(TEXT, END_MARK.encode()), (CLOSE, b"\x03\xe8")] == frames for frames in seen)


def test_row_01_trouble_is_told_once_however_many_tries_and_so_is_its_end() -> None:
    with Scripted(refuses("500 Oh"), refuses("500 Oh"), refuses("500 Oh"), polite) as server:
        with Kit(server.url, healthy_seconds=0.1) as kit:
            kit.until(lambda: kit.standby.error is not None)
            kit.until(lambda: kit.standby.error is None)
            down, up = kit.told
        assert isinstance(down, ServiceDown) and not down.permanent and "500" in down.reason
        assert up == ServiceUp("plain", 3)


def test_a_connection_that_merely_began_does_not_end_the_trouble() -> None:
    with Scripted(refuses("500 Oh"), polite) as server, Kit(server.url, healthy_seconds=60.0) as kit:
        kit.until(lambda: kit.ready)
        assert kit.standby.error is not None and kit.backoff.tries == 1
        kit.standby.report_success()
        assert kit.standby.error is None and kit.backoff.tries == 0 and kit.told[1:] == [ServiceUp("plain", 1)]


def test_row_06_a_permanent_refusal_is_not_hammered() -> None:
    with Scripted(refuses("401 No")) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.standby.error is not None)
        error, pause = kit.standby.error, kit.standby.next_timeout()
        assert error is not None and error.permanent and pause is not None and pause > 30
        assert kit.backoff.floors == [60.0]
        assert kit.standby.take() is None and len(server.peers) == 1
        assert [event.permanent for event in kit.told if isinstance(event, ServiceDown)] == [True]


def test_row_07_retry_after_is_the_least_that_is_waited() -> None:
    with Scripted(refuses("429 Slow down", "Retry-After: 30")) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.standby.error is not None)
        assert kit.backoff.floors == [30.0]


@pytest.mark.usefixtures("all_is_at_once")
def test_accepted_and_dropped_at_once_is_a_refusal_after_three() -> None:
    with Scripted(hangs_up()) as server, Kit(server.url, healthy_seconds=LONG_SECONDS) as kit:
        kit.until(lambda: kit.standby.error is not None and kit.standby.error.permanent)
        assert len(server.peers) == 3 and kit.backoff.floors == [0.0, 0.0, 60.0]
        assert [type(event) for event in kit.told] == [ServiceDown, ServiceDown], "the second one says: for good"


@pytest.mark.usefixtures("all_is_at_once")
def test_it_is_a_refusal_also_where_the_connections_were_taken_first() -> None:
    """And what the service said of it is told: that it refused a voice was lost behind the advice to check the key."""
    with Scripted(silent) as server, Kit(server.url) as kit:
        for _ in range(3):
            kit.until(lambda: kit.ready)
            taken = kit.standby.take()
            assert taken is not None
            taken.abort()
            kit.standby.report_failure("plain: it sent 'no such voice'")
        assert kit.standby.error is not None and kit.standby.error.permanent
        assert "'no such voice'" in str(kit.standby.error)


@pytest.mark.usefixtures("all_is_at_once")
def test_a_service_that_worked_before_is_not_taken_for_one_that_refuses_the_key_while_it_restarts() -> None:
    """Three connections that a restarting service dropped, within a second, were a minute without a voice."""
    scripts = (silent, *[hangs_up()] * 7, silent)
    with Scripted(*scripts) as server, Kit(server.url, healthy_seconds=LONG_SECONDS) as kit:
        kit.until(lambda: kit.ready)
        taken = kit.standby.take()
        assert taken is not None
        taken.abort()
        kit.standby.report_success()
        kit.until(lambda: len(server.peers) == 9 and kit.ready, seconds=60.0)
        assert kit.backoff.floors == [0.0] * 7
        assert [event.permanent for event in kit.told if isinstance(event, ServiceDown)] == [False]


@pytest.mark.usefixtures("all_is_at_once")
def test_a_service_that_worked_before_and_drops_everything_for_long_refuses() -> None:
    with Scripted(silent, hangs_up()) as server, Kit(server.url, healthy_seconds=LONG_SECONDS) as kit:
        kit.until(lambda: kit.ready)
        taken = kit.standby.take()
        assert taken is not None
        taken.abort()
        kit.standby.report_success()
        kit.until(lambda: kit.standby.error is not None and kit.standby.error.permanent, seconds=60.0)
        assert kit.backoff.floors == [0.0] * 7 + [60.0]


def test_a_key_that_cannot_be_read_is_permanent_and_ends_nothing() -> None:
    told: list[Event] = []

    def open(deadline: Deadline) -> Connection:
        raise ConfigError("the key file /x cannot be read")

    it: Standby = make_standby("plain", open, told.append)
    it.maintain()
    wait(None, list(it.waitables()), 30.0)
    it.maintain()
    assert it.error is not None and it.error.permanent and len(told) == 1
    it.close(Deadline(1))


def test_a_key_that_cannot_be_read_for_want_of_descriptors_is_read_again() -> None:
    def open(deadline: Deadline) -> Connection:
        raise ConfigError("the key file /x cannot be read") from OSError(errno.EMFILE, "Too many open files")

    it: Standby = make_standby("plain", open, lambda event: None)
    it.maintain()
    wait(None, list(it.waitables()), 30.0)
    it.maintain()
    assert it.error is not None and not it.error.permanent
    it.close(Deadline(1))


def test_after_health_the_next_dial_is_not_kept_waiting_for_a_trouble_of_before() -> None:
    """Story: the dial of the next connection was refused for a minute while the one before still did its work; that one
    ended the trouble, and still nobody dialled until the minute was over."""
    scripts = (polite, refuses("401 Unauthorized"), polite)
    with Scripted(*scripts) as server, Kit(server.url) as kit:
        kit.until(lambda: kit.ready)
        taken = kit.standby.take()
        assert taken is not None
        kit.until(lambda: kit.standby.error is not None)
        assert (kit.standby.next_timeout() or 0.0) > 50
        kit.standby.report_success()
        kit.until(lambda: kit.ready)  # well before that minute is over
        taken.finish(Deadline(30))


def test_who_needs_just_one_has_no_second_dialled() -> None:
    came: list[int] = []

    def script(peer: Peer) -> None:
        came.append(peer.index)
        peer.accept()
        peer.read_frame()

    with Scripted(script) as server:
        kit = Kit(server.url, eager=False)
        kit.until(lambda: kit.ready)
        taken = kit.standby.take()
        assert taken is not None
        assert kit.standby.next_timeout() is None and len(kit.standby.waitables()) == 1
        taken.abort()
        kit.standby.close(Deadline(1))
    assert came == [0]


def test_closing_says_goodbye_to_a_connection_that_nobody_used() -> None:
    frames: list[tuple[int, bytes]] = []

    def script(peer: Peer) -> None:
        peer.accept()
        frames.append(peer.read_frame())
        frames.append(peer.read_frame())
        peer.send(close_frame(1000))

    with Scripted(script) as server:
        with Kit(server.url) as kit:
            kit.until(lambda: kit.ready)
        server.join()
    assert frames == [(TEXT, END_MARK.encode()), (CLOSE, b"\x03\xe8")]


def test_closing_does_not_wait_for_a_dial_that_hangs() -> None:
    with Scripted(mute, patience_seconds=LONG_SECONDS) as server:
        kit = Kit(server.url, dial_seconds=LONG_SECONDS)
        kit.standby.maintain()
        assert server.arrived.acquire(timeout=30)
        patience = Deadline(60)
        kit.standby.close(patience)
        assert not patience.is_expired


def test_a_dial_that_is_nearly_done_is_waited_for_and_gets_its_end_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standby, "GIVE_UP_SECONDS", 30.0)  # the fifth of a second may be over before anybody looks
    frames: list[tuple[int, bytes]] = []
    late = threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        late.wait(30)
        peer.accept()
        frames.extend(peer.read_frame() for _ in range(2))
        peer.send(close_frame(1000))

    with Scripted(script) as server:
        kit = Kit(server.url)
        kit.standby.maintain()
        assert server.arrived.acquire(timeout=30)
        timer = threading.Timer(0.05, late.set)
        timer.start()
        kit.standby.close(Deadline(60))
        assert not dials()
        server.join()
    timer.join(30)
    assert frames == [(TEXT, END_MARK.encode()), (CLOSE, b"\x03\xe8")]


def test_a_connection_that_came_too_late_gets_its_end_mark_before_closing_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Story: the daemon ended while a connection was being dialled; the process left before its goodbye was said."""
    monkeypatch.setattr(standby, "GIVE_UP_SECONDS", 0.0)  # the goodbye takes longer than a dial under way is waited for
    frames: list[tuple[int, bytes]] = []
    late, parting = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        peer.read_request()
        late.wait(30)
        peer.accept()
        frames.append(peer.read_frame())
        parting.set()
        peer.over.wait(0.4)
        frames.append(peer.read_frame())
        peer.send(close_frame(1000))

    with Scripted(script) as server:
        kit = Kit(server.url)
        kit.standby.maintain()
        assert server.arrived.acquire(timeout=30)
        kit.standby.begin_close(Deadline(60))
        late.set()
        assert parting.wait(30)
        kit.standby.close(Deadline(60))
        assert not dials(), "the process may end now, and no thread of a dial holds it up"
        server.join()
    assert frames == [(TEXT, END_MARK.encode()), (CLOSE, b"\x03\xe8")]


def test_row_55_a_flapping_service_costs_no_threads_and_few_connects() -> None:
    with (
        Scripted(refuses("503 Later"), hangs_up(), refuses("503 Later"), polite) as server,
        Kit(server.url, healthy_seconds=0.05) as kit,
    ):
        kit.until(lambda: len(server.peers) >= 4 and kit.standby.error is None)
        assert len(dials()) <= 4 and len(server.peers) <= 6
        for thread in dials():
            thread.join(30)
        assert not dials()


def test_one_that_is_not_trusted_any_more_gets_its_end_mark_and_another_is_dialled() -> None:
    said: list[list[tuple[int, bytes]]] = []

    def script(peer: Peer) -> None:
        mine: list[tuple[int, bytes]] = []
        said.append(mine)
        peer.accept()
        while (found := peer.read_frame())[0] >= 0:
            mine.append(found)
            if found[0] == CLOSE:
                peer.send(close_frame(1000))
                break

    with Scripted(script) as server, Kit(server.url, eager=False) as kit:
        kit.until(lambda: kit.ready)
        first = kit.standby.waitables()[1]
        kit.standby.reconnect()
        kit.until(lambda: kit.ready)
        assert kit.standby.waitables()[1] is not first and kit.told == []
        assert kit.standby.take() is not None
        kit.standby.reconnect()  # who needs just one has it: none is dialled for nobody
        assert not kit.standby.is_dialing and len(server.peers) == 2
    assert said[0] == [(TEXT, END_MARK.encode()), (CLOSE, b"\x03\xe8")]
