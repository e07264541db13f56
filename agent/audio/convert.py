"""Converts the encoding, sample rate (with libspeexdsp), channels and gain of PCM audio, and measures its level.

Audio is signed 16-bit little-endian PCM (s16le) unless a function names another encoding. A function that
changes the audio drops an incomplete frame at the end of its input; ``Resampler`` keeps it for the next piece.
"""

from __future__ import annotations

import functools
import math
import operator
import weakref
from array import array
from functools import cache
from typing import TYPE_CHECKING

from agent.audio.format import SAMPLE_BYTES, Format
from agent.errors import AudioError

if TYPE_CHECKING:
    import ctypes

LIBRARY = "libspeexdsp.so.1"
PACKAGE = "libspeexdsp1"

_MAX_SAMPLE, _MIN_SAMPLE = 32767, -32768
_PIECE_FRAMES = 4096
# Energy of the mean of the channels, divided by the energy of the loudest channel. Below _CANCELED the loudest channel
# replaces the mean; from _AUDIBLE on the mean is used again. With sound in one of six channels the ratio is 0.028.
_CANCELED, _AUDIBLE = 0.02, 0.1
# Output frames in addition to the ratio of the rates: the resampler's fractional position adds at most one frame.
_SPARE_FRAMES = 64
_MAX_TAIL_PIECES = 100


