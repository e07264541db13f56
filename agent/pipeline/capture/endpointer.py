"""Where speech begins and ends: frames in, marks out. Pure: the only clock is the length of the frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

FRAME_RATE = 32000  # bytes a second: 16 kHz, mono, 16 bit


@dataclass(frozen=True, slots=True)
class SpeechStart:
    """A stretch of speech begins; what is said follows."""


@dataclass(frozen=True, slots=True)
class Speech:
    """One frame of a stretch of speech."""

    frame: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SpeechEnd:
    """The stretch has ended; the last speech was ``ago_seconds`` before the end of the last frame."""

    ago_seconds: float


Mark = SpeechStart | Speech | SpeechEnd


class Endpointer(Protocol):
    """What decides which frames are worth sending. ``patient``: they may wait where they are until they can be sent."""

    continuous: bool

    def hear(self, frame: bytes) -> list[Mark]: ...
    def forget(self) -> list[Mark]: ...


class VadEndpointer:
    """Cuts what the microphone hears into turns.

    A turn begins when ``onset_seconds`` of speech have been heard and takes the ``pre_roll_seconds`` before that
    with it, so the first syllable survives. It ends after ``silence_seconds`` without speech, or when it has lasted
    ``turn_seconds``. ``is_speech`` judges one frame (16 kHz, mono, s16le).
    """

    continuous = False

    def __init__(
        self,
        is_speech: Callable[[bytes], bool],
        *,
        silence_seconds: float,
        turn_seconds: float,
        pre_roll_seconds: float,
        onset_seconds: float = 0.15,
    ) -> None:
        self._is_speech = is_speech
        self._silence, self._longest = silence_seconds, turn_seconds
        self._pre_roll, self._onset = pre_roll_seconds, onset_seconds
        self._before: deque[bytes] = deque()
        self._before_seconds = 0.0
        self._speech_seconds = 0.0
        self._silent_seconds = 0.0
        self._turn_seconds = 0.0
        self._in_turn = False

    def retime(self, silence_seconds: float, turn_seconds: float) -> None:
        """Another patience, from the next frame on. May be called from any thread."""
        self._silence, self._longest = silence_seconds, turn_seconds

    def hear(self, frame: bytes) -> list[Mark]:
        seconds = len(frame) / FRAME_RATE
        speech = self._is_speech(frame)
        self._silent_seconds = 0.0 if speech else self._silent_seconds + seconds
        return self._during(frame, seconds) if self._in_turn else self._wait(frame, seconds, speech)

    def forget(self) -> list[Mark]:
        """Breaks off: an unfinished turn ends here, and what was heard before is not part of the next one."""
        self._before.clear()
        self._before_seconds = self._speech_seconds = 0.0
        if not self._in_turn:
            return []
        self._in_turn = False
        return [SpeechEnd(self._silent_seconds)]

    def _wait(self, frame: bytes, seconds: float, speech: bool) -> list[Mark]:
        self._speech_seconds = self._speech_seconds + seconds if speech else 0.0
        self._before.append(frame)
        self._before_seconds += seconds
        # What has been judged to be speech must fit as well, or a long onset would push out the first syllable.
        while self._before_seconds - len(self._before[0]) / FRAME_RATE > self._pre_roll + self._speech_seconds:
            self._before_seconds -= len(self._before.popleft()) / FRAME_RATE
        if not speech or self._speech_seconds + 1e-9 < self._onset:
            return []
        marks: list[Mark] = [SpeechStart(), *(Speech(earlier) for earlier in self._before)]
        self._turn_seconds = self._before_seconds
        self._before.clear()
        self._before_seconds = self._speech_seconds = 0.0
        self._in_turn = True
        return marks

    def _during(self, frame: bytes, seconds: float) -> list[Mark]:
        self._turn_seconds += seconds
        if self._silent_seconds + 1e-9 < self._silence and self._turn_seconds < self._longest:
            return [Speech(frame)]
        self._in_turn = False
        return [Speech(frame), SpeechEnd(self._silent_seconds)]


class NullEndpointer:
    """Listens without end: every frame is worth sending, and only the end of the frames ends the stretch."""

    continuous = True

    def __init__(self) -> None:
        self._begun = False

    def hear(self, frame: bytes) -> list[Mark]:
        marks: list[Mark] = [Speech(frame)] if self._begun else [SpeechStart(), Speech(frame)]
        self._begun = True
        return marks

    def forget(self) -> list[Mark]:
        return []
