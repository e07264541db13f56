"""PyAudio streams and the list of devices; the only module that imports PyAudio (0.2.14, on PortAudio 19.6).

A stream belongs to the thread that opened it. PyAudio releases the interpreter lock during a read, so closing the
stream in another thread crashes the process (PortAudio issue 1179; 3 of 10 attempts in a measurement). Stopping the
stream in another thread leaves the reader in an endless poll.

No call in this module waits inside PortAudio: if a card is unplugged during the wait, Debian 12's 19.6.0-1.2 loops on
the error forever (PortAudio issue 1037, fixed upstream in 2025). Instead the owner asks how many frames can be read or
written, waits in Python for the time that the card needs, and then calls PortAudio to copy them. A card without
progress for ``STALL_SECONDS`` counts as lost.
"""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.audio.devices.alsa import SINK_SLOT, SOURCE_SLOT, is_defined, kernel_pcms, set_slot
from agent.audio.devices.c_stderr import StderrCapture, capture_stderr
from agent.audio.devices.diagnosis import converting_name, default_error, format_error, open_error
from agent.audio.devices.names import PortAudioDevice, alsa_name, reject_number, resolve_name
from agent.audio.devices.pcm import mixes_to_mono, query_pcm
from agent.audio.devices.period import playback_period
from agent.audio.devices.stream_handle import StreamHandle
from agent.audio.format import Format
from agent.errors import DeviceError, DeviceProblem
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    import pyaudio

STALL_SECONDS = 1.2
"""A card without progress for this time is lost. Must be less than ``ReconnectTiming.io_timeout_seconds``."""

_MAX_QUERIES = 3
_FAST_QUERY_SECONDS = 0.001
LISTED_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_FALLBACK_RATES = (48000, 44100, 16000)
# Error codes of portaudio.h.
_HOST_ERROR = -9999
_INVALID_RATE = -9997
_FORMAT_ERRORS = (_INVALID_RATE, -9998, -9994)  # rate, channels, sample format
# Device unavailable, and bad device combination, which PortAudio also reports for a device that does not open.
_UNAVAILABLE_ERRORS = (-9985, -9993)

PORTAUDIO_LOCK = threading.Lock()
"""Held to initialize and terminate PortAudio, and to open and close streams: PortAudio is not thread-safe there, and
all threads share ALSA's configuration and the C stream ``stderr``."""


