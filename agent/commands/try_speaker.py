"""``voice-agent test-speaker``: three tones and a sentence, through the configured speaker."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace

from agent.audio.format import Format
from agent.audio.gain import ramp
from agent.commands.playing import play
from agent.commands.say import speak
from agent.commands.servers import local_server
from agent.config.model import Config

FORMAT = Format(48000)
TONES_HERTZ = (440, 660, 880)
TONE_SECONDS, PAUSE_SECONDS, EDGE_SECONDS = 0.4, 0.1, 0.01
AMPLITUDE = 8000
SENTENCE = "If you can hear this sentence, the speaker works."


def try_speaker(config: Config) -> int:
    """Says what it does before it does it. Raises ``AgentError`` where the speaker or the local voice is missing."""
    tones = ", ".join(f"{hertz} Hz" for hertz in TONES_HERTZ)
    print(f"three tones on the speaker {config.speaker.device!r}: {tones}", flush=True)
    pause = bytes(FORMAT.bytes_of(PAUSE_SECONDS))
    if not play(config, b"".join(tone(hertz) + pause for hertz in TONES_HERTZ), FORMAT):
        return 0
    print(f"a sentence: {SENTENCE}", flush=True)
    # Nobody listens here, and no service far away is to be asked.
    config = replace(
        config,
        conversation=replace(config.conversation, mode="announce"),
        synthesis=replace(config.synthesis, services=("local",)),
    )
    with local_server(config) as local:
        speak(config, local, SENTENCE)
    print("done: if you heard nothing, look at `voice-agent devices` and at the volume of the card", flush=True)
    return 0


def tone(hertz: int) -> bytes:
    """Soft at both ends, so that nothing but the tone is heard."""
    count = round(TONE_SECONDS * FORMAT.rate)
    turn = 2 * math.pi * hertz / FORMAT.rate
    pcm = array("h", (round(AMPLITUDE * math.sin(turn * n)) for n in range(count))).tobytes()
    edge = FORMAT.bytes_of(EDGE_SECONDS)
    return ramp(pcm[:edge], 0.0, 1.0, 1) + pcm[edge:-edge] + ramp(pcm[-edge:], 1.0, 0.0, 1)
