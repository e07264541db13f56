"""Provides chimes and other sounds, computed from notes or read from a WAV file of the configuration."""

from __future__ import annotations

import logging
import math
from array import array
from collections.abc import Sequence
from functools import lru_cache

from agent.audio.convert import FormatConverter
from agent.audio.format import SAMPLE_BYTES, Format
from agent.audio.wav_file import WavFile
from agent.errors import AudioError
from agent.pipeline.playback.ring_buffer import Playout, RingBuffer
from agent.pipeline.settings import NO_CHIME
from agent.system.named_tuple import NamedTuple

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.15
"""Silence between the chime and the speech."""
MAX_FILE_SECONDS = 10.0
"""The rest of a longer file is not played."""
_AMPLITUDE = 9000
_ATTACK_SECONDS = 0.004
_OVERTONES = ((1.0, 1.0), (2.0, 0.35), (3.0, 0.12))
"""Multiples of the frequency, and their amplitudes."""


class _Note(NamedTuple):
    """One note: the frequency in Hz, the start and the length. Immutable.

    ``decay_seconds`` is the time in which the amplitude falls to 1/e.
    """

    frequency: float
    start_seconds: float
    seconds: float
    decay_seconds: float


NOTES = {
    "ding": (_Note(1046.5, 0.0, 0.6, 0.15),),
    "ding-dong": (_Note(784.0, 0.0, 0.45, 0.15), _Note(622.3, 0.4, 0.8, 0.22)),
    "gong": (_Note(196.0, 0.0, 1.4, 0.4), _Note(294.0, 0.0, 1.0, 0.25)),
    "alert": (_Note(988.0, 0.0, 0.15, 1.0), _Note(988.0, 0.25, 0.15, 1.0), _Note(988.0, 0.5, 0.15, 1.0)),
}


_FILLER_SOUND = (_Note(392.0, 0.0, 0.09, 0.03), _Note(440.0, 0.13, 0.1, 0.03))
_WAKE_SOUND = (_Note(880.0, 0.0, 0.07, 0.05), _Note(1318.5, 0.06, 0.09, 0.05))


@lru_cache(maxsize=2)
def wake_sound(format: Format) -> bytes:
    """Return the sound after a wake word (s16le): short and rising, like a question."""
    return _render(_WAKE_SOUND, format)


@lru_cache(maxsize=2)
def filler_sound(format: Format) -> bytes:
    """Return the sound while a reply is awaited (s16le): short, low and soft."""
    return _render(_FILLER_SOUND, format)


def play_sound(ring: RingBuffer, format: Format, *, is_filler: bool) -> int:
    """Write the wake sound or the filler sound to the ring buffer; return its stream id."""
    name, pcm = ("filler sound", filler_sound(format)) if is_filler else ("wake sound", wake_sound(format))
    stream_id = ring.begin(name, format, Playout(is_sound=True))
    ring.write(stream_id, pcm)
    ring.end(stream_id)
    return stream_id


@lru_cache(maxsize=4)
def chime_pcm(chime: str, format: Format) -> bytes:
    """Return a chime (s16le) in the format of the speech that follows; nothing if a file cannot be read.

    Args:
        chime: ``none``, a name of ``NOTES`` or ``file:PATH.wav``.
        format: The format of the result.
    """
    if chime == NO_CHIME:
        return b""
    try:
        pcm = _file(chime.removeprefix("file:"), format) if chime.startswith("file:") else _render(NOTES[chime], format)
    except (AudioError, OSError) as error:
        log.warning("chime: not played, chime=%s, %s", chime, error)
        return b""
    return pcm + bytes(format.bytes_of(PAUSE_SECONDS))


def _render(notes: Sequence[_Note], format: Format) -> bytes:
    mono = Format(format.rate)
    length = max(note.start_seconds + note.seconds for note in notes)
    samples = array("h", bytes(mono.bytes_of(length)))
    for note in notes:
        first = round(note.start_seconds * format.rate)
        count = min(round(note.seconds * format.rate), len(samples) - first)
        for index in range(count):
            at = index / format.rate
            # Ramps at both ends: a tone that starts or ends at full amplitude clicks.
            gain = min(1.0, at / _ATTACK_SECONDS, (count - index) / format.rate / _ATTACK_SECONDS)
            gain *= math.exp(-at / note.decay_seconds)
            tone = sum(level * math.sin(2 * math.pi * note.frequency * factor * at) for factor, level in _OVERTONES)
            samples[first + index] += round(_AMPLITUDE * gain * tone)
    return FormatConverter(mono, format).feed(samples.tobytes())


def _file(path: str, format: Format) -> bytes:
    with open(path, "rb") as file:
        wav = WavFile(file)
        source = Format(wav.format.rate, wav.format.channels)
        limit = source.bytes_of(MAX_FILE_SECONDS)
        pcm = bytearray()
        for piece in wav.read():
            pcm += piece
            if len(pcm) >= limit:
                log.warning("chime: cut, max_seconds=%g, path=%s", MAX_FILE_SECONDS, path)
                break
    converter = FormatConverter(source, format)
    converted = converter.feed(bytes(pcm[:limit])) + converter.finish()
    return converted[: len(converted) - len(converted) % (SAMPLE_BYTES * format.channels)]