class CardStream:
    """A stream of s16le from or to a sound card in its ``format``. Not thread-safe; owned by the opening thread.

    ``period_frames``: frames of one transfer; ``buffer_frames``: capacity of a sink, 0 for a source. Every failure is a
    ``DeviceError`` with ``lost`` set; only ``close`` may be called after it.
    """

    def __init__(
        self,
        library: pyaudio.PyAudio,
        stream: pyaudio.Stream,
        name: str,
        output: bool,
        format: Format,
        period_frames: int,
        buffer_frames: int,
    ) -> None:
        self.name, self.format, self.period_frames, self.buffer_frames = name, format, period_frames, buffer_frames
        self._library, self._output = library, output
        self._stream: pyaudio.Stream | None = stream
        self._has_failed = False
        self._never = threading.Event()  # never set: waits with a timeout

    def available(self) -> int:
        """Return the number of frames that can be read or written now."""
        stream = self._require_stream()
        try:
            return _query_available(stream, self._output)
        except OSError as error:
            raise self.fail(error) from error

    def available_at(self) -> tuple[int, float]:
        """Return ``available`` and the monotonic time of the answer.

        On a busy machine the thread may be suspended between reading the clock and querying the card, and the
        difference would count as lost audio. So a slow query is repeated, and the fastest one counts.
        """
        fastest = (math.inf, 0, 0.0)
        for _ in range(_MAX_QUERIES):
            queried_at = time.monotonic()
            frames = self.available()
            seconds = time.monotonic() - queried_at
            if seconds < _FAST_QUERY_SECONDS:
                return frames, queried_at
            fastest = min(fastest, (seconds, frames, queried_at))
        return fastest[1:]

    def read(self) -> bytes:
        """Return one period, in real time."""
        self._wait(self.period_frames)
        try:
            # By default PyAudio closes the stream on the first overrun (error path of pa_read_stream: "-9981 Input
            # overflowed", then "-9988 Stream closed"). Without the exception PyAudio hides the loss; LossMeter counts
            # it.
            return self._require_stream().read(self.period_frames, exception_on_overflow=False)
        except OSError as error:
            raise self.fail(error) from error

    def write(self, pcm: bytes, room: int = 0) -> None:
        """Write at most one period of whole frames as soon as the card has room; an underrun is not an error.

        Args:
            pcm: s16le in the format of the card.
            room: Free frames that the card has reported since the last write.
        """
        # PortAudio waits for a free period even for a smaller write, but must not wait (see the module docstring).
        if room < (required := min(self.period_frames, self.buffer_frames)):
            self._wait(required)
        try:
            # As with reads, the exception would close the stream.
            self._require_stream().write(pcm, exception_on_underflow=False)
        except OSError as error:
            raise self.fail(error) from error

    def start(self) -> None:
        """Start to record; make a stopped sink writable again."""
        stream = self._require_stream()
        try:
            if stream.is_stopped():
                stream.start_stream()
            if not self._output:
                stream.read(0, exception_on_overflow=False)  # ALSA starts to record at the first read, not at open
        except OSError as error:
            raise self.fail(error) from error

    def stop(self) -> None:
        """Stop immediately; drop the buffer of the card."""
        stream = self._require_stream()
        try:
            if not stream.is_stopped():
                stream.stop_stream()
        except OSError as error:
            raise self.fail(error) from error

    def close(self) -> None:
        """Close the stream and terminate PyAudio. Idempotent."""
        if self._stream is not None:
            with PORTAUDIO_LOCK:
                self._close()

    def _close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with capture_stderr():
                _close_stream(self._library, stream)

    @property
    def is_open(self) -> bool:
        """Whether the stream was not closed yet."""
        return self._stream is not None

    def fail(self, error: OSError) -> DeviceError:
        """Mark the stream as lost; return the error to raise."""
        self._mark_failed()
        return DeviceError(f"the sound device {self.name} was lost: {_describe_error(error)}", lost=True)

    def _mark_failed(self) -> None:
        """Mark the stream as failed, and close it unless another thread holds ``PORTAUDIO_LOCK``.

        That thread may need seconds to open a card, which is longer than the stall timeout of a read or write. In this
        case only ``close`` waits for the lock and closes the stream.
        """
        self._has_failed = True
        if PORTAUDIO_LOCK.acquire(blocking=False):
            try:
                self._close()
            finally:
                PORTAUDIO_LOCK.release()

    def _require_stream(self) -> pyaudio.Stream:
        if self._stream is None or self._has_failed:
            raise DeviceError(f"the sound device {self.name} is closed", lost=True)
        return self._stream

    def _wait(self, frames: int) -> None:
        """Wait until ``frames`` can be read or written. Raises ``DeviceError`` for a card without progress."""
        previous, progress_at = -1, time.monotonic()
        # The clock is read first, so that a suspension of this thread before the query does not count as a stall.
        while (now := time.monotonic()) and (available := self.available()) < frames:
            if available != previous:
                previous, progress_at = available, time.monotonic()
            elif now - progress_at > STALL_SECONDS:
                self._mark_failed()
                raise DeviceError(f"the sound device {self.name} made no progress for {STALL_SECONDS:g} s", lost=True)
            # The card sends no signal: query it again when the frames are due.
            self._never.wait(min(0.1, max(0.001, (frames - available) / self.format.rate)))


