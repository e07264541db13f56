"""Clock drift: the counter of a card, compared with the monotonic clock."""

from __future__ import annotations

import itertools
import logging
import threading
from typing import Any, cast

import pytest
from support.vcard import VirtualCard

from agent.audio.devices.card import CardSink
from agent.audio.devices.clock_drift import ClockDrift
from agent.audio.devices.portaudio import CardStream, open_card
from agent.audio.format import Format


@pytest.mark.parametrize("ppm", [-2000, 0, 2000, 1_000_000])
def test_drift_is_summed_over_all_runs(ppm: int) -> None:
    drift = ClockDrift(48000)
    for run in range(3):
        for second in range(21):
            drift.observe(round(second * 48000 * (1 + ppm * 1e-6)), run * 1000.0 + second)
        drift.pause()
    assert drift.observed_seconds == 60.0
    assert drift.ppm == pytest.approx(ppm, abs=1)
    assert drift.seconds == pytest.approx(60 * ppm * 1e-6, abs=1e-4)


def test_no_observation_is_no_drift() -> None:
    drift = ClockDrift(48000)
    drift.observe(0, 5.0)
    assert (drift.ppm, drift.seconds, drift.observed_seconds) == (0.0, 0.0, 0.0)


def test_only_noticeable_drift_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drift = ClockDrift(48000)
    drift.observe(0, 0.0)
    drift.observe(48000 * 60 + 480, 60.0)
    drift.log("Jabra")
    assert not caplog.records
    drift.observe(48000 * 100 + 9600, 100.0)
    drift.log("Jabra")
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage() == "Jabra: clock drift, ppm=+2000, drift_seconds=+0.20, observed_seconds=100"


def test_underrun_before_the_end_is_no_drift(card: VirtualCard) -> None:
    """The counter of an empty card stands still, which is no drift."""
    format = Format(24000)
    sink = CardSink("speaker", format, 0.02, 0.1)
    try:
        sink.write(b"\1\0" * format.rate)
        threading.Event().wait(3.0)  # no audio arrives
        while seconds := sink.drain_nowait():
            threading.Event().wait(seconds)
        assert sink.drift.seconds > -1.5
    finally:
        sink.close()


def test_suspend_during_a_write_is_no_drift(card: VirtualCard) -> None:
    """The speaker spends nearly all its time in a write, so a suspend mostly happens there."""
    format = Format(24000)
    pieces = itertools.count()

    class SuspendedStream:
        """A stream whose tenth write takes three seconds longer."""

        def __init__(self, stream: CardStream) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def write(self, pcm: bytes, room: int = 0) -> None:
            if next(pieces) == 10:
                threading.Event().wait(3.0)
            self._stream.write(pcm, room)

    def open_stream(*arguments: Any) -> CardStream:
        return cast(CardStream, SuspendedStream(open_card(*arguments)))

    sink = CardSink("speaker", format, 0.02, 0.1, open_stream)
    try:
        sink.write(b"\1\0" * format.rate)
        assert sink.drift.observed_seconds > 0 and sink.drift.seconds > -1.5
    finally:
        sink.close()
