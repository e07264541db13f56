"""A room in which the microphone hears the speaker: simulated time, and the real units from the card to the endpointer.

The playback is convolved with the response of a room, delayed, and mixed with the user's speech and noise. The clock of
the speaker may be faster than that of the microphone. Each reading of a clock has an error.
"""

from __future__ import annotations

import math
import random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.audio.echo.canceller import EchoCanceller, EchoMeasures
from agent.audio.echo.reference import EchoReference
from agent.audio.format import SPEECH
from agent.pipeline.capture.detector import Detector
from agent.pipeline.capture.echo_guard import EchoGuard
from agent.pipeline.capture.endpointer import SpeechEnd, SpeechFrame, SpeechStart, VadEndpointer
from agent.pipeline.events import EchoChanged, Event, SpeechSuspected
from support.human_voice import spoken

Samples = NDArray[np.float64]

RATE = SPEECH.rate
FRAME = RATE // 10
PIECE = 720  # samples of one write to the card
CARD_SECONDS = 0.1  # audio in the card
CLOCK_ERROR_SECONDS = 0.0003
NOISE = 15.0  # root mean square
FRACTION_SAMPLES = 64  # the length of a delay by a fraction
ROOM_SECONDS, DECAY_SECONDS, REVERBERATION, GAIN = 0.15, 0.03, 0.08, 0.5


class Utterance(NamedTuple):
    """Something that the speaker or the user says from a time on. Immutable."""

    start: float
    samples: Samples

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / RATE


class Segment(NamedTuple):
    """A segment of the endpointer: when it was found, and its audio. Immutable."""

    found_at: float
    audio: bytes


