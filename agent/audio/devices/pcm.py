"""The sample formats, rates and channels that ALSA reports for a PCM, without PortAudio.

PortAudio reports only that a format failed. ALSA knows the formats of a device and the reason of a failed open.
"""

from __future__ import annotations

import ctypes

from agent.audio.devices.alsa import load_library
from agent.audio.format import MAX_CHANNELS, MAX_RATE, MIN_RATE, Format
from agent.system.named_tuple import NamedTuple

COMMON_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
MAX_LISTED_CHANNELS = 64
_CAPTURE, _PLAYBACK, _NONBLOCK = 1, 0, 1
_TYPE_PLUG = 14  # SND_PCM_TYPE_PLUG of pcm.h
# enum _snd_pcm_format of pcm.h; PortAudio converts between these and s16le (Pa2AlsaFormat in pa_linux_alsa.c).
_CONVERTED_SAMPLES = (0, 1, 2, 10, 14, 32)  # S8, U8, S16_LE, S32_LE, FLOAT_LE, S24_3LE
_MAX_SAMPLE_FORMAT = 52


class Pcm(NamedTuple):
    """One direction of a PCM. Immutable.

    ``error``: errno of opening it, 0 if it opens; ``formats``: all formats that PortAudio can open; ``channels``: the
    channel counts of the device up to ``MAX_LISTED_CHANNELS``; ``rates``: its common rates and its limits, in Hz;
    ``samples``: ALSA's names of its sample formats.
    """

    error: int
    formats: tuple[Format, ...] = ()
    channels: tuple[int, ...] = ()
    rates: tuple[int, ...] = ()
    samples: tuple[str, ...] = ()

    def preferred(self, wanted: Format) -> list[Format]:
        """Return ``formats``, the best for ``wanted`` first.

        Formats with fewer channels than wanted are last. Otherwise rates from the wanted one on are first, in ascending
        order, because they lose no audio; lower rates follow in descending order. For each rate the wanted number of
        channels is first; the others follow in ascending order.
        """
        return sorted(
            self.formats,
            key=lambda each: (
                each.channels < wanted.channels,
                each.rate < wanted.rate,
                abs(each.rate - wanted.rate),
                each.channels != wanted.channels,
                each.channels,
            ),
        )


def query_pcm(name: str, output: bool) -> Pcm:
    """Open and close the PCM ``name``, and return its formats. The caller holds ``PORTAUDIO_LOCK``.

    Args:
        name: ALSA name.
        output: Whether to query the playback direction.
    """
    library = load_library()
    handle, params = ctypes.c_void_p(), ctypes.c_void_p()
    error = library.snd_pcm_open(ctypes.byref(handle), name.encode(), _PLAYBACK if output else _CAPTURE, _NONBLOCK)
    if error < 0:
        return Pcm(-error)
    try:
        library.snd_pcm_hw_params_malloc(ctypes.byref(params))
        return _describe(library, handle, params)
    finally:
        library.snd_pcm_hw_params_free(params)
        library.snd_pcm_close(handle)


def mixes_to_mono(name: str) -> bool:
    """Return whether ALSA mixes all channels to one if the PCM ``name`` is opened with one channel.

    The caller holds ``PORTAUDIO_LOCK``. A ``plug`` (also ``plughw:``) gives one client channel the mean of all channels
    of the card (``pcm_plug.c``, "hack for mono conversion"). Two or more client channels are copies of the first
    channels of the card.
    """
    library = load_library()
    handle = ctypes.c_void_p()
    if library.snd_pcm_open(ctypes.byref(handle), name.encode(), _CAPTURE, _NONBLOCK) < 0:
        return False
    try:
        return bool(library.snd_pcm_type(handle) == _TYPE_PLUG)
    finally:
        library.snd_pcm_close(handle)


def _describe(library: ctypes.CDLL, handle: ctypes.c_void_p, params: ctypes.c_void_p) -> Pcm:
    if library.snd_pcm_hw_params_any(handle, params) < 0:
        return Pcm(0)
    samples = [
        each
        for each in range(_MAX_SAMPLE_FORMAT + 1)
        if library.snd_pcm_hw_params_test_format(handle, params, each) == 0
    ]
    channels = [
        each
        for each in range(1, MAX_LISTED_CHANNELS + 1)
        if library.snd_pcm_hw_params_test_channels(handle, params, each) == 0
    ]
    limits = []
    for limit in ("min", "max"):
        value = ctypes.c_uint(0)
        if getattr(library, f"snd_pcm_hw_params_get_rate_{limit}")(params, ctypes.byref(value), None) == 0:
            limits.append(value.value)
    rates = [
        rate
        for rate in sorted({*COMMON_RATES, *limits})
        if library.snd_pcm_hw_params_test_rate(handle, params, rate, 0) == 0
    ]
    formats: list[Format] = []
    converted = next((each for each in _CONVERTED_SAMPLES if each in samples), None)
    if converted is not None:
        for rate in rates:
            if MIN_RATE <= rate <= MAX_RATE:
                formats += _with_rate(library, handle, params, converted, rate)
    names = [library.snd_pcm_format_name(each).decode("ascii", "replace") for each in samples]
    return Pcm(0, tuple(formats), tuple(channels), tuple(rates), tuple(names))


def _with_rate(
    library: ctypes.CDLL, handle: ctypes.c_void_p, params: ctypes.c_void_p, sample_format: int, rate: int
) -> list[Format]:
    library.snd_pcm_hw_params_any(handle, params)
    library.snd_pcm_hw_params_set_format(handle, params, sample_format)
    if library.snd_pcm_hw_params_set_rate(handle, params, rate, 0) < 0:
        return []
    return [
        Format(rate, channels)
        for channels in range(1, MAX_CHANNELS + 1)
        if library.snd_pcm_hw_params_test_channels(handle, params, channels) == 0
    ]
