from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gpiozero
import pytest
from support.gathered import Gathered
from support.mock_pins import PRESSED, RELEASED, Plugs, Remote, mock_pins

from agent.frontends.panel.button import Button
from agent.frontends.panel.interfaces import PressSource
from agent.frontends.panel.keys import KeySource
from agent.frontends.panel.pins import PinSource
from agent.pipeline.actions import Ask, CancelReply, Record, StopPlayback
from agent.pipeline.conversation import Conversation
from agent.pipeline.events import (
    ButtonPressed,
    DeviceLost,
    Event,
    Heard,
    Hush,
    ListenNow,
    MicrophoneMute,
    Reply,
    SpeechEnded,
    SpeechStarted,
    UtteranceCancelled,
)
from agent.pipeline.status import VISIBLE_STATES, Status, StatusTracker
from agent.system.threads import Backoff, Deadline

SECONDS, HOUR = 60.0, 3600.0
SHORT_ONLY, LONG_ONLY = HOUR, 0.0
DOCUMENT = Path(__file__).parents[3] / "docs" / "button-and-light.md"
SPEAKING: list[Event] = [SpeechStarted(), SpeechEnded(), Heard("what time is it"), Reply(1, "It is eight.")]
EVENTS: dict[str, list[Event]] = {
    "idle": [],
    "listening": SPEAKING[:1],
    "thinking": SPEAKING[:3],
    "speaking": SPEAKING,
    "muted": [MicrophoneMute(True, "test")],
    "error": [DeviceLost("speaker", "unplugged")],
}


class Device:
    """The conversation and the status of a daemon without stages."""

    def __init__(self) -> None:
        self._conversation = Conversation()
        self._tracker = StatusTracker("assistant", ("local",))
        self.actions: list[object] = []

    def handle(self, event: Event) -> None:
        self._tracker.update(event)
        self.actions += self._conversation.handle(event)

    def in_state(self, state: str) -> Device:
        for event in EVENTS[state]:
            self.handle(event)
        self.actions.clear()
        assert self.status.visible_state == state
        return self

    @property
    def status(self) -> Status:
        return self._tracker.status(self._conversation.state, 80)


@contextmanager
def running(
    make_source: Callable[[], PressSource], long_seconds: float = SHORT_ONLY, retry_seconds: float = 0.0
) -> Iterator[tuple[Button, Gathered]]:
    gathered = Gathered()
    button = Button(make_source, long_seconds, gathered, backoff=Backoff(retry_seconds, retry_seconds))
    button.open()
    button.start()
    try:
        yield button, gathered
    finally:
        button.stop()
        assert button.join(Deadline(SECONDS))


@contextmanager
def pressed_pin(status: Status, long_seconds: float) -> Iterator[Gathered]:
    """Press the button at a mock pin in a state of the device."""
    with mock_pins() as factory:
        source = Opened(PinSource(17))
        with running(lambda: source, long_seconds) as (button, gathered):
            button.notify(status)
            source.opened.wait()
            factory.pin(17).drive_low()
            if long_seconds == SHORT_ONLY:
                factory.pin(17).drive_high()
            yield gathered


class Opened:
    """A source that reports when it is open."""

    def __init__(self, source: PressSource) -> None:
        self._source = source
        self.opened = threading.Event()
        self.filenos, self.read, self.problem, self.close = source.filenos, source.read, source.problem, source.close

    def open(self) -> None:
        self._source.open()
        self.opened.set()


@pytest.mark.parametrize(
    ("state", "requests", "actions", "after"),
    [
        ("idle", [ListenNow], [], "listening"),
        ("listening", [Hush], [], "idle"),
        ("thinking", [Hush], [CancelReply], "idle"),
        ("speaking", [Hush], [CancelReply, StopPlayback, Record], "idle"),
        ("error", [ListenNow], [], "listening"),
    ],
)
def test_a_short_press_listens_or_ends_what_the_device_does(
    state: str, requests: list[type[Event]], actions: list[type], after: str
) -> None:
    device = Device().in_state(state)
    with pressed_pin(device.status, SHORT_ONLY) as gathered:
        device.handle(gathered.await_first(requests[0]))
    if state == "speaking":
        device.handle(UtteranceCancelled("reply-1", "by the button"))
    assert gathered.all[0] == ButtonPressed("short")
    assert [type(event) for event in gathered.all[1:]] == requests
    assert [type(action) for action in device.actions if type(action) in actions] == actions
    assert device.status.visible_state == after