class Resampler:
    """Converts s16le PCM from one sample rate to another, piece by piece. Not thread-safe; one thread owns it.

    ``feed`` and ``finish`` together return ``round(input frames * to_rate / from_rate)`` frames, which are aligned with
    the input. After ``finish`` the object can be used for the next stream. If the rates are equal, ``feed`` returns its
    input unchanged.

    Args:
        from_rate: Input rate in Hz.
        to_rate: Output rate in Hz.
        channels: Interleaved channels of input and output.
        quality: libspeexdsp's quality, 0 to 10. Measured at 4: noise and distortion stay more than 80 dB below a tone,
            ``feed`` lags 1 to 4 ms behind, one second of audio costs 0.5 to 2.6 ms of an x86 core.

    Raises:
        AudioError: If the library is missing (the message names the package), or a rate or the number of channels is
            out of range.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int = 1, quality: int = 4) -> None:
        self.from_rate, self.to_rate = Format(from_rate, channels).rate, Format(to_rate, channels).rate
        self.channels = channels
        self._frame_bytes = SAMPLE_BYTES * channels
        self._fragment = b""
        self._frames_in = self._frames_out = 0  # since construction or the last finish()
        self._state: int | None = None
        if from_rate == to_rate:
            return
        import ctypes  # imported here because most streams keep their rate

        self._library = load_speexdsp()
        status = ctypes.c_int(0)
        self._state = self._library.speex_resampler_init(channels, from_rate, to_rate, quality, ctypes.byref(status))
        if not self._state:
            reason = self._library.speex_resampler_strerror(status.value).decode("ascii", "replace")
            raise AudioError(
                f"cannot convert audio from {from_rate} Hz to {to_rate} Hz: {reason}. Use another sample rate."
            )
        # The state is freed with the object: a stream may be canceled at any time, without a call of finish().
        weakref.finalize(self, self._library.speex_resampler_destroy, self._state).atexit = False
        # Without this the output begins with the delay of the filter (speex_resampler.h, "skip_zeros").
        self._library.speex_resampler_skip_zeros(self._state)

    def feed(self, pcm: bytes) -> bytes:
        """Convert ``pcm`` and return the audio that is ready; the output lags a few milliseconds behind the input."""
        if self._state is None:
            return pcm
        pcm = self._fragment + pcm if self._fragment else pcm
        whole = len(pcm) - len(pcm) % self._frame_bytes
        self._fragment = pcm[whole:]
        ready = self._convert(pcm[:whole] if whole < len(pcm) else pcm)
        self._frames_in += whole // self._frame_bytes
        self._frames_out += len(ready) // self._frame_bytes
        return ready

    def finish(self) -> bytes:
        """Return the audio that the filter still holds, and reset the object."""
        if self._state is None:
            return b""
        missing = self._expected_frames() - self._frames_out
        tail = b""
        # libspeexdsp has no flush function: silence as input pushes the rest out. The filter has a few hundred samples,
        # so one or two pieces suffice.
        for _ in range(_MAX_TAIL_PIECES):
            if len(tail) >= missing * self._frame_bytes:
                break
            tail += self._convert(bytes(_PIECE_FRAMES * self._frame_bytes))
        self._fragment, self._frames_in, self._frames_out = b"", 0, 0
        self._library.speex_resampler_reset_mem(self._state)
        self._library.speex_resampler_skip_zeros(self._state)
        return tail[: max(0, missing) * self._frame_bytes]

    def _expected_frames(self) -> int:
        return (2 * self._frames_in * self.to_rate + self.from_rate) // (2 * self.from_rate)

    def _convert(self, pcm: bytes) -> bytes:
        """Convert whole frames in pieces of bounded size, so that no buffer grows with the input."""
        import ctypes

        pieces = []
        step = _PIECE_FRAMES * self._frame_bytes
        start = 0
        while start < len(pcm):
            piece = pcm[start : start + step]
            consumed = ctypes.c_uint32(len(piece) // self._frame_bytes)
            produced = ctypes.c_uint32(consumed.value * self.to_rate // self.from_rate + _SPARE_FRAMES)
            out = ctypes.create_string_buffer(produced.value * self._frame_bytes)
            self._library.speex_resampler_process_interleaved_int(
                self._state, piece, ctypes.byref(consumed), out, ctypes.byref(produced)
            )
            if not consumed.value and not produced.value:
                raise AudioError(
                    f"cannot resample audio: {LIBRARY} makes no progress. Reinstall the package {PACKAGE}."
                )
            pieces.append(out.raw[: produced.value * self._frame_bytes])
            start += consumed.value * self._frame_bytes
        return b"".join(pieces)


@functools.cache
def load_speexdsp() -> ctypes.CDLL:
    """Load libspeexdsp and declare the functions of its resampler.

    Raises:
        AudioError: If the library is missing (the message names the package).
    """
    import ctypes

    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise AudioError(
            f"cannot change the sample rate: {LIBRARY} cannot be loaded ({error}). Install the package {PACKAGE}."
        ) from error
    count = ctypes.POINTER(ctypes.c_uint32)
    for name, result, arguments in (
        ("init", ctypes.c_void_p, [ctypes.c_uint32] * 3 + [ctypes.c_int, ctypes.POINTER(ctypes.c_int)]),
        ("destroy", None, [ctypes.c_void_p]),
        ("skip_zeros", ctypes.c_int, [ctypes.c_void_p]),
        ("reset_mem", ctypes.c_int, [ctypes.c_void_p]),
        ("strerror", ctypes.c_char_p, [ctypes.c_int]),
        (
            "process_interleaved_int",
            ctypes.c_int,
            [ctypes.c_void_p, ctypes.c_char_p, count, ctypes.c_char_p, count],
        ),
    ):
        function = getattr(library, f"speex_resampler_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def to_mono(pcm: bytes, channels: int) -> bytes:
    """Return the mean of all channels; mono passes through unchanged."""
    if channels == 1:
        return pcm
    samples = _samples(pcm, channels)
    if channels == 2:
        pairs = zip(samples[::2], samples[1::2], strict=True)
        return array("h", [(left + right) >> 1 for left, right in pairs]).tobytes()
    frames = zip(*(samples[channel::channels] for channel in range(channels)), strict=True)
    return array("h", [sum(frame) // channels for frame in frames]).tobytes()


def pick_channel(pcm: bytes, channels: int, channel: int) -> bytes:
    """Return one channel of s16le audio; ``channel`` counts from 1. Mono is returned unchanged."""
    return pcm if channels == 1 else _samples(pcm, channels)[channel - 1 :: channels].tobytes()


def gain_percent(decibels: float) -> int:
    """Return the ``percent`` argument of ``scale`` for a gain in decibels."""
    return round(100 * 10 ** (decibels / 20))


class MonoMixer:
    """Mixes channels to mono, or takes the loudest channel if the channels cancel each other out.

    A cable with exchanged wires makes two channels of opposite phase, whose mean is silence. The channel that is the
    loudest at that time is used until the mean is clearly audible again. Not thread-safe; one thread owns it.
    """

    def __init__(self) -> None:
        self._channel: int | None = None  # the channel, from 0, that replaces the mean

    def feed(self, pcm: bytes, channels: int) -> bytes:
        """Return s16le audio of any number of interleaved channels as mono."""
        mono = to_mono(pcm, channels)
        if channels == 1 or not mono:
            return mono
        samples = _samples(pcm, channels)
        energies = [_energy(samples[channel::channels]) for channel in range(channels)]
        loudest = max(energies)
        if self._channel is not None and self._channel >= channels:
            self._channel = None
        limit = loudest * (_CANCELED if self._channel is None else _AUDIBLE)
        if _energy(_samples(mono)) >= limit:
            self._channel = None if loudest else self._channel
        elif self._channel is None:
            self._channel = energies.index(loudest)
        return mono if self._channel is None else samples[self._channel :: channels].tobytes()


def _energy(samples: array[int]) -> int:
    """Return the sum of the squares of all samples."""
    return sum(map(operator.mul, samples, samples))


def to_stereo(pcm: bytes) -> bytes:
    """Return mono audio on both channels."""
    return copy_channels(pcm, 1, 2)


def copy_channels(pcm: bytes, channels: int, target: int) -> bytes:
    """Copy ``channels`` channels to ``target`` channels: channel n of the result is channel n modulo ``channels``."""
    samples = _samples(pcm, channels)
    wide = array("h", bytes(SAMPLE_BYTES * target * (len(samples) // channels)))
    for channel in range(target):
        wide[channel::target] = samples[channel % channels :: channels]
    return wide.tobytes()


def scale(pcm: bytes, percent: int) -> bytes:
    """Multiply all samples by ``percent`` / 100, with clipping; 100 passes through unchanged, 0 returns silence.

    Measured: one second of 48 kHz mono costs 2.5 ms of an x86 core, up to 9 ms above 100 percent.
    """
    if percent == 100:
        return pcm
    if percent <= 0:
        return bytes(len(pcm))
    samples = _samples(pcm)
    if percent < 100:
        return array("h", [(sample * percent + 50) // 100 for sample in samples]).tobytes()
    louder = [(sample * percent + 50) // 100 for sample in samples]
    return array("h", [min(_MAX_SAMPLE, max(_MIN_SAMPLE, sample)) for sample in louder]).tobytes()


def measure_level(pcm: bytes) -> tuple[float, int]:
    """Return root mean square and peak over all channels, both 0 to 32768; zeros for no samples."""
    samples = _samples(pcm)
    if not samples:
        return 0.0, 0
    # hypot is the only function of the standard library that squares and sums in C.
    return math.hypot(*samples) / math.sqrt(len(samples)), max(max(samples), -min(samples))


def _samples(pcm: bytes, channels: int = 1) -> array[int]:
    fragment = len(pcm) % (SAMPLE_BYTES * channels)
    return array("h", pcm[: len(pcm) - fragment] if fragment else pcm)


class FormatConverter:
    """Converts PCM from the format ``source`` to ``target``, piece by piece. Not thread-safe; one thread owns it.

    If the numbers of channels differ, all channels are mixed to one, which a stereo target gets on both channels.

    Raises:
        AudioError: If ``target`` has more than two channels and ``source`` has another number of channels.
    """

    def __init__(self, source: Format, target: Format) -> None:
        self.source, self.target = source, target
        self._mixes = source.channels != target.channels
        if self._mixes and target.channels > 2:
            raise AudioError(f"cannot convert audio from {source} to {target}: use a mono or stereo target format")
        self._resampler = Resampler(source.rate, target.rate, 1 if self._mixes else source.channels)

    def feed(self, pcm: bytes) -> bytes:
        """Convert ``pcm`` (whole frames, ``source`` format); return the audio that is ready (``target`` format)."""
        if self._mixes:
            pcm = to_mono(pcm, self.source.channels)
        return self._upmix(self._resampler.feed(pcm))

    def finish(self) -> bytes:
        """Return the rest of the audio. After it, the converter can be used for the next stream."""
        return self._upmix(self._resampler.finish())

    def _upmix(self, pcm: bytes) -> bytes:
        return to_stereo(pcm) if self._mixes and self.target.channels == 2 else pcm


SAMPLE_WIDTHS = {
    "u8": 1, "mulaw": 1, "alaw": 1,
    "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8,
    "s16be": 2, "s24be": 3, "s32be": 4, "f32be": 4, "f64be": 8,
}  # fmt: skip
"""Bytes of one sample by encoding: unsigned and signed integers, floating point from -1 to 1, and G.711."""


def to_s16le(data: bytes, encoding: str) -> bytes:
    """Convert whole samples in ``encoding`` (a key of ``SAMPLE_WIDTHS``) to s16le.

    Lower bits are truncated. Floating-point values beyond full scale are clipped; NaN becomes 0.
    """
    width = SAMPLE_WIDTHS[encoding]
    if encoding == "s16le":
        return data
    if encoding.startswith("f"):
        return _float_to_s16le(data, encoding)
    out = bytearray(2 * (len(data) // width))
    if width > 1:
        low, high = (width - 2, width - 1) if encoding.endswith("le") else (1, 0)
        out[0::2] = data[low::width]
        out[1::2] = data[high::width]
    else:
        low_bytes, high_bytes = _lookup_tables(encoding)
        out[0::2] = data.translate(low_bytes)
        out[1::2] = data.translate(high_bytes)
    return bytes(out)


def _float_to_s16le(data: bytes, encoding: str) -> bytes:
    values = array("f" if encoding.startswith("f32") else "d", data)
    if encoding.endswith("be"):
        values.byteswap()
    samples = [int(value * 32768.0) if -1.0 <= value < 1.0 else _clip(value) for value in values]
    return array("h", samples).tobytes()


def _clip(value: float) -> int:
    if math.isnan(value):
        return 0
    return _MAX_SAMPLE if value > 0.0 else _MIN_SAMPLE


@cache
def _lookup_tables(encoding: str) -> tuple[bytes, bytes]:
    """Return two tables that map an encoded byte to the low and the high byte of its sample."""
    decode = {"u8": _u8, "mulaw": _mulaw, "alaw": _alaw}[encoding]
    samples = [decode(code).to_bytes(2, "little", signed=True) for code in range(256)]
    return bytes(s[0] for s in samples), bytes(s[1] for s in samples)


def _u8(code: int) -> int:
    return (code - 128) << 8


def _mulaw(code: int) -> int:
    """Decode mu-law (ITU-T G.711).

    All bits are inverted. A code has a sign bit, 3 exponent bits and 4 mantissa bits; the bias is 33 in 14-bit samples.
    """
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    """Decode A-law (ITU-T G.711): every other bit is inverted; the sign bit is set for positive samples."""
    code ^= 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = mantissa + 8 if exponent == 0 else (mantissa + 0x108) << (exponent - 1)
    return magnitude if code & 0x80 else -magnitude
