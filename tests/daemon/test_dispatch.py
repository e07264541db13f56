from __future__ import annotations

from agent.daemon.dispatch import DeviceTimeout
from agent.pipeline.events import DeviceBack, DeviceLost, DeviceTimedOut


def test_lost_speaker_times_out_until_it_is_back() -> None:
    timeout = DeviceTimeout(0.0)
    timeout.update(DeviceLost("microphone", "x"))
    assert timeout.check() is None
    timeout.update(DeviceLost("speaker", "x"))
    event = timeout.check()
    assert isinstance(event, DeviceTimedOut) and event.device == "speaker" and event.seconds >= 0.0
    timeout.update(DeviceBack("speaker", 1.0))
    assert timeout.check() is None


def test_restart_gives_a_new_utterance_the_full_time() -> None:
    timeout = DeviceTimeout(60.0)
    timeout.update(DeviceLost("speaker", "x"))
    timeout.restart()
    assert timeout.check() is None
