from __future__ import annotations

import pytest

from agent.frontends.panel.press import Press, long_press, short_press
from agent.pipeline.events import Event, Hush, ListenNow, MicrophoneMute, Mute
from agent.pipeline.status import Status

HOUR = 3600.0
LISTEN, HUSH, MUTE = ListenNow("the button"), Hush("the button"), MicrophoneMute(True, "the button")
UNMUTE = MicrophoneMute(False, "the button")
MUTED = ("microphone",)


def test_a_release_ends_a_short_press_once() -> None:
    press = Press(HOUR)
    assert [press.change(pressed) for pressed in (True, False, False)] == [False, True, False]


def test_a_press_is_long_while_it_is_held_and_its_release_has_no_effect() -> None:
    press = Press(0.0)
    press.change(True)
    assert press.remaining() == 0.0
    assert [press.take_long(), press.take_long()] == [True, False]
    assert press.change(False) is False


def test_a_repeated_press_does_not_restart_the_time() -> None:
    press = Press(HOUR)
    press.change(True)
    first = press.remaining()
    press.change(True)
    second = press.remaining()
    assert first is not None
    assert second is not None
    assert second <= first


def test_a_reset_forgets_the_press() -> None:
    press = Press(0.0)
    press.change(True)
    press.reset()
    assert (press.remaining(), press.take_long(), press.change(False)) == (None, False, False)


@pytest.mark.parametrize(
    ("status", "short", "long"),
    [
        (Status("", "idle"), [LISTEN], [MUTE]),
        (Status("", "listening"), [HUSH], [MUTE, HUSH]),
        (Status("", "thinking"), [HUSH], [MUTE]),
        (Status("", "speaking"), [HUSH], [MUTE]),
        (Status("", "speaking", muted=MUTED), [HUSH], [UNMUTE]),
        (Status("", "idle", muted=MUTED), [], [UNMUTE]),
        (Status("", "idle", can_speak=False), [LISTEN], [MUTE]),
        (Status("", "idle", mode="announce", listens=False), [LISTEN], [Mute(True, "the button")]),
        (Status("", "idle", muted=("speaker",), mode="announce", listens=False), [], [Mute(False, "the button")]),
    ],
)
def test_a_press_requests_what_fits_the_state(status: Status, short: list[Event], long: list[Event]) -> None:
    assert (short_press(status), long_press(status)) == (short, long)
