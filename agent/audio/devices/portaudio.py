"""One PyAudio stream, from opening to closing, and the list of devices: the only room that imports PyAudio.

A stream belongs to the thread that opened it: closing it elsewhere crashes the process, stopping it elsewhere leaves
the reader hanging. So nothing here may be called from another thread, and no call here waits inside PortAudio: on
Debian 12 a card that is pulled out while PortAudio waits for it never lets go of the call. Instead the owner asks how
much may be read or written, waits in Python for as long as the card still needs, and only then lets PortAudio copy. A
card that makes no progress for ``STALL_SECONDS`` counts as lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.audio.devices.alsa import SINK_SLOT, SOURCE_SLOT, is_defined, kernel_pcms, set_slot
from agent.audio.devices.c_stderr import StderrCapture, capture_stderr
from agent.audio.devices.names import PortAudioDevice, alsa_name, reject_number, resolve_name
from agent.audio.format import Format
from agent.errors import DeviceError

if TYPE_CHECKING:
    import pyaudio

STALL_SECONDS = 1.2
_LOOKS, _AT_ONCE_SECONDS = 3, 0.001
LISTED_RATES = (8000, 16000, 22050, 24000, 32000, 44100, 48000)
_LADDER_RATES = (48000, 44100, 16000)
_HOST_ERROR = -9999
_INVALID_RATE = -9997
_FORMAT_REFUSED = (_INVALID_RATE, -9998, -9994)  # rate, channels, samples
_UNAVAILABLE = (-9985, -9993)  # PortAudio calls a device that it cannot open an illegal combination
# Initialising, opening and ending PortAudio is not safe from two threads, and standard error is one for the process.
_portaudio = threading.Lock()


class CardStream:
    """A stream of 16-bit PCM to or from a sound card, in the card's own ``format``. One thread owns it.

    ``period_frames`` is what the card moves at a time, ``buffer_frames`` what it holds (for a sink; 0 for a source).
    Every failure is a ``DeviceError`` with ``lost``; then only ``close()`` is left.
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
        self._failed = False
        self._never = threading.Event()

    def available(self) -> int:
        """How many frames may be read or written now."""
        stream = self._open()
        try:
            return _available(stream, self._output)
        except OSError as error:
            raise self._lost(error) from error

    def look(self) -> tuple[int, float]:
        """``available()``, and the moment at which it was so, as of ``time.monotonic()``. On a busy machine the thread
        may stand still between the card's answer and the clock's, and what it was late by would be taken for sound that
        never came: it looks again then, and the quickest look counts."""
        looks = []
        for _ in range(_LOOKS):
            asked = time.monotonic()
            ready = self.available()
            looks.append((time.monotonic() - asked, ready, asked))
            if looks[-1][0] < _AT_ONCE_SECONDS:
                break
        return min(looks)[1:]

    def read(self) -> bytes:
        """One period, in real time."""
        self._wait(self.period_frames)
        try:
            return self._open().read(self.period_frames, exception_on_overflow=False)
        except OSError as error:
            raise self._lost(error) from error

    def write(self, pcm: bytes) -> None:
        """At most one period of whole frames, at the card's pace. An underrun is tolerated."""
        # PortAudio itself waits for a whole free period, however little is written.
        self._wait(min(self.period_frames, self.buffer_frames))
        try:
            self._open().write(pcm, exception_on_underflow=False)
        except OSError as error:
            raise self._lost(error) from error

    def start(self) -> None:
        """A source begins to record; a stopped sink may be written to again."""
        stream = self._open()
        try:
            if stream.is_stopped():
                stream.start_stream()
            if not self._output:
                stream.read(0, exception_on_overflow=False)  # ALSA records from the first read on, not from opening
        except OSError as error:
            raise self._lost(error) from error

    def stop(self) -> None:
        """Drops what the card still holds: silence, at once."""
        stream = self._open()
        try:
            if not stream.is_stopped():
                stream.stop_stream()
        except OSError as error:
            raise self._lost(error) from error

    def close(self) -> None:
        """Gives the card back and ends PyAudio; twice is safe."""
        if self._stream is not None:
            with _portaudio:
                self._end()

    def _end(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            with capture_stderr():
                _end(self._library, stream)

    def _fail(self) -> None:
        """Closes after a failure, unless that would mean waiting for a thread that opens a card: its owner has patience
        for that in ``close()``, and little while it reads or writes."""
        self._failed = True
        if _portaudio.acquire(blocking=False):
            try:
                self._end()
            finally:
                _portaudio.release()

    def _open(self) -> pyaudio.Stream:
        if self._stream is None or self._failed:
            raise DeviceError(f"the sound device {self.name} is closed", lost=True)
        return self._stream

    def _wait(self, frames: int) -> None:
        before, since = -1, time.monotonic()
        # Asked before the card is: if it is this thread that stands still, the card has gone on by the next answer.
        while (asked := time.monotonic()) and (ready := self.available()) < frames:
            if ready != before:
                before, since = ready, time.monotonic()
            elif asked - since > STALL_SECONDS:
                self._fail()
                raise DeviceError(f"the sound device {self.name} has stood still for {STALL_SECONDS:g} s", lost=True)
            # Nothing but the card's clock ends this wait; it is asked again when the frames should be there.
            self._never.wait(min(0.1, max(0.001, (frames - ready) / self.format.rate)))

    def _lost(self, error: OSError) -> DeviceError:
        self._fail()
        return DeviceError(f"the sound device {self.name} was lost: {_reason(error)}", lost=True)


def open_card(
    name: str, output: bool, wanted: Format, period_seconds: float, buffer_seconds: float = 0.0
) -> CardStream:
    """Opens the card called ``name`` in the first format of the ladder that it takes, ``wanted`` first.

    Ladder: the wanted rate, then 48000, 44100, 16000 Hz; of each the wanted channels, then mono, then stereo.
    ``buffer_seconds``: how much a sink should hold; its period is made longer until it does.
    """
    with _portaudio, capture_stderr() as chatter:
        library = _start()
        try:
            index = _slot(library, output)
            refusals = []
            reject_number(name)
            verbatim = ":" in name or is_defined(name)
            for target in [name] if verbatim else resolve_name(name, output, _listed(library), kernel_pcms()):
                set_slot(SINK_SLOT if output else SOURCE_SLOT, target)
                chatter.listen()
                try:
                    return _climb(library, index, name, output, wanted, period_seconds, buffer_seconds)
                except OSError as error:
                    refusals.append(error)
            raise _refusal(name, output, refusals[-1], chatter)
        except (DeviceError, OSError):
            library.terminate()
            raise


def _start() -> pyaudio.PyAudio:
    try:
        import pyaudio
    except ImportError as error:
        raise DeviceError(f"PyAudio cannot be used ({error}): install the package libportaudio2 and PyAudio") from error
    set_slot(SOURCE_SLOT, None)
    set_slot(SINK_SLOT, None)
    try:
        return pyaudio.PyAudio()
    except OSError as error:
        raise DeviceError(f"PortAudio does not start: {_reason(error)}", lost=True) from error


def _available(stream: pyaudio.Stream, output: bool) -> int:
    frames = stream.get_write_available() if output else stream.get_read_available()
    if frames < 0:  # PyAudio hands PortAudio's error codes through as if they were amounts
        raise OSError(frames, f"PortAudio's error {frames}")
    return frames


def _end(library: pyaudio.PyAudio, stream: pyaudio.Stream) -> None:
    with suppress(OSError):  # a card that is gone cannot be stopped; closing must go on all the same
        if not stream.is_stopped():
            stream.stop_stream()
    with suppress(OSError):
        stream.close()
    library.terminate()


def _listed(library: pyaudio.PyAudio) -> list[PortAudioDevice]:
    """Every device of the ALSA host API: opening one of JACK's own can crash PortAudio."""
    import pyaudio

    try:
        api = library.get_host_api_info_by_type(pyaudio.paALSA)
    except OSError:
        return []
    found = []
    for place in range(int(api["deviceCount"])):
        info = library.get_device_info_by_host_api_device_index(int(api["index"]), place)
        inputs, outputs = int(info["maxInputChannels"]), int(info["maxOutputChannels"])
        found.append(PortAudioDevice(int(info["index"]), str(info["name"]), inputs, outputs))
    return found


def _slot(library: pyaudio.PyAudio, output: bool) -> int:
    for device in _listed(library):
        if device.name == (SINK_SLOT if output else SOURCE_SLOT):
            return device.index
    raise DeviceError("PortAudio was built without ALSA: install the package libportaudio2")


def _climb(
    library: pyaudio.PyAudio, index: int, name: str, output: bool, wanted: Format, period: float, buffer: float
) -> CardStream:
    refused = OSError(_INVALID_RATE, "no sample rate is taken")
    for rate in dict.fromkeys((wanted.rate, *_LADDER_RATES)):
        for channels in dict.fromkeys((wanted.channels, 1, 2)):
            try:
                return _try(library, index, name, output, Format(rate, channels), period, buffer)
            except OSError as error:
                if error.errno not in _FORMAT_REFUSED:
                    raise
                refused = error
    raise refused


def _try(
    library: pyaudio.PyAudio, index: int, name: str, output: bool, format: Format, period: float, buffer: float
) -> CardStream:
    import pyaudio

    frames = max(16, round(period * format.rate), round(buffer / 2 * format.rate))
    for last in (False, True):
        stream = library.open(
            rate=format.rate,
            channels=format.channels,
            format=pyaudio.paInt16,
            input=not output,
            output=output,
            input_device_index=None if output else index,
            output_device_index=index if output else None,
            frames_per_buffer=frames,
        )
        holds = _available(stream, True) if output else 0
        # PyAudio cannot ask for a buffer. PortAudio makes one of two or three periods, on some cards of hardly more
        # than one: then longer periods are the only way to what is wanted.
        enough = round(0.75 * buffer * format.rate)
        if last or holds >= enough or not holds:
            return CardStream(library, stream, name, output, format, frames, holds)
        frames = min(frames * 4, frames * enough // holds + 1)
        stream.close()
    raise AssertionError("the second try always returns")


def _refusal(name: str, output: bool, error: OSError, chatter: StderrCapture) -> DeviceError:
    side = "speaker" if output else "microphone"
    words = chatter.words
    if error.errno in _FORMAT_REFUSED:
        why = f"it takes none of the formats tried ({_reason(error)})"
    elif words.startswith("cannot find card"):
        why = f"there is no such sound card ({words})"
    elif words:
        why = words
    elif error.errno in _UNAVAILABLE:
        why = "it is used by another program, or not there"
    else:
        why = _reason(error)
    # A name that ALSA does not know is a mistake; a card that is missing or busy may come back.
    refused, unknown = error.errno in _FORMAT_REFUSED, words.startswith(("Unknown PCM", "Unknown parameter"))
    return DeviceError(
        f"the {side} {name!r} cannot be opened: {why}; see `voice-agent devices`",
        lost=not refused and not unknown,
        unknown=not refused and unknown,
    )


def _reason(error: OSError) -> str:
    if error.errno == _HOST_ERROR:
        return "the card or its sound server has gone"
    # PyAudio raises OSError(code, text) or OSError(text, code), depending on the call.
    words = [str(part) for part in error.args if isinstance(part, str)]
    return words[0] if words else str(error)


def list_cards() -> list[tuple[str, str, int, int, tuple[int, ...]]]:
    """Name, ALSA name, inputs, outputs and rates of everything PortAudio can open through ALSA, ``default`` first."""
    with _portaudio, capture_stderr():
        library = _start()
        try:
            return list(_described(library))
        finally:
            library.terminate()


def _described(library: pyaudio.PyAudio) -> Iterator[tuple[str, str, int, int, tuple[int, ...]]]:
    present = kernel_pcms()
    for device in sorted(_listed(library), key=lambda device: device.name != "default"):
        known = alsa_name(device, present)
        if known is not None:
            rates = _rates(library, device.index, device.inputs, device.outputs)
            yield known[0], known[1], device.inputs, device.outputs, rates


def _rates(library: pyaudio.PyAudio, index: int, inputs: int, outputs: int) -> tuple[int, ...]:
    import pyaudio

    taken = []
    for rate in LISTED_RATES:
        with suppress(ValueError):  # PyAudio's way to say no
            if outputs:
                library.is_format_supported(
                    rate, output_device=index, output_channels=min(2, outputs), output_format=pyaudio.paInt16
                )
            else:
                library.is_format_supported(
                    rate, input_device=index, input_channels=min(2, inputs), input_format=pyaudio.paInt16
                )
            taken.append(rate)
    return tuple(taken)
