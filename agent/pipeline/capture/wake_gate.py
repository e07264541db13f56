"""Lets speech start a segment only after a wake word; the microphone itself stays open."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from agent.audio.format import SPEECH
from agent.pipeline.capture.spotter import Spot, Spotter
from agent.system.threads import Backoff, Deadline

log = logging.getLogger(__name__)

_SILENCE_SECONDS = 1.0
"""After this much silence the spotters get no audio until there is sound again."""
_LOOKBACK_SECONDS = 1.5
"""Silence that the spotters get before a sound. With 0.5 s the score of a word falls from 0.98 to 0.84."""

_ONSET_SECONDS = 1e-6
"""If the time of the gate ends during an onset, this remaining time keeps the gate open."""


class WakeGate:
    """Opens for speech after a wake word, and closes again after a segment or a time without speech.

    Owned by the recognizer thread, except ``chosen``, which any thread may set. Time is the length of the frames. A
    spotter that fails is loaded again after a delay; during this delay ``open`` still works.

    Args:
        load: Loads the spotter of the wake words. Raises ``AudioError``.
        listen_seconds: How long the gate stays open for speech after a wake word.
        load_stop: Loads the spotter of the stop words; ``None`` without stop words.

    Attributes:
        chosen: The only wake word that opens the gate; ``None``: every wake word opens it.
    """

    def __init__(
        self, load: Callable[[], Spotter], listen_seconds: float, load_stop: Callable[[], Spotter] | None = None
    ) -> None:
        self._wake = _Engine(load, "wake word")
        self._stop = None if load_stop is None else _Engine(load_stop, "stop word")
        self._listen_seconds = listen_seconds
        self.chosen: str | None = None
        self._is_speaking = False
        self._open_seconds = 0.0
        self._silent_seconds = 0.0
        self._recent: deque[bytes] = deque()  # silence that the spotters have not received
        self._recent_seconds = 0.0

    @property
    def is_open(self) -> bool:
        """Whether speech starts a segment without a further wake word."""
        return self._open_seconds > 1e-9

    def open(self, seconds: float) -> None:
        """Let speech that starts within ``seconds`` begin a segment without a wake word."""
        self._open_seconds = seconds

    def close(self) -> None:
        """Close the gate: speech starts no segment before the next wake word or ``open``."""
        self._open_seconds = 0.0

    def set_speaking(self, is_speaking: bool) -> None:
        """Note whether the device speaks: only then stop words are found."""
        self._is_speaking = is_speaking
        if is_speaking and self._stop is not None:
            self._stop.find([])  # loads the engine before there is a sound

    def hear(self, frame: bytes, *, is_sound: bool) -> tuple[Spot | None, str | None]:
        """Process a frame while the gate is closed, and open the gate if a wake word is found.

        Args:
            frame: 16 kHz mono s16le.
            is_sound: Whether the frame holds more than silence.

        Returns:
            The wake word that was found or nearly found, and the stop word that was found. Stop words are found only
            while the device speaks.
        """
        seconds = SPEECH.seconds_of(len(frame))
        self._silent_seconds = 0.0 if is_sound else self._silent_seconds + seconds
        if self._silent_seconds > _SILENCE_SECONDS:
            self._recent.append(frame)
            self._recent_seconds += seconds
            while self._recent_seconds > _LOOKBACK_SECONDS + 1e-9:
                self._recent_seconds -= SPEECH.seconds_of(len(self._recent.popleft()))
            return None, None
        frames = [*self._recent, frame]
        self._recent.clear()
        self._recent_seconds = 0.0
        stop = self._stop.find(frames) if self._stop is not None and self._is_speaking else None
        spot, chosen = self._wake.find(frames), self.chosen
        if spot is not None and chosen not in (None, spot.word):
            spot = None
        if spot is not None and spot.is_found:
            self.open(self._listen_seconds)
        return spot, stop.word if stop is not None and stop.is_found else None

    def release(self, deadline: Deadline) -> None:
        """Close the engines within the deadline."""
        for engine in (self._wake, self._stop):
            if engine is not None:
                engine.close(deadline)

    def wait(self, seconds: float, *, is_onset: bool = False) -> None:
        """Count ``seconds`` without a segment while the gate is open. During an onset the gate stays open."""
        # If the gate closed during an onset, the spotter would get only the end of a wake word.
        self._open_seconds = max(_ONSET_SECONDS if is_onset else 0.0, self._open_seconds - seconds)


class _Engine:
    """A spotter that is loaded when it is needed, and again after a failure.

    Not thread-safe; owned by the recognizer thread.
    """

    def __init__(self, load: Callable[[], Spotter], name: str) -> None:
        self._load, self._name = load, name
        self._spotter: Spotter | None = None
        self._backoff = Backoff(1.0, 60.0)
        self._retry = Deadline(0.0)

    def find(self, frames: Iterable[bytes]) -> Spot | None:
        """Return the first word that was found in the frames, else the last word that was nearly found."""
        try:
            if self._spotter is None:
                if not self._retry.is_expired:
                    return None
                self._spotter = self._load()
            spots = [spot for frame in frames if (spot := self._spotter.find(frame)) is not None]
        except Exception as error:  # noqa: BLE001 - a foreign library that fails must not end the conversation
            self.close(Deadline(0.0))
            delay = self._backoff.next_seconds()
            self._retry = Deadline(delay)
            log.warning("%s: the engine failed, retry in %.0f s, error=%s", self._name, delay, error)
            return None
        if spots:
            self._backoff.reset()
        return next((spot for spot in spots if spot.is_found), spots[-1] if spots else None)

    def close(self, deadline: Deadline) -> None:
        """Close the spotter."""
        if self._spotter is not None:
            self._spotter.close(deadline)
            self._spotter = None