def test_a_short_press_while_the_user_speaks_discards_the_words() -> None:
    device = Device().in_state("listening")
    with pressed_pin(device.status, SHORT_ONLY) as gathered:
        device.handle(gathered.await_first(Hush))
    for event in SPEAKING[1:3]:
        device.handle(event)
    assert not any(isinstance(action, Ask) for action in device.actions)


@pytest.mark.parametrize(
    ("state", "requests", "after"),
    [
        ("idle", [MicrophoneMute], "muted"),
        ("listening", [MicrophoneMute, Hush], "muted"),
        ("thinking", [MicrophoneMute], "thinking"),
        ("speaking", [MicrophoneMute], "speaking"),
        ("muted", [MicrophoneMute], "idle"),
        ("error", [MicrophoneMute], "muted"),
    ],
)
def test_a_long_press_mutes_or_unmutes(state: str, requests: list[type[Event]], after: str) -> None:
    device = Device().in_state(state)
    was_muted = device.status.muted
    with pressed_pin(device.status, LONG_ONLY) as gathered:
        for request in requests:
            device.handle(gathered.await_first(request))
    assert gathered.all[0] == ButtonPressed("long")
    assert [type(event) for event in gathered.all[1:]] == requests
    assert device.status.muted == (() if was_muted else ("microphone",))
    assert device.status.visible_state == after


def test_a_short_press_is_only_reported_while_the_microphone_is_muted() -> None:
    with pressed_pin(Device().in_state("muted").status, SHORT_ONLY) as gathered:
        pass  # the end of the button reads the press first
    assert gathered.all == [ButtonPressed("short")]


def test_the_document_has_a_row_for_each_state() -> None:
    table = DOCUMENT.read_text("utf-8").partition("| state | short press | long press |")[2].partition("\n\n")[0]
    assert tuple(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) == VISIBLE_STATES


def test_a_busy_pin_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with mock_pins() as factory:
        other = gpiozero.LED(17)
        attempts = Gathered()
        source = Attempted(PinSource(17), attempts)
        with running(lambda: source) as (_, gathered):
            attempts.await_first(ListenNow, 2)
            other.close()
            source.opened.wait()
            factory.pin(17).drive_low()
            factory.pin(17).drive_high()
            gathered.await_first(ListenNow)
    texts = [record.getMessage() for record in caplog.records if "usable" in record.getMessage()]
    assert len(texts) == 2
    assert "not usable" in texts[0]
    assert "usable again" in texts[1]


class Attempted(Opened):
    """Counts the attempts to open the source."""

    def __init__(self, source: PressSource, attempts: Gathered) -> None:
        super().__init__(source)
        self._attempts = attempts

    def open(self) -> None:
        self._attempts(ListenNow("an attempt"))
        super().open()


def test_a_key_that_is_unplugged_and_plugged_in_again_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plugs = Plugs(tmp_path / "input")
    first, second = Remote(), Remote()
    plugs.plug(first)
    with running(lambda: KeySource("KEY_PLAYPAUSE", None, str(plugs.directory), plugs.open)) as (_, gathered):
        for value in (PRESSED, RELEASED):
            first.report(value)
        gathered.await_first(ListenNow)
        first.report(PRESSED)
        plugs.unplug()
        plugs.plug(second, "event1")
        for value in (PRESSED, RELEASED):
            second.report(value)
        gathered.await_first(ListenNow, 2)
    assert [type(event) for event in gathered.all] == 2 * [ButtonPressed, ListenNow]


def test_a_button_that_was_not_started_can_be_stopped() -> None:
    button = Button(lambda: PinSource(17), SHORT_ONLY, Gathered())
    button.stop()
    button.open()
    button.stop()
    button.abort()
    assert button.join(Deadline(SECONDS))
