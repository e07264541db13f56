"""Sound made to fit: another rate (libspeexdsp), other channels, another volume; and how loud it is.

All of it is signed 16-bit little-endian PCM. A fragment of a sample at the end of what is handed in is dropped, but by
the resampler, which keeps it for the next piece. Nothing here needs more than the standard library and libspeexdsp.
"""

from __future__ import annotations

import functools
import math
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

_HIGHEST, _LOWEST = 32767, -32768
_PIECE_FRAMES = 4096
_ROOM_FRAMES = 64
_MOST_TAIL_PIECES = 100


class Resampler:
    """Sound of one rate becomes sound of another, piece by piece, as if it had been one piece.

    ``feed`` as it comes, ``finish`` for the rest: together they give ``round(samples in * to_rate / from_rate)``
    samples, the first of them at the time of the first that went in. After ``finish`` it is as new. Equal rates pass
    through untouched. ``quality`` is libspeexdsp's, 0 to 10; at 4 a tone stays more than 80 dB above all that is added
    to it, what is ready lags 1 to 4 ms behind, and a second costs 0.5 to 2.6 ms of an x86 core.
    ``AudioError`` where the library is missing (it names the package) or a rate cannot be.
    """

    def __init__(self, from_rate: int, to_rate: int, channels: int = 1, quality: int = 4) -> None:
        self.from_rate, self.to_rate = Format(from_rate, channels).rate, Format(to_rate, channels).rate
        self.channels = channels
        self._frame_bytes = SAMPLE_BYTES * channels
        self._fragment = b""
        self._taken = self._given = 0  # frames, since new
        self._state: int | None = None
        if from_rate == to_rate:
            return
        import ctypes  # of no use to sound that keeps its rate

        self._library = _speexdsp()
        problem = ctypes.c_int(0)
        self._state = self._library.speex_resampler_init(channels, from_rate, to_rate, quality, ctypes.byref(problem))
        if not self._state:
            why = self._library.speex_resampler_strerror(problem.value).decode("ascii", "replace")
            raise AudioError(f"sound of {from_rate} Hz cannot be made into {to_rate} Hz ({why}): choose another rate")
        weakref.finalize(self, self._library.speex_resampler_destroy, self._state).atexit = False
        self._library.speex_resampler_skip_zeros(self._state)

    def feed(self, pcm: bytes) -> bytes:
        """More sound; returns what is ready, which lags a few milliseconds behind."""
        if self._state is None:
            return pcm
        pcm = self._fragment + pcm if self._fragment else pcm
        whole = len(pcm) - len(pcm) % self._frame_bytes
        self._fragment = pcm[whole:]
        ready = self._convert(pcm[:whole] if whole < len(pcm) else pcm)
        self._taken += whole // self._frame_bytes
        self._given += len(ready) // self._frame_bytes
        return ready

    def finish(self) -> bytes:
        """What the filter still holds, so that the length is right."""
        if self._state is None:
            return b""
        missing = self._expected() - self._given
        tail = b""
        # Silence pushes the rest out; the filter is a few hundred samples long, so one or two pieces do.
        for _ in range(_MOST_TAIL_PIECES):
            if len(tail) >= missing * self._frame_bytes:
                break
            tail += self._convert(bytes(_PIECE_FRAMES * self._frame_bytes))
        self._fragment, self._taken, self._given = b"", 0, 0
        self._library.speex_resampler_reset_mem(self._state)
        self._library.speex_resampler_skip_zeros(self._state)
        return tail[: max(0, missing) * self._frame_bytes]

    def _expected(self) -> int:
        return (2 * self._taken * self.to_rate + self.from_rate) // (2 * self.from_rate)

    def _convert(self, pcm: bytes) -> bytes:
        """Whole frames in, all that is ready out; a piece at a time, so that no buffer grows with what is handed in."""
        import ctypes

        pieces = []
        step = _PIECE_FRAMES * self._frame_bytes
        start = 0
        while start < len(pcm):
            piece = pcm[start : start + step]
            offered = ctypes.c_uint32(len(piece) // self._frame_bytes)
            given = ctypes.c_uint32(offered.value * self.to_rate // self.from_rate + _ROOM_FRAMES)
            out = ctypes.create_string_buffer(given.value * self._frame_bytes)
            self._library.speex_resampler_process_interleaved_int(
                self._state, piece, ctypes.byref(offered), out, ctypes.byref(given)
            )
            if not offered.value and not given.value:
                raise AudioError(f"{LIBRARY} takes no more sound: reinstall the package {PACKAGE}")
            pieces.append(out.raw[: given.value * self._frame_bytes])
            start += offered.value * self._frame_bytes
        return b"".join(pieces)


@functools.cache
def _speexdsp() -> ctypes.CDLL:
    import ctypes

    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise AudioError(
            f"sound must change its rate, but {LIBRARY} cannot be loaded ({error}): install the package {PACKAGE}"
        ) from error
    number = ctypes.POINTER(ctypes.c_uint32)
    for name, result, arguments in (
        ("init", ctypes.c_void_p, [ctypes.c_uint32] * 3 + [ctypes.c_int, ctypes.POINTER(ctypes.c_int)]),
        ("destroy", None, [ctypes.c_void_p]),
        ("skip_zeros", ctypes.c_int, [ctypes.c_void_p]),
        ("reset_mem", ctypes.c_int, [ctypes.c_void_p]),
        ("strerror", ctypes.c_char_p, [ctypes.c_int]),
        (
            "process_interleaved_int",
            ctypes.c_int,
            [ctypes.c_void_p, ctypes.c_char_p, number, ctypes.c_char_p, number],
        ),
    ):
        function = getattr(library, f"speex_resampler_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def to_mono(pcm: bytes, channels: int) -> bytes:
    """One channel, the mean of all; mono passes through untouched."""
    if channels == 1:
        return pcm
    samples = _samples(pcm, channels)
    if channels == 2:
        pairs = zip(samples[::2], samples[1::2], strict=True)
        return array("h", [(left + right) >> 1 for left, right in pairs]).tobytes()
    frames = zip(*(samples[channel::channels] for channel in range(channels)), strict=True)
    return array("h", [sum(frame) // channels for frame in frames]).tobytes()


def to_stereo(pcm: bytes) -> bytes:
    """Mono on both channels."""
    samples = _samples(pcm)
    both = array("h", bytes(2 * SAMPLE_BYTES * len(samples)))
    both[::2] = samples
    both[1::2] = samples
    return both.tobytes()


def scale(pcm: bytes, percent: int) -> bytes:
    """Louder or softer, with clipping; 100 passes through untouched, 0 is silence.

    Costs 2.5 ms of an x86 core for a second of 48 kHz mono, up to 9 ms above 100 percent; meant for periods.
    """
    if percent == 100:
        return pcm
    if percent <= 0:
        return bytes(len(pcm))
    samples = _samples(pcm)
    if percent < 100:
        return array("h", [(sample * percent + 50) // 100 for sample in samples]).tobytes()
    louder = [(sample * percent + 50) // 100 for sample in samples]
    return array("h", [min(_HIGHEST, max(_LOWEST, sample)) for sample in louder]).tobytes()


def measure_level(pcm: bytes) -> tuple[float, int]:
    """How loud: root mean square and peak, of all channels together, both 0 to 32768. Nothing is silence."""
    samples = _samples(pcm)
    if not samples:
        return 0.0, 0
    # hypot is the one function of the standard library that squares and sums in C.
    return math.hypot(*samples) / math.sqrt(len(samples)), max(max(samples), -min(samples))


def _samples(pcm: bytes, channels: int = 1) -> array[int]:
    fragment = len(pcm) % (SAMPLE_BYTES * channels)
    return array("h", pcm[: len(pcm) - fragment] if fragment else pcm)


class FormatConverter:
    """Sound in the format ``source`` becomes sound in ``wanted``, piece by piece in whole frames; ``finish`` gives the
    rest. Channels that do not fit are mixed into one. ``AudioError`` where it cannot be done."""

    def __init__(self, source: Format, wanted: Format) -> None:
        self.source, self.wanted = source, wanted
        self._mixes = source.channels != wanted.channels
        if self._mixes and wanted.channels > 2:
            raise AudioError(f"the sound changes from {wanted} to {source} in the middle: one format is expected")
        self._resampler = Resampler(source.rate, wanted.rate, 1 if self._mixes else source.channels)

    def feed(self, pcm: bytes) -> bytes:
        if self._mixes:
            pcm = to_mono(pcm, self.source.channels)
        return self._spread(self._resampler.feed(pcm))

    def finish(self) -> bytes:
        return self._spread(self._resampler.finish())

    def _spread(self, pcm: bytes) -> bytes:
        return to_stereo(pcm) if self._mixes and self.wanted.channels == 2 else pcm


SAMPLE_WIDTHS = {"u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "mulaw": 1, "alaw": 1}
"""Bytes of one sample in each encoding."""


def to_s16le(data: bytes, encoding: str) -> bytes:
    """Whole samples in ``encoding`` (a key of ``WIDTHS``) as s16le; what is finer than 16 bits is cut off."""
    width = SAMPLE_WIDTHS[encoding]
    if encoding == "s16le":
        return data
    out = bytearray(2 * (len(data) // width))
    if width > 2:
        out[0::2] = data[width - 2 :: width]
        out[1::2] = data[width - 1 :: width]
    else:
        low, high = _tables(encoding)
        out[0::2] = data.translate(low)
        out[1::2] = data.translate(high)
    return bytes(out)


@cache
def _tables(encoding: str) -> tuple[bytes, bytes]:
    """The low and the high byte of the sample that each byte stands for."""
    decode = {"u8": _u8, "mulaw": _mulaw, "alaw": _alaw}[encoding]
    samples = [decode(code).to_bytes(2, "little", signed=True) for code in range(256)]
    return bytes(s[0] for s in samples), bytes(s[1] for s in samples)


def _u8(code: int) -> int:
    return (code - 128) << 8


def _mulaw(code: int) -> int:
    """ITU-T G.711: sent inverted; sign, three bits of exponent, four of mantissa, over a bias of 33 in 14 bits."""
    code = ~code & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code & 0x70) >> 4)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    """ITU-T G.711: sent with every other bit inverted; the sign bit is set for positive samples."""
    code ^= 0x55
    exponent, mantissa = (code & 0x70) >> 4, (code & 0x0F) << 4
    magnitude = mantissa + 8 if exponent == 0 else (mantissa + 0x108) << (exponent - 1)
    return magnitude if code & 0x80 else -magnitude
