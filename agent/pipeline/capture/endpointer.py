"""Endpointing: finds the start and the end of speech in a stream of frames, without a clock.

Frames are 16 kHz mono s16le; time is the length of the frames.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from agent.audio.convert import measure_level
from agent.audio.format import SPEECH
from agent.audio.level_meter import MIN_DECIBELS, decibels
from agent.pipeline.capture.detector import Detector
from agent.pipeline.events import NearMiss, StopWord, WakePaused, Woken
from agent.system.distinct import distinct
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

if TYPE_CHECKING:  # imported only where a wake word is configured
    from agent.pipeline.capture.wake_gate import WakeGate


@distinct
class SpeechStart(NamedTuple):
    """A speech segment starts; its frames follow. Immutable."""


@distinct
class SpeechFrame(NamedTuple):
    """One frame of a speech segment. Immutable."""

    frame: bytes

    def __repr__(self) -> str:
        return f"SpeechFrame({len(self.frame)} bytes)"


@distinct
class Pause(NamedTuple):
    """The user has been silent for ``EARLY_SECONDS``: the segment may be over. Immutable."""


@distinct
class Resume(NamedTuple):
    """Speech follows the ``Pause``. Immutable."""


@distinct
class SpeechEnd(NamedTuple):
    """The segment has ended; its last speech was ``ago_seconds`` before the end of the last frame. Immutable.

    ``is_cut``: it ended at its maximum length, without a pause.
    """

    ago_seconds: float
    is_cut: bool = False


VadEvent = SpeechStart | SpeechFrame | Pause | Resume | SpeechEnd | Woken | WakePaused | NearMiss | StopWord

MAX_WAKE_PRE_ROLL_SECONDS = 1.0
"""Longest audio between the end of a wake word and its detection. This audio belongs to the segment."""
WAKE_HOLD_SECONDS = 0.1
"""No segment starts within this time after a wake word: the detector may still report the word itself as speech."""

WAKE_SOUND_HOLD_SECONDS = 0.4
"""No segment starts within this time after a pause that triggers the wake sound: the microphone records that sound."""

MAX_ONSET_SECONDS = 0.3
"""A sound that has started no segment within this time is noise."""

EARLY_SECONDS = 0.15
"""Silence after which a pause is reported. It is longer than the silence of a plosive within a word, and shorter than
every silence that ends a segment by default. With frames of 0.1 s a pause is reported after 0.2 s on average, early
enough for a transcript before the shortest silence that ends a segment."""


class Endpointer(Protocol):
    """Selects the frames to send. Owned by the recognizer thread; only ``choose_word`` is thread-safe.

    ``continuous``: every frame is part of one endless segment, so frames may stay in their source until they can be
    sent.
    """

    continuous: bool

    def process(self, frame: bytes) -> list[VadEvent]:
        """Process the next frame and return the resulting events, in order."""

    def reset(self) -> list[VadEvent]:
        """End an open segment, discard buffered audio, and return the end of the segment if one was open."""

    def open_gate(self, seconds: float) -> None:
        """Let speech that starts within ``seconds`` begin a segment without a wake word."""

    def choose_word(self, word: str | None) -> None:
        """Let only this wake word start a segment; ``None``: every wake word does. Thread-safe."""

    def set_speaking(self, is_speaking: bool) -> None:
        """Note whether the device speaks."""

    def report_text(self, text: str) -> list[VadEvent]:
        """Note the transcript of the open segment so far.

        Returns:
            The end of the segment if the silence so far is long enough for this text.
        """

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        """Note whether the transcript of a segment has words, and whether it ended without a pause."""

    def release(self, deadline: Deadline) -> None:
        """Close the engines that find wake words and stop words, within the deadline."""


class VadEndpointer:
    """Splits microphone audio into segments by voice activity.

    A segment starts when the detector has found enough speech. It includes the ``pre_roll_seconds`` before the speech,
    so that the first syllable is complete. It ends after ``silence_seconds`` without speech, or after ``turn_seconds``
    at the latest. A transcript that arrives during a silence determines how long this silence has to be.
    Owned by the recognizer thread; only ``set_timing`` and ``choose_word`` are thread-safe.

    Args:
        detector: classifies the frames.
        silence_seconds: silence that ends a segment, unless ``choose_pause`` returns another one.
        turn_seconds: maximum length of a segment.
        pre_roll_seconds: audio before the onset that belongs to the segment.
        choose_pause: returns the silence in seconds that ends a segment with this text so far.
        gate: starts segments only after a wake word; ``None`` starts them with any speech.
        has_wake_sound: whether a sound is played when the user pauses after a wake word.
    """

    continuous = False

    def __init__(
        self,
        detector: Detector,
        *,
        silence_seconds: float,
        turn_seconds: float,
        pre_roll_seconds: float,
        choose_pause: Callable[[str], float] | None = None,
        gate: WakeGate | None = None,
        has_wake_sound: bool = False,
    ) -> None:
        # _may_sound: a wake word was found, and neither a segment nor a pause has followed.
        self._has_wake_sound, self._may_sound = has_wake_sound, False
        self._detector = detector
        self._gate = gate
        self._hold_seconds = 0.0  # time left in which no segment starts
        self._after_word_seconds = 0.0  # audio between the last wake word and its detection
        self._choose_pause = choose_pause
        self._end_silence_seconds, self._max_segment_seconds = silence_seconds, turn_seconds
        self._pre_roll_seconds = pre_roll_seconds
        self._pause_seconds: float | None = None  # chosen by the text so far; replaces _end_silence_seconds
        self._pre_roll: deque[bytes] = deque()
        self._buffered_bytes = 0
        self._speech_seconds = 0.0
        self._silent_seconds = 0.0
        self._segment_seconds = 0.0
        self._in_segment = self._is_pausing = False

    def set_timing(
        self, silence_seconds: float, turn_seconds: float, choose_pause: Callable[[str], float] | None = None
    ) -> None:
        """Change the timing from the next frame on. Thread-safe."""
        self._end_silence_seconds, self._max_segment_seconds = silence_seconds, turn_seconds
        self._choose_pause = choose_pause

    def choose_word(self, word: str | None) -> None:
        """Let only this wake word start a segment; ``None``: every wake word does. Thread-safe."""
        if self._gate is not None:
            self._gate.chosen = word

    def open_gate(self, seconds: float) -> None:
        """Let speech that starts within ``seconds`` begin a segment without a wake word."""
        if self._gate is not None and not self._in_segment:
            self._gate.open(seconds)

    def set_speaking(self, is_speaking: bool) -> None:
        """Note whether the device speaks: only then stop words are found."""
        if self._gate is not None:
            self._gate.set_speaking(is_speaking)

    def process(self, frame: bytes) -> list[VadEvent]:
        seconds = SPEECH.seconds_of(len(frame))
        is_speech = self._detector.is_speech(frame)
        self._silent_seconds = self._detector.silent_seconds if is_speech else self._silent_seconds + seconds
        if is_speech:
            self._pause_seconds = None  # the text so far does not include this speech
        return (
            self._process_segment(frame, seconds) if self._in_segment else self._process_idle(frame, seconds, is_speech)
        )

    def reset(self) -> list[VadEvent]:
        self._pre_roll.clear()
        self._buffered_bytes, self._speech_seconds = 0, 0.0
        if self._gate is not None:
            self._gate.close()
        if not self._in_segment:
            return []
        return [self._end_segment()]

    def report_text(self, text: str) -> list[VadEvent]:
        if self._choose_pause is None or not self._in_segment:
            return []
        self._pause_seconds = self._choose_pause(text)
        # The segment ends now instead of with the next frame, which arrives up to 0.1 s later.
        is_over = self._silent_seconds + 1e-9 >= self._pause_seconds
        return [self._end_segment()] if is_over else []

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        self._detector.report_segment(has_words=has_words, is_cut=is_cut)

    def release(self, deadline: Deadline) -> None:
        if self._gate is not None:
            self._gate.release(deadline)

    def _process_idle(self, frame: bytes, seconds: float, is_speech: bool) -> list[VadEvent]:
        self._speech_seconds = self._speech_seconds + seconds if is_speech else 0.0
        self._pre_roll.append(frame)
        self._buffered_bytes += len(frame)
        if self._gate is not None and not self._gate.is_open:
            self._limit_pre_roll(MAX_WAKE_PRE_ROLL_SECONDS)
            return self._await_wake_word(self._gate, frame, is_speech)
        self._hold_seconds = max(0.0, self._hold_seconds - seconds)
        events: list[VadEvent] = []
        if self._may_sound and not is_speech:
            self._may_sound = False
            self._hold_seconds = WAKE_SOUND_HOLD_SECONDS
            events.append(WakePaused())
        # The limit includes the speech so far: otherwise a long onset removes the first syllable from the pre-roll.
        self._limit_pre_roll(max(self._pre_roll_seconds, self._after_word_seconds) + self._speech_seconds)
        if not self._detector.starts_segment or self._hold_seconds > 0.0:
            if self._gate is not None:
                self._gate.wait(seconds, is_onset=0.0 < self._speech_seconds <= MAX_ONSET_SECONDS)
            return events
        self._may_sound = False
        events += [SpeechStart(), *map(SpeechFrame, self._pre_roll)]
        self._pause_seconds = None
        self._segment_seconds = SPEECH.seconds_of(self._buffered_bytes)
        self._pre_roll.clear()
        self._buffered_bytes, self._speech_seconds = 0, 0.0
        self._in_segment, self._is_pausing = True, False
        return events

    def _await_wake_word(self, gate: WakeGate, frame: bytes, is_speech: bool) -> list[VadEvent]:
        spot, stop_word = gate.hear(frame, is_sound=is_speech)
        events: list[VadEvent] = [] if stop_word is None else [StopWord(stop_word)]
        if spot is None:
            return events
        if not spot.is_found:
            return [*events, NearMiss(spot.word, spot.score)]
        level = decibels(measure_level(b"".join(self._pre_roll))[0]) if self._pre_roll else MIN_DECIBELS
        self._cut_pre_roll(SPEECH.bytes_of(spot.after_seconds))
        self._after_word_seconds = spot.after_seconds
        self._hold_seconds = WAKE_HOLD_SECONDS
        self._speech_seconds = 0.0
        self._may_sound = self._has_wake_sound
        return [*events, Woken(spot.word, round(level, 1))]

    def _cut_pre_roll(self, nbytes: int) -> None:
        """Keep the last ``nbytes`` of the audio, so that the wake word is not a part of the segment."""
        surplus = self._buffered_bytes - nbytes
        while surplus > 0:
            first = self._pre_roll.popleft()
            if len(first) > surplus:
                self._pre_roll.appendleft(first[surplus:])
            surplus -= len(first)
        self._buffered_bytes = sum(map(len, self._pre_roll))

    def _limit_pre_roll(self, seconds: float) -> None:
        while len(self._pre_roll) > 1:
            if SPEECH.seconds_of(self._buffered_bytes - len(self._pre_roll[0])) + 1e-9 < seconds:
                return
            self._buffered_bytes -= len(self._pre_roll.popleft())

    def _end_segment(self, *, is_cut: bool = False) -> SpeechEnd:
        self._in_segment = False
        if self._gate is not None:
            self._gate.close()
        return SpeechEnd(self._silent_seconds, is_cut)

    def _process_segment(self, frame: bytes, seconds: float) -> list[VadEvent]:
        self._segment_seconds += seconds
        pause_seconds = self._end_silence_seconds if self._pause_seconds is None else self._pause_seconds
        has_no_pause = self._silent_seconds + 1e-9 < pause_seconds
        if has_no_pause and self._segment_seconds < self._max_segment_seconds:
            was_pausing, self._is_pausing = self._is_pausing, self._silent_seconds + 1e-9 >= EARLY_SECONDS
            if was_pausing == self._is_pausing:
                return [SpeechFrame(frame)]
            return [SpeechFrame(frame), Pause()] if self._is_pausing else [Resume(), SpeechFrame(frame)]
        return [SpeechFrame(frame), self._end_segment(is_cut=has_no_pause)]


class NullEndpointer:
    """Sends every frame: one segment lasts until the frames end. Not thread-safe; owned by the recognizer thread."""

    continuous = True

    def __init__(self) -> None:
        self._has_started = False

    def process(self, frame: bytes) -> list[VadEvent]:
        events: list[VadEvent] = [SpeechFrame(frame)] if self._has_started else [SpeechStart(), SpeechFrame(frame)]
        self._has_started = True
        return events

    def reset(self) -> list[VadEvent]:
        return []

    def open_gate(self, seconds: float) -> None:
        """Do nothing: every frame is sent."""

    def choose_word(self, word: str | None) -> None:
        """Do nothing: there are no wake words."""

    def set_speaking(self, is_speaking: bool) -> None:
        """Do nothing: there are no stop words."""

    def report_text(self, text: str) -> list[VadEvent]:
        """Ignore the text: only the end of the frames ends the segment."""
        return []

    def report_segment(self, *, has_words: bool, is_cut: bool) -> None:
        """Ignore the result: no detector decides."""

    def release(self, deadline: Deadline) -> None:
        """Do nothing: there are no wake words."""