def open_card(
    name: str, output: bool, wanted: Format, period_seconds: float, buffer_seconds: float = 0.0
) -> CardStream:
    """Open a card in the first format that it supports.

    The order is: the wanted rate, then 48000, 44100 and 16000 Hz, because PortAudio does not convert ("-9997 Invalid
    sample rate"), then the rates that ALSA reports; for each rate the wanted channels, then mono, then stereo. A source
    that ALSA would mix to mono is opened with two channels.

    Args:
        name: Name of the device (see ``device``).
        output: Whether to open a speaker.
        wanted: Preferred format.
        period_seconds: Shortest duration of a period.
        buffer_seconds: Desired capacity of a sink; its periods are extended until it has this capacity.

    Raises:
        DeviceError: If the card cannot be opened.
    """
    with PORTAUDIO_LOCK, capture_stderr() as messages:
        # A new instance for each stream: PortAudio reads the list of devices only when it is initialized.
        library = _initialize()
        try:
            index = _find_slot(library, output)
            errors = []
            reject_number(name)
            is_alsa_name = ":" in name or is_defined(name)
            for target in (
                [name] if is_alsa_name else resolve_name(name, output, _list_alsa_devices(library), kernel_pcms())
            ):
                set_slot(SINK_SLOT if output else SOURCE_SLOT, target)
                if not output and wanted.channels == 1 and mixes_to_mono(target):
                    wanted = Format(wanted.rate, 2)
                messages.reset()
                opener = _Opener(library, index, name, output, period_seconds, buffer_seconds)
                try:
                    return opener.open_first(wanted, target)
                except OSError as error:
                    errors.append(error)
            raise _open_error(name, target, output, errors[-1], messages)
        except (DeviceError, OSError):
            library.terminate()
            raise


def _initialize() -> pyaudio.PyAudio:
    try:
        import pyaudio
    except ImportError as error:
        raise DeviceError(
            f"PyAudio cannot be loaded: {error}. Install the package libportaudio2 and PyAudio.",
            problem=DeviceProblem.NO_LIBRARY,
        ) from error
    set_slot(SOURCE_SLOT, None)
    set_slot(SINK_SLOT, None)
    try:
        return pyaudio.PyAudio()
    except OSError as error:
        raise DeviceError(f"PortAudio does not start: {_describe_error(error)}", lost=True) from error


def _query_available(stream: pyaudio.Stream, output: bool) -> int:
    frames = stream.get_write_available() if output else stream.get_read_available()
    if frames < 0:  # PyAudio 0.2.14 returns PortAudio's error codes as numbers of frames
        raise OSError(frames, f"PortAudio error {frames}")
    return frames


def _close_stream(library: pyaudio.PyAudio, stream: pyaudio.Stream) -> None:
    handle, is_lost = StreamHandle(stream), False
    try:
        if not stream.is_stopped():
            stream.stop_stream()
    except OSError:  # a lost card cannot be stopped, but must be closed
        is_lost = True
    with suppress(OSError):
        stream.close()
    if is_lost:
        handle.close()
    library.terminate()


def _list_alsa_devices(library: pyaudio.PyAudio) -> list[PortAudioDevice]:
    """List the devices of the ALSA host API; probing those of JACK can crash PortAudio."""
    import pyaudio

    try:
        api = library.get_host_api_info_by_type(pyaudio.paALSA)
    except OSError:
        return []
    devices = []
    for position in range(int(api["deviceCount"])):
        info = library.get_device_info_by_host_api_device_index(int(api["index"]), position)
        inputs, outputs = int(info["maxInputChannels"]), int(info["maxOutputChannels"])
        devices.append(PortAudioDevice(int(info["index"]), str(info["name"]), inputs, outputs))
    return devices


def _find_slot(library: pyaudio.PyAudio, output: bool) -> int:
    for device in _list_alsa_devices(library):
        if device.name == (SINK_SLOT if output else SOURCE_SLOT):
            return device.number
    raise DeviceError("PortAudio does not support ALSA. Install the package libportaudio2.")


