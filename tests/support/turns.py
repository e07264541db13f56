"""Turns of a voice activity detector in a recording."""

from __future__ import annotations

from typing import NamedTuple

from agent.audio.format import SPEECH
from agent.pipeline.capture.detector import Detector
from agent.pipeline.capture.endpointer import SpeechEnd, SpeechStart, VadEndpointer


class Turn(NamedTuple):
    """A turn, in seconds of the recording; ``end`` is infinite if it is still open."""

    start: float
    end: float
    is_cut: bool = False


def turns(
    detector: Detector, sound: bytes, *, frame_seconds: float = 0.1, turn_seconds: float = 30.0, has_words: bool = True
) -> list[Turn]:
    """Return the turns of s16le at 16 kHz; each one's result is reported to the detector when it ends."""
    endpointer = VadEndpointer(detector, silence_seconds=0.7, turn_seconds=turn_seconds, pre_roll_seconds=0.5)
    found: list[Turn] = []
    size = SPEECH.bytes_of(frame_seconds)
    for start in range(0, len(sound) - size + 1, size):
        now = SPEECH.seconds_of(start + size)
        for event in endpointer.process(sound[start : start + size]):
            if isinstance(event, SpeechStart):
                found.append(Turn(now, float("inf")))
            elif isinstance(event, SpeechEnd):
                found[-1] = found[-1]._replace(end=now, is_cut=event.is_cut)
                endpointer.report_segment(has_words=has_words, is_cut=event.is_cut)
    return found
