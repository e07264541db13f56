"""A spoken timer rings in the real daemon, until it is stopped, and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.conversation_api import ConversationApi
from support.local_server import LocalServerProcess
from support.watched import Watched, configuration

from agent.config.secrets import Secret
from agent.daemon.timer_bell import TimerBell, is_clock_set
from agent.pipeline.actions import Record
from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import (
    Announce,
    Cancel,
    Event,
    Heard,
    Hush,
    PlaybackStarted,
    Reload,
    Reply,
    SpeechEnded,
    SpeechStarted,
    Stop,
    StopWord,
    TimersChanged,
    TimersRestored,
    UtteranceFailed,
    UtterancePlayed,
)
from agent.pipeline.responders.settings import HomeAssistantSettings, IntentSettings
from agent.pipeline.timers import Clock
from agent.pipeline.utterance import TIMER, Urgency, Utterance
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


def changes(watched: Watched) -> list[tuple[str, str]]:
    events = [event for event in watched.seen if isinstance(event, TimersChanged)]
    return [(timer.name, change.value) for event in events for timer, change in event.changes]


def test_timer_rings_until_a_hush(tone_server: LocalServerProcess, tmp_path: Path) -> None:
    def when(event: Event | Record) -> Event | None:
        if is_ring(event):
            return Hush("the test")
        if isinstance(event, Record) and event.utterance.source == TIMER:
            return Stop("the test")
        return None

    watched = Watched(assistant(tone_server), when, timers=tmp_path / "timers.db")
    assert watched.run(*say("set a tea timer for one second")) == 0
    assert changes(watched) == [("tea", "started"), ("tea", "ringing"), ("tea", "ended")]
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
    assert changes(second)[0] == ("", "ringing")


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


def test_timers_go_on_while_requests_are_turned_on_off_and_to_another_language(
    tone_server: LocalServerProcess, tmp_path: Path
) -> None:
    off = configuration(tone_server, "assistant")
    configs = [assistant(tone_server), configuration(tone_server, "assistant", intents=IntentSettings("de")), off]
    questions = ["set a tea timer for one hour", "wie spät ist es", "what timers do I have"]
    replies: list[str] = []

    def ask() -> None:
        for event in (Reload(), *say(questions[len(replies)])):
            watched.daemon.inbox.put(event)

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Reply):
            replies.append(event.text)
        elif isinstance(event, Record) and event.utterance.turn and len(replies) < len(questions):
            ask()
        elif isinstance(event, Record) and event.utterance.turn and watched.daemon.device_control is not None:
            watched.daemon.device_control.timers.extend(1, -3600.0)
        return Stop("the test") if is_ring(event) else None

    watched = Watched(off, when, timers=tmp_path / "timers.db", reread=lambda: configs[len(replies)])
    assert watched.daemon.device_control is None
    ask()
    assert watched.run() == 0
    assert replies[0] == "tea: 1 hour, starting now." and replies[1].startswith("Es ist ")
    assert replies[2] == off.responder.fallback
    assert not watched.daemon.config.responder.intents.is_on
    again = Watched(off, lambda event: Stop("the test") if is_ring(event) else None, timers=tmp_path / "timers.db")
    assert again.run() == 0


def ringing_bell(events: list[Event], *names: str, ring_seconds: float = 60.0) -> TimerBell:
    """Return a bell whose timers have ended."""
    seconds = [0.0]
    bell = TimerBell(None, events.append, lambda: 50, clock=Clock(lambda: seconds[0]), ring_seconds=ring_seconds)
    for name in names:
        bell.control.timers.start(1.0, name)
    seconds[0] = 1.0
    return bell


def ids(announced: list[Event]) -> list[str]:
    return [event.utterance.id for event in announced if isinstance(event, Announce)]


def test_ring_that_is_never_heard_ends_at_its_limit() -> None:
    events: list[Event] = []
    bell = ringing_bell(events, "tea", ring_seconds=0.0)
    (ring,) = ids(bell.due())
    bell.update(UtteranceFailed(ring, "no speaker for 30 s"))
    assert bell.due() == [] and bell.control.timers.all == ()
    ends = [change.value for event in events if isinstance(event, TimersChanged) for _, change in event.changes]
    assert ends == ["started", "ringing", "ended"]


def test_sentence_of_a_cancelled_timer_is_cancelled() -> None:
    bell = ringing_bell([], "tea", "pasta")
    rings = ids(bell.due())
    timers = {timer.name: timer.number for timer in bell.control.timers.all}
    for name, ring in zip(("tea", "pasta"), rings, strict=True):
        bell.control.timers.cancel((timers[name],))
        assert bell.due() == [Cancel(ring, "the end of the timer")]
    assert bell.due() == []


def test_timer_that_is_cancelled_during_an_important_announcement_is_not_spoken(
    tone_server: LocalServerProcess,
) -> None:
    def when(event: Event | Record) -> Event | None:
        match event:
            case PlaybackStarted("a"):
                for name in ("tea", "pasta"):
                    control().timers.start(1.0, name)
            case Announce(utterance) if utterance.source == TIMER:  # it waits behind the announcement
                waiting.append(utterance.id)
                if len(waiting) == 2:
                    control().timers.cancel(tuple(timer.number for timer in control().timers.all))
            case Record(Utterance("a")):
                return Stop("the test")
            case Record() if len(watched.records) == 2:
                return Cancel("a", "the test")
        return None

    def control() -> DeviceControl:
        assert watched.daemon.device_control is not None
        return watched.daemon.device_control

    waiting: list[str] = []
    watched = Watched(assistant(tone_server), when)
    text = " ".join(["word"] * 150)  # half a minute
    assert watched.run(Announce(Utterance("a", text, urgency=Urgency.IMPORTANT))) == 0
    assert watched.records[:2] == [(ring, "cancelled") for ring in waiting]
    assert not any(is_ring(event) for event in watched.seen)


def test_limit_of_a_ring_counts_from_the_moment_when_it_is_heard() -> None:
    bell = ringing_bell([], "tea", ring_seconds=0.0)
    (ring,) = ids(bell.due())
    assert bell.due() == [] and len(bell.control.timers.all) == 1  # its sentence waits behind another text
    bell.update(PlaybackStarted(ring))
    assert bell.due() == [] and len(bell.control.timers.all) == 1  # it is spoken to its end
    bell.update(UtterancePlayed(ring, 2.0))
    assert bell.due() == [] and bell.control.timers.all == ()


@pytest.mark.parametrize(
    ("paths", "is_set"),
    [
        ([], True),
        (["run/systemd/timesync"], False),
        (["run/systemd/timesync/synchronized"], True),
        (["run/systemd/timesync", "sys/class/rtc/rtc0"], True),
    ],
)
def test_clock_is_set_by_hardware_or_by_a_time_service(tmp_path: Path, paths: list[str], is_set: bool) -> None:
    for path in paths:
        (tmp_path / path).mkdir(parents=True)
    assert is_clock_set(tmp_path) is is_set


def test_reload_lets_home_assistant_answer(tone_server: LocalServerProcess) -> None:
    without = assistant(tone_server)
    replies: list[str] = []

    def when(event: Event | Record) -> Event | None:
        if isinstance(event, Reply):
            replies.append(event.text)
        if isinstance(event, Record) and event.utterance.turn:
            if len(replies) == 2:
                return Stop("the test")
            for each in (Reload(), *say("turn on the desk lamp")):
                watched.daemon.inbox.put(each)
        return None

    with ConversationApi("token") as api:
        home = HomeAssistantSettings(api.url, Secret(value="token"))
        config = configuration(tone_server, "assistant", intents=IntentSettings("en", home))
        watched = Watched(without, when, reread=lambda: config)
        assert watched.run(*say("turn on the desk lamp")) == 0
    assert replies == [without.responder.fallback, "Turned on the light"]


def test_change_of_the_time_of_day_corrects_the_ends() -> None:
    events: list[Event] = []
    now = [1000.0]
    bell = TimerBell(None, events.append, lambda: 50, clock=Clock(lambda: 0.0, lambda: now[0]))
    bell.control.timers.start(60.0)
    bell.due()
    assert len(events) == 1
    now[0] += 86400.0
    bell.due()
    bell.due()
    (_, changed) = events
    assert isinstance(changed, TimersChanged) and changed.changes == ()
    assert changed.timers[0].ends_at == 1060.0 + 86400.0