class _Opener(NamedTuple):
    """Opens one device of PortAudio's list. Immutable; used under ``PORTAUDIO_LOCK``."""

    library: pyaudio.PyAudio
    device_index: int
    name: str
    output: bool
    period_seconds: float
    buffer_seconds: float

    def open_first(self, wanted: Format, target: str) -> CardStream:
        """Open the first supported format.

        Args:
            wanted: Preferred format.
            target: ALSA name of the device.

        Raises:
            OSError: If the device cannot be opened, or supports no format.
        """
        last_error = OSError(_INVALID_RATE, "no sample rate is supported")
        for format in _candidates(wanted, target, self.output):
            try:
                return self.open(format)
            except OSError as error:
                if error.errno not in _FORMAT_ERRORS:
                    raise
                last_error = error
        raise last_error

    def open(self, format: Format) -> CardStream:
        import pyaudio

        period, buffer = self.period_seconds, self.buffer_seconds
        frames = max(16, round(playback_period(period, buffer) * format.rate))
        for is_last in (False, True):
            stream = self.library.open(
                rate=format.rate,
                channels=format.channels,
                format=pyaudio.paInt16,
                input=not self.output,
                output=self.output,
                input_device_index=None if self.output else self.device_index,
                output_device_index=self.device_index if self.output else None,
                frames_per_buffer=frames,
            )
            capacity = _query_available(stream, True) if self.output else 0
            # PyAudio has no latency parameter: it requests PortAudio's default low latency (8.7 ms), so only the period
            # changes the capacity. The capacity is two or three periods, on some cards hardly more than one.
            enough = round(0.75 * buffer * format.rate)
            if is_last or capacity >= enough or not capacity:
                return CardStream(self.library, stream, self.name, self.output, format, frames, capacity)
            frames = min(frames * 4, frames * enough // capacity + 1)
            stream.close()
        raise AssertionError("the second iteration always returns")


def _candidates(wanted: Format, target: str, output: bool) -> Iterator[Format]:
    """Yield the formats to try: the usual ones first, because ALSA needs one more open to report its formats.

    A speaker with fewer channels plays a mix; a microphone with fewer channels lacks the wanted channel.
    """
    usual = [
        Format(rate, channels)
        for rate in dict.fromkeys((wanted.rate, *_FALLBACK_RATES))
        for channels in dict.fromkeys((wanted.channels, 1, 2))
        if output or channels >= wanted.channels
    ]
    yield from usual
    yield from (format for format in query_pcm(target, output).preferred(wanted) if format not in usual)


def _open_error(name: str, target: str, output: bool, error: OSError, messages: StderrCapture) -> DeviceError:
    if error.errno in _FORMAT_ERRORS:
        return format_error(name, target, output)
    is_unavailable = error.errno in _UNAVAILABLE_ERRORS
    fallback = "it is used by another program or missing" if is_unavailable else _describe_error(error)
    return open_error(name, target, output, messages.messages, fallback)


def _describe_error(error: OSError) -> str:
    if error.errno == _HOST_ERROR:
        return "the card or its sound server is gone"
    # PyAudio raises OSError(code, text) or OSError(text, code), depending on the call.
    texts = [part for part in error.args if isinstance(part, str)]
    return texts[0] if texts else str(error)


class Card(NamedTuple):
    """A device that users can select. Immutable. See ``Device`` in ``device``."""

    name: str
    alsa_name: str
    inputs: int
    outputs: int
    rates: tuple[int, ...]


def list_cards() -> list[Card]:
    """List the devices that can be opened, ``default`` first."""
    with PORTAUDIO_LOCK, capture_stderr():
        library = _initialize()
        try:
            return list(_iter_cards(library))
        finally:
            library.terminate()


def diagnose_default() -> DeviceError | None:
    """Return the error of ALSA's PCM ``default`` if a file or a sound server is the reason that it does not open."""
    with PORTAUDIO_LOCK, capture_stderr() as messages:
        return default_error(messages)


def _iter_cards(library: pyaudio.PyAudio) -> Iterator[Card]:
    present = kernel_pcms()
    for device in sorted(_list_alsa_devices(library), key=lambda device: device.name != "default"):
        names = alsa_name(device, present)
        if names is None:
            continue
        output = bool(device.outputs)
        for target in (names[1], converting_name(names[1], output)):
            pcm = query_pcm(target, output) if target is not None else None
            # A busy device reports no formats now, but can be opened later.
            if target is not None and pcm is not None and (pcm.formats or pcm.error == errno.EBUSY):
                rates = {format.rate for format in pcm.formats}
                listed = tuple(rate for rate in LISTED_RATES if rate in rates) or tuple(sorted(rates))
                yield Card(names[0], target, device.inputs, device.outputs, listed)
                break
