"""A spoken timer rings in the real daemon, until it is stopped, and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.local_server import LocalServerProcess
from support.watched import Watched, configuration

from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Event,
    Heard,
    Hush,
    PlaybackStarted,
    SpeechEnded,
    SpeechStarted,
    Stop,
    StopWord,
    TimerEnded,
    TimersChanged,
    TimersRestored,
)
from agent.pipeline.responders.settings import IntentSettings
from agent.pipeline.utterance import TIMER
from agent.settings.model import Config


@pytest.fixture(scope="module")
def tone_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    with LocalServerProcess(folder, "--speech", "tone", "--recognition", "none") as server:
        yield server


def assistant(tone_server: LocalServerProcess) -> Config:
    return configuration(tone_server, "assistant", intents=IntentSettings("en"))


def say(text: str) -> tuple[Event, ...]:
    return (SpeechStarted(), SpeechEnded(), Heard(text))


def is_ring(event: Event | Record) -> bool:
    return isinstance(event, PlaybackStarted) and f"-{TIMER}-" in event.utterance


def test_timer_rings_until_a_hush(tone_server: LocalServerProcess, tmp_path: Path) -> None:
    def when(event: Event | Record) -> Event | None:
        if is_ring(event):
            return Hush("the test")
        if isinstance(event, Record) and event.utterance.source == TIMER:
            return Stop("the test")
        return None

    watched = Watched(assistant(tone_server), when, timers=tmp_path / "timers.db")
    assert watched.run(*say("set a tea timer for one second")) == 0
    (ended,) = [event for event in watched.seen if isinstance(event, TimerEnded)]
    assert ended.timer.name == "tea" and not ended.is_missed
    (ring,) = [event for event in watched.seen if isinstance(event, Record) and event.utterance.source == TIMER]
    assert ring.utterance.text == "Your timer tea is over." and ring.state == "cancelled"
    reply = [event for event in watched.seen if isinstance(event, Record) and event.utterance.turn][0]
    assert reply.state in ("played", "cancelled")
    assert watched.daemon.config.responder.intents.is_on


def test_timer_that_ended_while_the_daemon_was_off_rings_at_the_start(
    tone_server: LocalServerProcess, tmp_path: Path
) -> None:
    def until_the_reply(event: Event | Record) -> Event | None:
        return Stop("the test") if isinstance(event, Record) else None

    path = tmp_path / "timers.db"
    first = Watched(assistant(tone_server), until_the_reply, timers=path)
    assert first.run(*say("set a timer for two seconds")) == 0
    second = Watched(assistant(tone_server), lambda event: Stop("the test") if is_ring(event) else None, timers=path)
    assert second.run() == 0
    assert [len(event.timers) for event in second.seen if isinstance(event, TimersRestored)] == [1]
    assert [event.is_missed for event in second.seen if isinstance(event, TimerEnded)] == [False]


def test_timer_that_rings_at_the_end_of_the_daemon_rings_again(tone_server: LocalServerProcess, tmp_path: Path) -> None:
    def until_the_ring(event: Event | Record) -> Event | None:
        return Stop("the test") if is_ring(event) else None

    path = tmp_path / "timers.db"
    first = Watched(assistant(tone_server), until_the_ring, timers=path)
    assert first.run(*say("set a timer for one second")) == 0
    second = Watched(assistant(tone_server), until_the_ring, timers=path)
    assert second.run() == 0
    assert [is_ring(event) for event in second.seen].count(True) == 1


def test_stop_word_between_two_rings_ends_them(tone_server: LocalServerProcess) -> None:
    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Record) and event.utterance.source == TIMER:
            return StopWord("stop")
        return Stop("the test") if isinstance(event, TimersChanged) and not event.timers else None

    watched = Watched(assistant(tone_server), when)
    assert watched.run(*say("set a timer for one second")) == 0
    assert len([event for event in watched.seen if is_ring(event)]) == 1


def test_ring_goes_on_until_the_user_says_stop(tone_server: LocalServerProcess) -> None:
    rings: list[Event | Record] = []

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Record) and event.utterance.source == TIMER:
            rings.append(event)
            if len(rings) == 2:
                for each in say("stop"):
                    watched.daemon.inbox.put(each)
        if isinstance(event, Hush):
            return Stop("the test")
        return None

    watched = Watched(assistant(tone_server), when)
    assert watched.run(*say("set a timer for one second")) == 0
    assert len(rings) == 2