class Room:
    """One run. The speaker stops when the endpointer finds speech, as the daemon stops it.

    Args:
        said: What the device says.
        user: What the user says.
        delay_seconds: From the playback to its echo.
        ppm: How much faster the speaker's clock is than that of the microphone.
        detector: Detects the voice of the user.
        interrupt: As in the configuration.
        clock_error_seconds: Standard deviation of a reading of a clock.
    """

    def __init__(
        self,
        said: list[Utterance],
        user: list[Utterance],
        *,
        delay_seconds: float,
        ppm: float,
        detector: Detector,
        interrupt: str = "speech",
        clock_error_seconds: float = CLOCK_ERROR_SECONDS,
        seed: int = 1,
    ) -> None:
        self._clock_error_seconds = clock_error_seconds
        self._said, self._random = said, random.Random(seed)
        self._speed = 1 + ppm * 1e-6
        noise = np.random.default_rng(seed)
        tail = noise.standard_normal(round(ROOM_SECONDS * RATE)) * REVERBERATION
        tail *= np.exp(-np.arange(len(tail)) / (DECAY_SECONDS * RATE))
        tail[0] = 1.0
        self._response = GAIN * np.concatenate([np.zeros(round(delay_seconds * RATE)), tail])
        end = max(each.end for each in [*said, *user]) + 2.0
        self._microphone = noise.standard_normal(round(end * RATE)) * NOISE
        # The card starts between two samples of the microphone.
        self._fractions = noise.uniform(-0.5, 0.5, len(said))
        self._echoes = [self._echo(each.samples, part) for each, part in zip(said, self._fractions, strict=True)]
        for each, echo in zip(said, self._echoes, strict=True):
            self._mix(each.start, echo)
        for each in user:
            self._mix(each.start, each.samples)
        self.events: list[tuple[float, Event]] = []
        self.segments: list[Segment] = []
        self.cleaned: list[tuple[float, bytes]] = []  # frames without the echo, with the times of their ends
        self._now = 0.0
        self._reference = EchoReference()
        self._canceller = EchoCanceller(self._reference, 0.4)
        self._guard = EchoGuard(self._canceller, detector, interrupt, self._note)
        self._endpointer = VadEndpointer(self._guard, silence_seconds=0.5, turn_seconds=30.0, pre_roll_seconds=0.5)

    @property
    def measures(self) -> EchoMeasures:
        return self._canceller.measures

    @property
    def mode(self) -> str:
        return [event for _, event in self.events if isinstance(event, EchoChanged)][-1].mode

    def ducks(self) -> list[float]:
        """Return the times at which the playback is ducked."""
        return [at for at, event in self.events if event == SpeechSuspected(True)]

    def run(self) -> None:
        playing, written = 0, 0  # utterance, samples of it in the card
        audio: list[bytes] = []
        found_at: float | None = None
        for start in range(0, len(self._microphone) - FRAME, FRAME):
            self._now = (start + FRAME) / RATE
            while playing < len(self._said):
                each = self._said[playing]
                if each.start + written / RATE / self._speed > self._now + CARD_SECONDS:
                    break
                if written >= len(each.samples):
                    self._reference.finished()
                    playing, written = playing + 1, 0
                    continue
                piece = each.samples[written : written + PIECE]
                written += len(piece)
                ends_at = each.start + written / RATE / self._speed + self._clock_error()
                self._reference.note_written(piece.astype(np.int16).tobytes(), SPEECH, ends_at)
            self._reference.captured(start + FRAME, self._now + self._clock_error())
            raw = self._microphone[start : start + FRAME]
            frame = self._guard.clean(np.clip(raw, -32768, 32767).astype(np.int16).tobytes(), start)
            self.cleaned.append((self._now, frame))
            for event in self._endpointer.process(frame):
                match event:
                    case SpeechStart():
                        audio, found_at = [], self._now
                        if playing < len(self._said) and written:
                            self._stop(playing)
                            playing, written = playing + 1, 0
                    case SpeechFrame(pcm):
                        audio.append(pcm)
                    case SpeechEnd() if found_at is not None:
                        self.segments.append(Segment(found_at, b"".join(audio)))
                        found_at = None
        if found_at is not None:
            self.segments.append(Segment(found_at, b"".join(audio)))

    def _note(self, event: Event) -> None:
        self.events.append((self._now, event))

    def _stop(self, playing: int) -> None:
        """Stop the playback of an utterance now: the rest of its echo is never heard."""
        each = self._said[playing]
        self._reference.dropped(self._now)
        heard = each.samples[: max(0, round((self._now - each.start) * RATE))]
        echo = self._echo(heard, self._fractions[playing])
        rest = -self._echoes[playing]
        rest[: len(echo)] += echo[: len(rest)]
        self._mix(each.start, rest)

    def _echo(self, samples: Samples, fraction: float) -> Samples:
        """Return the echo, which is later by a fraction of a sample."""
        size = len(samples) + len(self._response) + FRACTION_SAMPLES
        # The clock of the speaker: its samples at the times of the microphone, by interpolation of an oversampled copy.
        spectrum = np.fft.rfft(samples, size)
        times = np.arange(size) * self._speed
        if self._speed != 1:
            fine = np.fft.irfft(np.concatenate([spectrum, np.zeros(4 * size + 1 - len(spectrum))]), 8 * size) * 8
            spectrum = np.fft.rfft(np.interp(times * 8, np.arange(8 * size), fine), size)
        spectrum *= np.exp(-2j * np.pi * fraction * np.fft.rfftfreq(size))
        return np.fft.irfft(spectrum * np.fft.rfft(self._response, size), size)

    def _mix(self, at: float, samples: Samples) -> None:
        start = round(at * RATE)
        part = samples[: len(self._microphone) - start]
        self._microphone[start : start + len(part)] += part

    def _clock_error(self) -> float:
        return abs(self._random.gauss(0, self._clock_error_seconds))


def to_samples(pcm: bytes, level: float = 1200.0) -> Samples:
    """Return speech (16 kHz mono s16le) with this root mean square of its audible part."""
    samples = np.frombuffer(pcm, np.int16).astype(np.float64)
    audible = samples[np.abs(samples) > 0.02 * np.abs(samples).max()]
    return samples * (level / math.sqrt(float(np.mean(audible**2))))


DEVICE_VOICE, DEVICE_LEVEL = "flite slt", 2400.0
DEVICE_TEXTS = (
    "Tomorrow will be sunny with a light breeze from the west, and temperatures of about twenty degrees.",
    "In the evening there may be some rain, so please take an umbrella when you leave the house.",
    "The museum opens at nine in the morning and closes at half past six. On Mondays it is closed.",
    "Your next appointment is at a quarter past three with Doctor Miller in the town hall, second floor.",
)


def device_speech(seconds: float, start: float = 0.5) -> list[Utterance]:
    """Return utterances of the device; the last one starts before ``seconds``."""
    utterances: list[Utterance] = []
    while start < seconds:
        text = DEVICE_TEXTS[len(utterances) % len(DEVICE_TEXTS)]
        utterances.append(Utterance(start, to_samples(spoken(text, DEVICE_VOICE), DEVICE_LEVEL)))
        start = utterances[-1].end + 1.3
    return utterances
