from __future__ import annotations

from agent.daemon.dispatch import DeviceTimeout
from agent.pipeline.events import DeviceBack, DeviceLost, DeviceTimedOut


def test_a_speaker_that_stays_away_is_told_for_each_utterance_that_waited_long_enough() -> None:
    absence = DeviceTimeout(0.0)
    absence.note(DeviceLost("microphone", "x"))
    assert absence.look() is None
    absence.note(DeviceLost("speaker", "x"))
    away = absence.look()
    assert isinstance(away, DeviceTimedOut) and away.device == "speaker" and away.seconds >= 0.0
    absence.note(DeviceBack("speaker", 1.0))
    assert absence.look() is None


def test_an_utterance_that_begins_while_it_is_away_has_the_whole_time() -> None:
    absence = DeviceTimeout(60.0)
    absence.note(DeviceLost("speaker", "x"))
    absence.begin()
    assert absence.look() is None
