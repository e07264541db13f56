"""``voice-agent test-microphone``: records three seconds, says what it heard, and plays it back."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass

from agent.audio.convert import level
from agent.audio.devices import open_source
from agent.audio.format import SPEECH
from agent.audio.meter import LOWEST_DECIBELS, clipped, decibels
from agent.audio.vad import detector
from agent.commands.playing import play
from agent.config.model import Config

SECONDS = 3.0
FRAME_SECONDS = 0.1
MANY_CLIPPED = 0.0005
"""Of all samples; a single click is none of the microphone's faults."""

SPOKEN_FRAMES = 3
QUIET_DECIBELS = -60.0

WORDS = {
    "clipping": "it is too loud and clips: turn the microphone down, or speak from further away",
    "speech": "it heard speech",
    "nothing": "it heard nothing at all, not even noise: it is muted, or another device is the right one",
    "silence": "it heard silence: nobody spoke, or it is turned down",
    "noise": "it heard sound, but no speech",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """``heard``: a key of ``WORDS``; ``level`` and ``peak`` in decibels of full scale."""

    heard: str
    level: float
    peak: float
    clipped: int


def try_microphone(config: Config, *, as_json: bool = False) -> int:
    """Raises ``AgentError`` where the microphone or the speaker cannot be used."""
    if not as_json:
        print(f"speak now: {SECONDS:g} s of the microphone {config.microphone.device!r}", flush=True)
    with contextlib.closing(open_source(config.microphone.device, FRAME_SECONDS)) as source:
        frames = [source.read() for _ in range(round(SECONDS / FRAME_SECONDS))]
    verdict = judge(frames, config.conversation.vad)
    if as_json:
        print(json.dumps(asdict(verdict)), flush=True)
    else:
        print(f"{WORDS[verdict.heard]} (level {verdict.level:.0f} dB, peak {verdict.peak:.0f} dB)", flush=True)
        print(f"this is what it recorded, on the speaker {config.speaker.device!r}", flush=True)
    play(config, b"".join(frames), SPEECH)
    return 0


def judge(frames: list[bytes], vad: str) -> Verdict:
    """What was heard in these frames of 16 kHz mono; the worst first."""
    listener = detector(vad)
    spoken = sum(listener.speech(frame) for frame in frames)
    whole = b"".join(frames)
    root, peak = level(whole)
    at_the_end = clipped(whole)
    if at_the_end > MANY_CLIPPED * len(whole) / SPEECH.frame_bytes:
        heard = "clipping"
    elif spoken >= SPOKEN_FRAMES:
        heard = "speech"
    elif decibels(peak) == LOWEST_DECIBELS:
        heard = "nothing"
    else:
        heard = "silence" if decibels(root) < QUIET_DECIBELS else "noise"
    return Verdict(heard, round(decibels(root), 1), round(decibels(peak), 1), at_the_end)
