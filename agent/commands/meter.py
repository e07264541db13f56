"""``voice-agent meter``: a live bar of how loud the microphone is."""

from __future__ import annotations

import contextlib
import json
import queue
from dataclasses import asdict

from agent.audio.devices import open_source
from agent.audio.meter import Meter, Reading
from agent.commands.signals import hush_signals
from agent.config.model import Config
from agent.events import Event

FRAME_SECONDS = 0.05
WIDTH = 40
LOWEST = -60.0
"""Decibels at the left end of the bar."""


def meter(config: Config, *, seconds: float | None = None, as_json: bool = False) -> int:
    """Until Ctrl-C, or for ``seconds``. One line that is written again and again; with ``as_json`` a line a frame."""
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    signals = hush_signals(inbox.put)
    try:
        with contextlib.closing(open_source(config.microphone.device, FRAME_SECONDS)) as source:
            measured = Meter(FRAME_SECONDS)
            frames = clipped = 0
            while inbox.empty() and (seconds is None or frames * FRAME_SECONDS < seconds):
                reading = measured.feed(source.read())
                frames += 1
                clipped += reading.clipped
                if as_json:
                    print(json.dumps({key: round(value, 1) for key, value in asdict(reading).items()}), flush=True)
                else:
                    print(f"\r{bar(reading)}", end="", flush=True)
    finally:
        signals.restore()
    if not as_json:
        print(f"\n{clipped} samples were clipped" if clipped else "")
    return 0


def bar(reading: Reading) -> str:
    """``=`` up to the level, ``|`` at the peak, ``.`` at the noise floor, all of the same width."""
    cells = ["=" if place < _place(reading.level) else " " for place in range(WIDTH)]
    cells[min(WIDTH - 1, _place(reading.floor))] = "."
    cells[min(WIDTH - 1, _place(reading.peak))] = "|"
    warning = "CLIPPING" if reading.clipped else "        "
    numbers = f"{reading.level:5.0f} dB  peak {reading.peak:4.0f}  noise {reading.floor:4.0f}"
    return f"[{''.join(cells)}] {numbers}  {warning}"


def _place(decibels: float) -> int:
    return round(max(0.0, decibels - LOWEST) / -LOWEST * WIDTH)
