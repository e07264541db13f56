"""Checks of the sound devices: record from the microphone and play to the speaker for a moment."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

from agent.audio.convert import measure_level
from agent.audio.devices.device import is_card, open_sink, open_source
from agent.audio.format import SPEECH, Format
from agent.cli.doctor.config import key_with_origin
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult
from agent.errors import AgentError, DeviceError, DeviceProblem
from agent.settings.loader import Loaded
from agent.settings.model import Config

RECORD_SECONDS = 0.6
PLAY_SECONDS = 0.1
PLAY_FORMAT = Format(24000)
MAX_SAMPLE = 32767
LIBRARY_SECONDS = 15.0
"""Timeout of the start of PortAudio, which takes less than a second on a small machine."""


def check_library(
    config: Config, directory: Path | None = None, seconds: float = LIBRARY_SECONDS
) -> CheckResult | None:
    """Return an error if PortAudio waits in libjack for a lock that no process holds; ``None`` if it starts.

    A program that is killed while libjack creates its database leaves an empty database. Every later start of PortAudio
    by the same user then waits until the database is complete (measured with libjack 1.9.21: ten minutes).

    Args:
        config: The configuration.
        directory: The database of libjack; by default that of this user.
        seconds: Timeout of the start.
    """
    mode = config.conversation.mode
    devices = [config.microphone.device] * (mode != "announce") + [config.speaker.device] * (mode != "captions")
    directory = directory or Path(f"/dev/shm/jack_db-{os.geteuid()}")
    if not directory.exists() or not any(is_card(device) for device in devices):
        return None
    program = "import pyaudio; pyaudio.PyAudio().terminate()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    try:
        # The checks of the devices report other failures. A process that waits can be killed: it holds no lock.
        subprocess.run([sys.executable, "-P", "-c", program], env=environment, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        saw = f"PortAudio does not start within {seconds:g} s: libjack waits for {directory}, left by a killed program"
        return CheckResult("sound library", ERROR, saw, f"end programs that use JACK, then sudo rm -r {directory}")
    return None


def check_microphone(loaded: Loaded, *, in_use: bool = False) -> CheckResult:
    """Record ``RECORD_SECONDS`` and judge the level.

    Args:
        loaded: The configuration.
        in_use: Whether the daemon runs and may hold the device.
    """
    settings, subject = loaded.config.microphone, "microphone"
    if settings.device == "none":
        return CheckResult(subject, OK, "none, as configured")
    try:
        source = open_source(settings.device, settings.frame_seconds, settings.channel, settings.gain_db)
        try:
            pcm = b"".join(source.read() for _ in range(math.ceil(RECORD_SECONDS / settings.frame_seconds)))
        finally:
            source.close()
    except AgentError as error:
        return _failed(loaded, subject, error, in_use)
    mean, peak = measure_level(pcm)
    card_format = getattr(source, "format", None)
    rate = f", the card runs at {card_format.rate} Hz" if card_format is not None else ""
    saw = f"{settings.device}: {SPEECH.seconds_of(len(pcm)):.1f} s recorded, {_decibels(mean)}{rate}"
    if not peak and not settings.device.startswith("file:"):
        cure = "alsamixer -V capture (unmute with the space bar)"
        return CheckResult(subject, WARNING, f"{saw}: digital silence, not even noise", cure)
    if peak >= MAX_SAMPLE:
        return CheckResult(subject, WARNING, f"{saw}: clipping", "alsamixer -V capture (turn the capture level down)")
    return CheckResult(subject, OK, saw)


def check_speaker(loaded: Loaded, *, in_use: bool = False) -> CheckResult:
    """Play ``PLAY_SECONDS`` of silence; for a WAV file, check only that it can be written.

    Args:
        loaded: The configuration.
        in_use: Whether the daemon runs and may hold the device.
    """
    settings, subject = loaded.config.speaker, "speaker"
    if settings.device == "none":
        return CheckResult(subject, OK, "none, as configured")
    if settings.device.startswith("file:"):
        return _check_file(loaded, Path(settings.device.removeprefix("file:")))
    try:
        sink = open_sink(settings.device, PLAY_FORMAT, settings.period_seconds, settings.buffer_seconds)
        try:
            sink.write(bytes(PLAY_FORMAT.bytes_of(PLAY_SECONDS)))
            sink.drain()
        finally:
            sink.close()
    except AgentError as error:
        return _failed(loaded, subject, error, in_use)
    card_format = getattr(sink, "card_format", None)
    rate = f", the card runs at {card_format.rate} Hz" if card_format is not None else ""
    saw = f"{settings.device}: plays{rate}, volume {settings.volume} percent"
    if not settings.volume:
        cure = f"raise {key_with_origin(loaded, 'speaker.volume')}"
        return CheckResult(subject, WARNING, f"{saw}: inaudible", cure, own=True)
    return CheckResult(subject, OK, saw)


def _check_file(loaded: Loaded, path: Path) -> CheckResult:
    target = path if path.exists() else path.parent
    if path.is_dir() or not path.parent.is_dir():
        saw = f"{path} is not a file in an existing directory"
    elif os.access(path.parent, os.W_OK | os.X_OK) and os.access(target, os.W_OK):
        return CheckResult("speaker", OK, f"records into {path}")
    else:
        saw = f"{path} cannot be written by this user ({os.geteuid()})"
    key = key_with_origin(loaded, "speaker.device")
    cure = f"write a path in a directory that this user may write to at {key}"
    return CheckResult("speaker", ERROR, saw, cure, own=True)


def _failed(loaded: Loaded, subject: str, error: AgentError, in_use: bool) -> CheckResult:
    if not isinstance(error, DeviceError):
        key = key_with_origin(loaded, f"{subject}.device")
        return CheckResult(subject, ERROR, str(error), f"choose a line of voice-agent devices for {key}", own=True)
    text, problem, key = error.reason, error.problem, key_with_origin(loaded, f"{subject}.device")
    if error.cure and problem is not None and problem is not DeviceProblem.ABSENT:
        is_own = problem in (DeviceProblem.NO_FORMAT, DeviceProblem.CONFIGURATION)
        return CheckResult(subject, ERROR, text, error.cure.replace(f"{subject}.device", key), own=is_own)
    if error.lost and in_use and problem is not DeviceProblem.ABSENT:
        return CheckResult(subject, OK, f"in use by the running daemon ({text})")
    if problem is DeviceProblem.NO_LIBRARY:
        return CheckResult(subject, ERROR, text, "sudo apt install libportaudio2 python3-pyaudio")
    if error.lost:
        cure = (
            "plug the device in, or end the program that uses it (fuser -v /dev/snd/*), "
            f"or choose a line of voice-agent devices for {key}"
        )
        return CheckResult(subject, ERROR, text, cure)
    return CheckResult(subject, ERROR, text, f"choose a line of voice-agent devices for {key}", own=True)


def _decibels(mean: float) -> str:
    return f"level {20 * math.log10(mean / 32768):.0f} dB" if mean else "no level at all"
