"""``voice-agent devices``, ``meter``, ``test-speaker`` and ``test-microphone``: find and test sound devices."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import shutil
import sys
from array import array
from typing import Any

from agent.audio.convert import measure_level
from agent.audio.devices.device import Device, default_device_error, fail_fast, list_devices
from agent.audio.format import SPEECH, Format
from agent.audio.level_meter import MIN_DECIBELS, Level, LevelMeter, count_clipped, decibels
from agent.cli.foreground import crash_error, stop_signals
from agent.cli.handover import socket_paths
from agent.cli.local_server import local_server
from agent.cli.notice import notice
from agent.cli.say import speak, with_announce_mode
from agent.cli.status_table import describe_echo
from agent.client import Client, ClientError
from agent.daemon.capture_builder import open_microphone
from agent.daemon.speech_builder import make_speaker
from agent.errors import AgentError, DeviceError
from agent.pipeline.capture.vad import create_detector
from agent.pipeline.events import (
    DeviceLost,
    Event,
    PlaybackStarted,
    Stop,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
    WorkerCrashed,
)
from agent.pipeline.playback.fader import ramp
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.settings.model import Config
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

# --- devices


def devices(*, as_json: bool = False) -> int:
    """List the sound cards. Raises ``DeviceError`` if PortAudio cannot be used."""
    cards = list_devices()
    if (error := default_device_error()) is not None:
        print(f"voice-agent: {escape(str(error))}", file=sys.stderr)
    if as_json:
        print(json.dumps([card._asdict() for card in cards]))
        return 0
    if not cards:
        print("no sound card: microphone.device and speaker.device can be file:PATH.wav or none")
    for card in cards:
        print(escape(card.name))
        print(f"    {_capabilities(card)}")
        print(f"    {escape(card.line)}")
    return 0


def _capabilities(device: Device) -> str:
    directions = [
        f"{count} channel{'s' if count > 1 else ''} {direction}"
        for count, direction in ((device.inputs, "in"), (device.outputs, "out"))
        if count
    ]
    rates = ", ".join(str(rate) for rate in device.rates) or "no common rate"
    return f"{' and '.join(directions)}; {rates} Hz"


# --- meter

METER_FRAME_SECONDS = 0.05
BAR_WIDTH, MIN_BAR_WIDTH = 40, 10
BAR_MIN_DECIBELS = -60.0


def meter(config: Config, *, seconds: float | None = None, as_json: bool = False) -> int:
    """Show the level of the microphone until a signal.

    Args:
        config: The configuration.
        seconds: Stop after this time; ``None`` for no limit.
        as_json: Print one JSON object per frame instead of a bar that is redrawn.

    Raises:
        AgentError: The microphone cannot be used.
    """
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    frames = clipped_samples = 0
    with (
        stop_signals(inbox.put),
        contextlib.closing(open_microphone(config, METER_FRAME_SECONDS)) as source,
    ):
        level_meter = LevelMeter(METER_FRAME_SECONDS)
        while inbox.empty() and (seconds is None or frames * METER_FRAME_SECONDS < seconds):
            reading = level_meter.feed(source.read())
            frames += 1
            clipped_samples += reading.clipped
            if as_json:
                print(json.dumps({key: round(value, 1) for key, value in reading._asdict().items()}), flush=True)
            else:
                columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
                print(f"\r{bar(reading, columns)}", end="", flush=True)
    if not as_json:
        print(f"\n{clipped_samples} samples were clipped" if clipped_samples else "")
    return 0


def bar(reading: Level, columns: int | None = None) -> str:
    """Return a line of constant width: ``=`` up to the level, ``|`` at the peak, ``.`` at the noise floor.

    Args:
        reading: The levels.
        columns: The width of the terminal. The line does not exceed it: a line that wraps cannot be redrawn in place.
    """
    warning = "CLIPPING" if reading.clipped else "        "
    numbers = f"{reading.level:5.0f} dB  peak {reading.peak:4.0f}  noise {reading.floor:4.0f}  {warning}"
    if columns is None:
        columns = BAR_WIDTH + len(f"[] {numbers}") + 1
    width = min(BAR_WIDTH, columns - len(f"[] {numbers}") - 1)  # one column for the cursor
    if width < MIN_BAR_WIDTH:
        return numbers[: columns - 1]
    cells = ["=" if position < _position(reading.level, width) else " " for position in range(width)]
    cells[min(width - 1, _position(reading.floor, width))] = "."
    cells[min(width - 1, _position(reading.peak, width))] = "|"
    return f"[{''.join(cells)}] {numbers}"


def _position(decibels: float, width: int) -> int:
    return round(max(0.0, decibels - BAR_MIN_DECIBELS) / -BAR_MIN_DECIBELS * width)


# --- test-microphone

RECORD_SECONDS = 3.0
RECORD_FRAME_SECONDS = 0.1
MAX_CLIPPED_SHARE = 0.0005
"""Share of clipped samples up to which a recording is good: a single click does not mean a wrong microphone level."""

MIN_SPEECH_FRAMES = 3
SILENCE_DECIBELS = -60.0

VERDICTS = {
    "clipping": "the recording is too loud and clips: turn the microphone down, or speak from further away",
    "speech": "the recording contains speech",
    "nothing": "the recording is digital silence: the microphone is muted, or the wrong device is configured",
    "silence": "the recording is silent: no speech, or the microphone is turned down",
    "noise": "the recording contains sound, but no speech",
}


class Verdict(NamedTuple):
    """The judgment of a recording. Immutable. The field names are those of ``test-microphone --json``.

    Args:
        heard: A key of ``VERDICTS``.
        level: The RMS level in dBFS.
        peak: The peak level in dBFS.
        clipped: The number of clipped samples.
    """

    heard: str
    level: float
    peak: float
    clipped: int


def test_microphone(config: Config, *, as_json: bool = False) -> int:
    """Record, judge the recording and play it; show the echo measurements of the running daemon.

    Raises:
        AgentError: A device cannot be used.
    """
    with contextlib.closing(open_microphone(config, RECORD_FRAME_SECONDS)) as source:
        if not as_json:
            device = config.microphone.device
            print(f"speak now: recording {RECORD_SECONDS:g} s from the microphone {device!r}", flush=True)
        frames = [source.read() for _ in range(round(RECORD_SECONDS / RECORD_FRAME_SECONDS))]
    verdict = judge(frames, config.conversation.vad)
    has_canceller = config.echo.canceller != "none"
    echo = daemon_status(config).get("echo") if has_canceller else None
    if as_json:
        print(json.dumps(verdict._asdict() | ({"echo": echo} if has_canceller else {})), flush=True)
    else:
        print(f"{VERDICTS[verdict.heard]} (level {verdict.level:.0f} dB, peak {verdict.peak:.0f} dB)", flush=True)
        if has_canceller:
            measures = "measured by the daemon, which does not run" if echo is None else describe_echo(echo)
            print(f"echo: {measures}", flush=True)
    _warn_if_inaudible(config)
    started = "" if as_json else f"playing the recording on the speaker {config.speaker.device!r}"
    _play(config, b"".join(frames), SPEECH, started)
    return 0


def judge(frames: list[bytes], vad: str) -> Verdict:
    """Return the most serious verdict that applies.

    Args:
        frames: 16 kHz mono s16le.
        vad: The name of the voice activity detector.
    """
    activity = create_detector(vad)
    speech_frames = sum(activity.is_speech(frame) for frame in frames)
    pcm = b"".join(frames)
    rms, peak = measure_level(pcm)
    clipped_samples = count_clipped(pcm)
    if clipped_samples > MAX_CLIPPED_SHARE * len(pcm) / SPEECH.frame_bytes:
        heard = "clipping"
    elif speech_frames >= MIN_SPEECH_FRAMES:
        heard = "speech"
    elif decibels(peak) == MIN_DECIBELS:
        heard = "nothing"
    else:
        heard = "silence" if decibels(rms) < SILENCE_DECIBELS else "noise"
    return Verdict(heard, round(decibels(rms), 1), round(decibels(peak), 1), clipped_samples)


# --- test-speaker

TONE_FORMAT = Format(48000)
TONES_HERTZ = (440, 660, 880)
TONE_SECONDS, PAUSE_SECONDS, RAMP_SECONDS = 0.4, 0.1, 0.01
AMPLITUDE = 8000
SENTENCE = "If you can hear this sentence, the speaker works."


def test_speaker(config: Config) -> int:
    """Play tones and a sentence. Raises ``AgentError`` if the speaker or the local voice cannot be used."""
    _warn_if_inaudible(config)
    tones = ", ".join(f"{hertz} Hz" for hertz in TONES_HERTZ)
    started = f"three tones on the speaker {config.speaker.device!r}: {tones}"
    pause = bytes(TONE_FORMAT.bytes_of(PAUSE_SECONDS))
    if not _play(config, b"".join(tone(hertz) + pause for hertz in TONES_HERTZ), TONE_FORMAT, started):
        return 0
    print(f"a sentence: {SENTENCE}", flush=True)
    config = with_announce_mode(config._replace(synthesis=config.synthesis._replace(services=("local",))))
    with local_server(config) as local:
        speak(config, local, SENTENCE)
    print("done. Without sound, check voice-agent devices and the volume of the card.", flush=True)
    return 0


def tone(hertz: int) -> bytes:
    """Return a tone as s16le of ``TONE_FORMAT``, with ramps at both ends against clicks."""
    samples = round(TONE_SECONDS * TONE_FORMAT.rate)
    step = 2 * math.pi * hertz / TONE_FORMAT.rate
    pcm = array("h", (round(AMPLITUDE * math.sin(step * n)) for n in range(samples))).tobytes()
    edge = TONE_FORMAT.bytes_of(RAMP_SECONDS)
    return ramp(pcm[:edge], 0.0, 1.0, 1) + pcm[edge:-edge] + ramp(pcm[-edge:], 1.0, 0.0, 1)


# --- playback

STOP_SECONDS = 5.0
"""Longest wait until the speaker has closed the sound card. Independent of the shutdown timeouts of the daemon."""
_SPARE_FRAMES = 64


def _warn_if_inaudible(config: Config) -> None:
    """Print a warning if the configured volume is 0, or if the running daemon is muted or at volume 0."""
    if config.speaker.volume == 0:
        notice("warning: speaker.volume is 0, nothing is heard. Raise speaker.volume in the configuration")
    status = daemon_status(config)
    muted = status.get("muted")
    if isinstance(muted, list) and "speaker" in muted:
        notice("warning: the speaker of the running daemon is muted: voice-agent unmute speaker")
    elif status.get("volume") == 0 and config.speaker.volume:
        notice("warning: the volume of the running daemon is 0: voice-agent volume 50")


def daemon_status(config: Config) -> dict[str, Any]:
    """Return the status of the running daemon; empty if none answers."""
    try:
        with Client(socket_paths(config.control.socket, os.environ)) as daemon:
            return daemon.status()
    except ClientError:
        return {}


def _play(config: Config, pcm: bytes, format: Format, started: str = "") -> bool:
    """Play to the last sample, or until a signal.

    Args:
        config: The configuration, with the speaker.
        pcm: s16le samples.
        format: Sample rate and channels of ``pcm``.
        started: Printed when the card is open and plays.

    Returns:
        Whether all samples were played.

    Raises:
        AgentError: The speaker cannot be used.
    """
    inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
    # All samples have to fit: they are written before the speaker starts to read.
    ring = RingBuffer(len(pcm) + format.frame_bytes * _SPARE_FRAMES)
    speaker = make_speaker(config, ring, inbox.put, wait_policy=fail_fast)
    stream_id = ring.begin("test", format)
    ring.write(stream_id, pcm)
    ring.end(stream_id)
    ring.close()
    with stop_signals(inbox.put):
        speaker.start()
        try:
            while True:
                match inbox.get():
                    case PlaybackStarted() if started:
                        print(started, flush=True)
                    case UtterancePlayed():
                        return True
                    case UtteranceCancelled():
                        return False
                    case Stop(name):
                        ring.clear(name)
                    case WorkerCrashed() as event:
                        raise crash_error(event)
                    case DeviceLost(reason=reason):
                        raise DeviceError(reason, lost=True)
                    case UtteranceFailed(reason=reason):
                        raise AgentError(reason)
        finally:
            speaker.abort()
            speaker.join(Deadline(STOP_SECONDS))
