"""The echo canceller and the preprocessor of libspeexdsp."""

from __future__ import annotations

import ctypes
import functools
import weakref

from agent.audio.convert import load_speexdsp
from agent.audio.format import SAMPLE_BYTES, SPEECH

# Requests of speex_echo.h and speex_preprocess.h.
_SET_SAMPLING_RATE = 24
_GET_IMPULSE_RESPONSE_SIZE, _GET_IMPULSE_RESPONSE = 27, 29
_SET_NOISE_SUPPRESS, _SET_ECHO_STATE = 8, 24

_QUALITY = 4
# A prime whose square has 32 bits: set_rate_frac() multiplies the position by the denominator and fails on an overflow
# (_muldiv in resample.c). A prime, because a ratio that can be reduced would round the position to a whole sample.
_DENOMINATOR = 65521


class AdaptiveFilter:
    """Learns the path from the reference to the microphone and subtracts the echo. Not thread-safe; one thread owns it.

    Args:
        block_samples: Samples of each block.
        tail_samples: Length of the filter: an echo that is later than this is not canceled.
        rate: Sample rate in Hz.

    Raises:
        AudioError: If libspeexdsp is missing.
    """

    def __init__(self, block_samples: int, tail_samples: int, rate: int) -> None:
        self._library = _library()
        self.handle = self._library.speex_echo_state_init(block_samples, tail_samples)
        weakref.finalize(self, self._library.speex_echo_state_destroy, self.handle).atexit = False
        self._library.speex_echo_ctl(self.handle, _SET_SAMPLING_RATE, ctypes.byref(ctypes.c_int(rate)))
        self._out = ctypes.create_string_buffer(block_samples * SAMPLE_BYTES)

    def cancel(self, block: bytes, reference: bytes) -> bytes:
        """Return a microphone block (mono s16le) without the echo of ``reference``, the block of the same time."""
        self._library.speex_echo_cancellation(self.handle, block, reference, self._out)
        return self._out.raw

    def impulse_response(self) -> list[int]:
        """Return the taps of the filter: the echo of one full-scale sample."""
        size = ctypes.c_int(0)
        self._library.speex_echo_ctl(self.handle, _GET_IMPULSE_RESPONSE_SIZE, ctypes.byref(size))
        response = (ctypes.c_int * size.value)()
        self._library.speex_echo_ctl(self.handle, _GET_IMPULSE_RESPONSE, response)
        return list(response)

    def reset(self) -> None:
        """Discard the path that was learned."""
        self._library.speex_echo_state_reset(self.handle)


class ResidualSuppressor:
    """Suppresses the echo that an ``AdaptiveFilter`` leaves. Not thread-safe; one thread owns it.

    Args:
        echo: The filter that processes each block first.
        block_samples: As for the filter.
        rate: Sample rate in Hz.
    """

    def __init__(self, echo: AdaptiveFilter, block_samples: int, rate: int) -> None:
        self._library = _library()
        self._handle = self._library.speex_preprocess_state_init(block_samples, rate)
        weakref.finalize(self, self._library.speex_preprocess_state_destroy, self._handle).atexit = False
        self._echo = echo  # kept alive: the preprocessor reads its state
        self._library.speex_preprocess_ctl(self._handle, _SET_ECHO_STATE, echo.handle)
        # 0 dB: noise keeps its level. With SET_DENOISE off, the preprocessor would not change the audio (preprocess.c).
        self._library.speex_preprocess_ctl(self._handle, _SET_NOISE_SUPPRESS, ctypes.byref(ctypes.c_int(0)))

    def suppress(self, block: bytes) -> bytes:
        """Return the block (mono s16le) that the filter returned last, with less echo."""
        buffer = ctypes.create_string_buffer(block, len(block))
        self._library.speex_preprocess_run(self._handle, buffer)
        return buffer.raw


