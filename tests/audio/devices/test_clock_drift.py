"""A card's clock is compared with the monotonic one over all the time that it runs."""

from __future__ import annotations

import itertools
import logging
import threading

import pytest
from support.vcard import VirtualCard

from agent.audio.devices.card import CardSink
from agent.audio.devices.clock_drift import ClockDrift
from agent.audio.format import Format


@pytest.mark.parametrize("ppm", [-2000, 0, 2000, 1_000_000])
def test_what_a_card_gains_is_summed_over_its_runs(ppm: int) -> None:
    drift = ClockDrift(48000)
    for run in range(3):
        for second in range(21):
            drift.at(round(second * 48000 * (1 + ppm * 1e-6)), run * 1000.0 + second)
        drift.pause()
    assert drift.observed_seconds == 60.0
    assert drift.ppm == pytest.approx(ppm, abs=1)
    assert drift.seconds == pytest.approx(60 * ppm * 1e-6, abs=1e-4)


def test_nothing_observed_is_no_drift() -> None:
    drift = ClockDrift(48000)
    drift.at(0, 5.0)
    assert (drift.ppm, drift.seconds, drift.observed_seconds) == (0.0, 0.0, 0.0)


def test_only_what_is_noticeable_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drift = ClockDrift(48000)
    drift.at(0, 0.0)
    drift.at(48000 * 60 + 480, 60.0)
    drift.tell("Jabra")
    assert not caplog.records
    drift.at(48000 * 100 + 9600, 100.0)
    drift.tell("Jabra")
    assert caplog.messages == ["the clock of Jabra is off by +2000 ppm: +0.20 s in 100 s"]


def test_a_card_that_was_dry_when_the_end_came_is_not_a_slow_one(card: VirtualCard) -> None:
    """A service that stalled in the middle of an utterance for ten seconds and then failed: the clock of the card was
    said to be off by 87 percent."""
    format = Format(24000)
    sink = CardSink("speaker", format, 0.02, 0.1)
    try:
        sink.write(b"\1\0" * format.rate)
        threading.Event().wait(3.0)  # nothing comes for so long
        while seconds := sink.drain_nowait():
            threading.Event().wait(seconds)
        assert sink.drift.seconds > -1.5
    finally:
        sink.close()


def test_a_card_that_was_dry_because_the_machine_stood_still_is_not_a_slow_one(
    card: VirtualCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever plays waits in the midst of a write nearly all the time: that is where he is when the machine stands
    still. Next time the card had sound again, and the clock of the card was said to be seconds off."""
    format = Format(24000)
    sink = CardSink("speaker", format, 0.02, 0.1)
    write, pieces = sink._card.write, itertools.count()

    def stands_still(piece: bytes) -> None:
        if next(pieces) == 10:
            threading.Event().wait(3.0)
        write(piece)

    monkeypatch.setattr(sink._card, "write", stands_still)
    try:
        sink.write(b"\1\0" * format.rate)
        assert sink.drift.observed_seconds > 0 and sink.drift.seconds > -1.5
    finally:
        sink.close()
