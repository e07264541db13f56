"""``voice-agent devices``: the sound cards there are, and the line to write for each."""

from __future__ import annotations

import contextlib
import json
import math
import queue
from array import array
from dataclasses import asdict, dataclass, replace

from agent.audio.convert import measure_level
from agent.audio.devices.device import Device, list_devices, open_source
from agent.audio.format import SPEECH, Format
from agent.audio.level_meter import MIN_DECIBELS, Level, LevelMeter, clipped, decibels
from agent.cli.interrupts import hush_signals
from agent.cli.local_server import local_server
from agent.cli.play import play
from agent.cli.say import speak
from agent.pipeline.capture.vad import create_detector
from agent.pipeline.events import Event
from agent.pipeline.playback.fader import ramp
from agent.settings.model import Config
from agent.system.text import escape


def devices(*, as_json: bool = False) -> int:
    """Raises ``DeviceError`` where PortAudio cannot be asked."""
    found = list_devices()
    if as_json:
        print(json.dumps([asdict(device) for device in found]))
        return 0
    if not found:
        print("no sound card: microphone.device and speaker.device may still be file:PATH.wav or none")
        return 0
    for device in found:
        print(escape(device.name))
        print(f"    {_abilities(device)}")
        print(f"    {escape(device.line)}")
    return 0


def _abilities(device: Device) -> str:
    sides = [
        f"{count} channel{'s' if count > 1 else ''} {side}"
        for count, side in ((device.inputs, "in"), (device.outputs, "out"))
        if count
    ]
    rates = ", ".join(str(rate) for rate in device.rates) or "no common rate"
    return f"{' and '.join(sides)}; {rates} Hz"


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
            measured = LevelMeter(FRAME_SECONDS)
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


def bar(reading: Level) -> str:
    """``=`` up to the level, ``|`` at the peak, ``.`` at the noise floor, all of the same width."""
    cells = ["=" if place < _place(reading.level) else " " for place in range(WIDTH)]
    cells[min(WIDTH - 1, _place(reading.floor))] = "."
    cells[min(WIDTH - 1, _place(reading.peak))] = "|"
    warning = "CLIPPING" if reading.clipped else "        "
    numbers = f"{reading.level:5.0f} dB  peak {reading.peak:4.0f}  noise {reading.floor:4.0f}"
    return f"[{''.join(cells)}] {numbers}  {warning}"


def _place(decibels: float) -> int:
    return round(max(0.0, decibels - LOWEST) / -LOWEST * WIDTH)


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
    listener = create_detector(vad)
    spoken = sum(listener.is_speech(frame) for frame in frames)
    whole = b"".join(frames)
    root, peak = measure_level(whole)
    at_the_end = clipped(whole)
    if at_the_end > MANY_CLIPPED * len(whole) / SPEECH.frame_bytes:
        heard = "clipping"
    elif spoken >= SPOKEN_FRAMES:
        heard = "speech"
    elif decibels(peak) == MIN_DECIBELS:
        heard = "nothing"
    else:
        heard = "silence" if decibels(root) < QUIET_DECIBELS else "noise"
    return Verdict(heard, round(decibels(root), 1), round(decibels(peak), 1), at_the_end)


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
