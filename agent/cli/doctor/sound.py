"""Whether the microphone hears and the speaker can be written to."""

from __future__ import annotations

import math
import os
from pathlib import Path

from agent.audio.convert import level
from agent.audio.devices.device import open_sink, open_source
from agent.audio.format import SPEECH, Format
from agent.cli.doctor.config import line_of
from agent.cli.doctor.finding import BROKEN, DOUBTFUL, FINE, Finding
from agent.errors import AgentError, DeviceError
from agent.settings.loader import Loaded

LISTEN_SECONDS = 0.6
REPLY = Format(24000)
_ABSENT = ("Cannot get card index", "cannot find card", "Connection refused")
"""What ALSA says of a card, or of a sound server, that is not there; of one that is in use it says other things."""


def check_microphone(loaded: Loaded, *, in_use: bool = False) -> Finding:
    """Opens the microphone and listens for a moment. ``in_use``: the daemon runs and may hold it."""
    settings, subject = loaded.config.microphone, "microphone"
    if settings.device == "none":
        return Finding(subject, FINE, "none, as configured")
    try:
        source = open_source(settings.device, settings.frame_seconds)
        try:
            heard = b"".join(source.read() for _ in range(math.ceil(LISTEN_SECONDS / settings.frame_seconds)))
        finally:
            source.close()
    except AgentError as error:
        return _refused(loaded, subject, error, in_use)
    mean, peak = level(heard)
    card = getattr(source, "format", None)
    rate = f", the card runs at {card.rate} Hz" if card is not None else ""
    saw = f"{settings.device}: {SPEECH.seconds_of(len(heard)):.1f} s heard, {_decibels(mean)}{rate}"
    if not peak and not settings.device.startswith("file:"):
        return Finding(subject, DOUBTFUL, f"{saw}: not even noise", "alsamixer -V capture (unmute with the space bar)")
    if peak >= 32767:
        return Finding(subject, DOUBTFUL, f"{saw}: too loud", "alsamixer -V capture (turn the capture level down)")
    return Finding(subject, FINE, saw)


def check_speaker(loaded: Loaded, *, in_use: bool = False) -> Finding:
    """Opens the speaker and plays a moment of silence."""
    settings, subject = loaded.config.speaker, "speaker"
    if settings.device == "none":
        return Finding(subject, FINE, "none, as configured")
    if settings.device.startswith("file:"):
        return _file(loaded, Path(settings.device.removeprefix("file:")))
    try:
        sink = open_sink(settings.device, REPLY, settings.period_seconds, settings.buffer_seconds)
        try:
            sink.write(bytes(REPLY.bytes_of(0.1)))
            sink.drain()
        finally:
            sink.close()
    except AgentError as error:
        return _refused(loaded, subject, error, in_use)
    card = getattr(sink, "card_format", None)
    rate = f", the card runs at {card.rate} Hz" if card is not None else ""
    saw = f"{settings.device}: takes sound{rate}, volume {settings.volume} percent"
    if not settings.volume:
        return Finding(subject, DOUBTFUL, f"{saw}: nothing will be heard", line_of(loaded, "speaker.volume"), own=True)
    return Finding(subject, FINE, saw)


def _file(loaded: Loaded, path: Path) -> Finding:
    target = path if path.exists() else path.parent
    if target.is_dir() if target is path else not target.is_dir():
        saw = f"{path} is no file that could be written"
    elif os.access(path.parent, os.W_OK | os.X_OK) and os.access(target, os.W_OK):
        return Finding("speaker", FINE, f"records into {path}")
    else:
        saw = f"{path} cannot be written by this user ({os.geteuid()})"
    cure = f"sudo chown {os.geteuid()} {path.parent}, or another path at {line_of(loaded, 'speaker.device')}"
    return Finding("speaker", BROKEN, saw, cure, own=True)


def _refused(loaded: Loaded, subject: str, error: AgentError, in_use: bool) -> Finding:
    key = line_of(loaded, f"{subject}.device")
    lost = isinstance(error, DeviceError) and error.lost
    if lost and in_use and not any(words in str(error) for words in _ABSENT):
        return Finding(subject, FINE, f"the running daemon has it ({error})")
    if "PyAudio" in str(error):
        return Finding(subject, BROKEN, str(error), "sudo apt install libportaudio2 python3-pyaudio")
    if "takes none of the formats" in str(error):
        cure = f"write plughw:CARD=NAME,DEV=0 (a line of voice-agent devices) at {key}: ALSA converts then"
        return Finding(subject, BROKEN, str(error), cure, own=True)
    if lost:
        cure = f"plug it in, or end who uses it (fuser -v /dev/snd/*), or take a line of voice-agent devices for {key}"
        return Finding(subject, BROKEN, str(error), cure)
    return Finding(subject, BROKEN, str(error), f"choose a line of voice-agent devices for {key}", own=True)


def _decibels(mean: float) -> str:
    return f"level {20 * math.log10(mean / 32768):.0f} dB" if mean else "no level at all"
