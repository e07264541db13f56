from __future__ import annotations

import math
from array import array

import numpy as np
import pytest
from support.echo_room import DEVICE_LEVEL, DEVICE_TEXTS, DEVICE_VOICE, FRAME, RATE, Samples, to_samples
from support.human_voice import spoken

from agent.audio.echo.canceller import BLOCK_SAMPLES, SUPPRESS_BELOW_DB, Block, EchoCanceller
from agent.audio.echo.reference import EchoReference
from agent.audio.echo.speex import FractionalDelay
from agent.audio.format import SPEECH

TONE_LEVEL = 8000.0
DELAY_SECONDS = 0.05
NEAR_LEVEL = 1200.0


def tone(hertz: float, begin: float, count: int) -> array[int]:
    step = 2 * math.pi * hertz / SPEECH.rate
    return array("h", [round(TONE_LEVEL * math.sin(step * (begin + at))) for at in range(count)])


@pytest.mark.parametrize("hertz", [200, 3000, 6500])
@pytest.mark.parametrize("samples", [-0.5, 0.0, 0.25, 0.4375])
def test_fractional_delay_keeps_the_level_of_all_frequencies_of_speech(hertz: float, samples: float) -> None:
    """The filter would otherwise remove the echo of a fricative only in utterances with the same fraction."""
    around = FractionalDelay.AROUND
    delayed = FractionalDelay().delay(tone(hertz, -around, 320 + 2 * around).tobytes(), samples)
    error = math.dist(array("h", delayed), tone(hertz, -samples, 320)) / math.sqrt(320)
    assert error < 0.01 * TONE_LEVEL


def run(distortion: float) -> tuple[list[Block], Samples]:
    """Return the blocks of three utterances, and the near speech that the microphone hears too in the last one."""
    played = np.concatenate([to_samples(spoken(text, DEVICE_VOICE), DEVICE_LEVEL) for text in DEVICE_TEXTS[:3]])
    played = played[: len(played) // FRAME * FRAME]
    echo = 0.5 * np.concatenate([np.zeros(round(DELAY_SECONDS * RATE)), played])[: len(played)]
    near = np.zeros(len(played))
    command = to_samples(spoken("turn off the light in the kitchen", "flite rms"), NEAR_LEVEL)
    near[-len(command) - RATE // 2 : -RATE // 2] = command
    heard = echo + distortion * np.abs(echo) + near  # a speaker that distorts
    reference, blocks = EchoReference(), list[Block]()
    canceller = EchoCanceller(reference, 0.1, DELAY_SECONDS)
    for start in range(0, len(played), FRAME):
        end = start + FRAME
        reference.note_written(played[start:end].astype(np.int16).tobytes(), SPEECH, end / RATE)
        if start >= FRAME:  # the card holds one frame
            reference.captured(start, start / RATE)
            blocks += canceller.process(heard[start - FRAME : start].astype(np.int16).tobytes(), start - FRAME)
    return blocks, near


def levels(blocks: list[Block]) -> tuple[float, float]:
    """Return the root mean square after the filter, and after the preprocessor too."""
    samples = np.frombuffer(b"".join(block.pcm for block in blocks), np.int16).astype(float)
    return float(np.sqrt(np.mean([block.level**2 for block in blocks]))), float(np.sqrt(np.mean(samples**2)))


def test_weak_return_loss_suppresses_the_rest_of_the_echo_and_keeps_near_speech() -> None:
    blocks, near = run(distortion=0.3)
    assert blocks[-1].return_loss_db is not None and blocks[-1].return_loss_db < SUPPRESS_BELOW_DB
    sounding = np.flatnonzero(near)
    first, last = int(sounding[0]) // BLOCK_SAMPLES, int(sounding[-1]) // BLOCK_SAMPLES
    filtered, suppressed = levels([block for block in blocks[:first] if block.return_loss_db is not None])
    assert suppressed < 0.7 * filtered
    filtered, suppressed = levels(blocks[first:last])
    assert suppressed > 0.9 * filtered


def test_strong_return_loss_is_left_alone() -> None:
    blocks, _ = run(distortion=0.0)
    strong = [each for each in blocks if each.return_loss_db is not None and each.return_loss_db > SUPPRESS_BELOW_DB]
    assert len(strong) > 100
    filtered, left = levels(strong)
    assert left == pytest.approx(filtered, rel=1e-6)