class Stretcher:
    """Resamples mono s16le by a ratio close to 1 that may change. Not thread-safe; one thread owns it."""

    def __init__(self) -> None:
        self._library = _library()
        status = ctypes.c_int(0)
        self._state = self._library.speex_resampler_init(1, SPEECH.rate, SPEECH.rate, _QUALITY, ctypes.byref(status))
        weakref.finalize(self, self._library.speex_resampler_destroy, self._state).atexit = False
        self._steps = 1
        self._set_steps()
        self._library.speex_resampler_skip_zeros(self._state)

    @property
    def ratio(self) -> float:
        """The number of input samples of each output sample."""
        return 1 + self._steps / _DENOMINATOR

    def set_ratio(self, ratio: float) -> None:
        """Set the ratio to the nearest possible value: 1 plus or minus a multiple of 15 ppm that is not 0."""
        steps = round((ratio - 1) * _DENOMINATOR) or (1 if ratio > 1 else -1)
        if steps != self._steps:
            self._steps = steps
            self._set_steps()

    def pull(self, pcm: bytes, samples: int) -> tuple[bytes, int]:
        """Return up to ``samples`` of output, and the number of input samples that were used for them."""
        used, made = ctypes.c_uint32(len(pcm) // SAMPLE_BYTES), ctypes.c_uint32(samples)
        out = ctypes.create_string_buffer(samples * SAMPLE_BYTES)
        self._library.speex_resampler_process_interleaved_int(
            self._state, pcm, ctypes.byref(used), out, ctypes.byref(made)
        )
        return out.raw[: made.value * SAMPLE_BYTES], used.value

    def _set_steps(self) -> None:
        numerator = _DENOMINATOR + self._steps
        rates = (numerator, _DENOMINATOR, SPEECH.rate, SPEECH.rate)
        self._library.speex_resampler_set_rate_frac(self._state, *rates)


class FractionalDelay:
    """Delays mono s16le by a fraction of a sample. Not thread-safe; one thread owns it.

    The audio is oversampled by ``STEPS``, and one of these phases is used. Frequencies up to 7 kHz keep their level at
    every fraction. Otherwise the fricatives of each utterance would need another adaptive filter.
    """

    AROUND = 32
    """Samples on each side of the block that the interpolation needs."""
    STEPS = 16

    def __init__(self) -> None:
        self._library = _library()
        status = ctypes.c_int(0)
        self._state = self._library.speex_resampler_init(1, 1, self.STEPS, _QUALITY, ctypes.byref(status))
        weakref.finalize(self, self._library.speex_resampler_destroy, self._state).atexit = False

    def delay(self, pcm: bytes, samples: float) -> bytes:
        """Return the audio delayed by ``samples``, less than one, and without ``AROUND`` samples at both ends."""
        self._library.speex_resampler_reset_mem(self._state)
        self._library.speex_resampler_skip_zeros(self._state)
        size = len(pcm) // SAMPLE_BYTES
        used, made = ctypes.c_uint32(size), ctypes.c_uint32(size * self.STEPS)
        out = ctypes.create_string_buffer(len(pcm) * self.STEPS)
        self._library.speex_resampler_process_interleaved_int(
            self._state, pcm, ctypes.byref(used), out, ctypes.byref(made)
        )
        begin, count = round((self.AROUND - samples) * self.STEPS), size - 2 * self.AROUND
        return memoryview(out).cast("B").cast("h")[begin : begin + count * self.STEPS : self.STEPS].tobytes()


@functools.cache
def _library() -> ctypes.CDLL:
    library = load_speexdsp()
    pointer, number, audio = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    for name, result, arguments in (
        ("echo_state_init", pointer, [number, number]),
        ("echo_state_destroy", None, [pointer]),
        ("echo_state_reset", None, [pointer]),
        ("echo_cancellation", None, [pointer, audio, audio, audio]),
        ("echo_ctl", number, [pointer, number, pointer]),
        ("preprocess_state_init", pointer, [number, number]),
        ("preprocess_state_destroy", None, [pointer]),
        ("preprocess_run", number, [pointer, audio]),
        ("preprocess_ctl", number, [pointer, number, pointer]),
        ("resampler_set_rate_frac", number, [pointer] + [ctypes.c_uint32] * 4),
    ):
        function = getattr(library, f"speex_{name}")
        function.restype, function.argtypes = result, arguments
    return library
