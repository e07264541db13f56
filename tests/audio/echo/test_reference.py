from __future__ import annotations

import pytest

from agent.audio.echo.reference import LEAD_SECONDS, EchoReference
from agent.audio.format import SPEECH


def test_audio_that_the_card_drops_after_it_was_read_is_counted_once() -> None:
    reference = EchoReference()
    reference.played(b"\x01\x02" * SPEECH.rate, SPEECH, 1.0)
    reference.captured(SPEECH.rate // 2, 0.5)
    reference.read(SPEECH.rate // 2 - 320, 320)  # up to 0.5 s, and the lead
    assert reference.unplayed == 0
    reference.dropped(0.501)
    assert reference.read(SPEECH.rate // 2, 320) is None
    assert reference.unplayed == pytest.approx((LEAD_SECONDS - 0.001) * SPEECH.rate, abs=2)
    reference.read(SPEECH.rate // 2 + 320, 320)
    assert reference.unplayed == 0
