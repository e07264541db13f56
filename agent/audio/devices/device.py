"""Sources and sinks by name: a sound card, ``file:PATH``, or ``none``.

A sound card's name is ``default``, an ALSA name (``plughw:CARD=Device,DEV=0``), or a part of its description. Numbers
are rejected, because they change at boot.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from agent.audio.format import Format
from agent.errors import DeviceError
from agent.system.named_tuple import NamedTuple

_FILE = "file:"


class Device(NamedTuple):
    """A device of a sound card. Immutable.

    ``inputs`` and ``outputs``: maximum number of channels, 0 for none; ``rates``: in Hz; ``line``: the line for the
    configuration, below ``microphone`` or ``speaker``.
    """

    name: str
    alsa_name: str
    inputs: int
    outputs: int
    rates: tuple[int, ...]
    line: str


class Source(Protocol):
    """A microphone: 16 kHz mono s16le, frame by frame, in real time. One thread opens, reads and closes it.

    ``lost_samples``: number of samples at 16 kHz that were recorded but dropped before they were read.
    """

    @property
    def lost_samples(self) -> int: ...

    @property
    def captured_at(self) -> float:
        """The monotonic time at which the last sample of the last frame was recorded."""
        ...

    def read(self) -> bytes:
        """Return the next frame; block in real time.

        Raises:
            DeviceError: With ``lost`` set, if the card is gone.
        """
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """A speaker: plays s16le in ``format`` in real time. One thread opens, uses and closes it.

    ``underruns``: how often the sink was empty within an utterance. Each method except ``close`` raises ``DeviceError``
    with ``lost`` set if the card is gone; ``accepted_frames`` stays valid then.
    """

    format: Format
    underruns: int

    @property
    def accepted_frames(self) -> int:
        """Frames of ``format`` that the card accepted since it was opened, drained or dropped."""
        ...

    @property
    def empty_at(self) -> float:
        """The monotonic time at which everything will have been played; infinite if the sink cannot underrun."""
        ...

    @property
    def ready_in_seconds(self) -> float:
        """Estimated time that ``write`` would block."""
        ...

    def write(self, pcm: bytes) -> None:
        """Accept whole frames; block while the buffer is full."""
        ...

    def drain_nowait(self) -> float:
        """Drain without blocking.

        Only ``drain``, ``drop`` or ``close`` may be called before it has returned 0.0.

        Returns:
            Seconds until the next call; 0.0 when everything was played.
        """
        ...

    def drain(self) -> None:
        """Return when everything was played."""
        ...

    def drop(self) -> None:
        """Stop immediately; discard all audio that was not played."""
        ...

    def change_format(self, format: Format) -> bool:
        """Accept another format from now on; return ``False`` if the sink must be reopened for it.

        Only after ``drain`` or ``drop``.
        """
        ...

    def close(self) -> None: ...


def is_card(name: str) -> bool:
    """Return whether the name selects a sound card, present or not, and not ``file:PATH`` or ``none``."""
    return name != "none" and not name.startswith(_FILE)


def open_source(name: str, frame_seconds: float, channel: int = 1, gain_db: float = 0.0) -> Source:
    """Open the microphone ``name``.

    Args:
        name: Name of the device.
        frame_seconds: Duration of a frame.
        channel: The channel of the card or file, from 1.
        gain_db: Amplification in decibels, with clipping.

    Raises:
        DeviceError: If the sound card cannot be opened, or lacks the channel.
        AudioError: If the file cannot be read, or a library is missing.
    """
    if name == "none" or name.startswith(_FILE):
        from agent.audio.devices.file import FileSource, SilentSource

        if name == "none":
            return SilentSource(frame_seconds)
        return FileSource(Path(name.removeprefix(_FILE)), frame_seconds, channel=channel, gain_db=gain_db)
    from agent.audio.devices.card import CardSource

    return CardSource(name, frame_seconds, channel, gain_db)


def open_sink(name: str, format: Format, period_seconds: float, buffer_seconds: float) -> Sink:
    """Open the speaker ``name``; ``file:PATH`` records into a new file, which grows with the played audio.

    Args:
        name: Name of the device.
        format: Format of the audio.
        period_seconds: Shortest period of the card.
        buffer_seconds: Desired size of the card's buffer.

    Raises:
        DeviceError: If the sound card cannot be opened.
        AudioError: If the file cannot be written, or a library is missing.
    """
    if name == "none" or name.startswith(_FILE):
        from agent.audio.devices.file import PacedSink

        if name == "none":
            return PacedSink(format, buffer_seconds)
        return PacedSink(format, buffer_seconds, Path(name.removeprefix(_FILE)))
    from agent.audio.devices.card import CardSink

    return CardSink(name, format, period_seconds, buffer_seconds)


def list_devices() -> list[Device]:
    """List the devices that can be opened, ``default`` first; empty without a sound card.

    Raises:
        DeviceError: If PortAudio is missing, or the configuration of ALSA is invalid.
    """
    from agent.audio.devices.portaudio import list_cards

    return [
        Device(card.name, card.alsa_name, card.inputs, card.outputs, card.rates, f"device: {card.alsa_name}")
        for card in list_cards()
    ]


def default_device_error() -> DeviceError | None:
    """Return the error of ALSA's device ``default`` if it cannot be opened because of a file or a sound server.

    Raises:
        DeviceError: If the configuration of ALSA is invalid.
    """
    from agent.audio.devices.portaudio import diagnose_default

    return diagnose_default()


WaitPolicy = Callable[[DeviceError], bool]
"""Decides whether to wait for a device that has never been open. If not, the owner gets the error of the device. If a
device fails that was open before, the owner always waits for its return."""


def fail_fast(error: DeviceError) -> bool:
    """Never wait: the policy of a command."""
    return False


def wait_for_device(error: DeviceError) -> bool:
    """Wait for a missing, busy or unknown card: the policy of the daemon.

    The daemon may start before the kernel detects the USB cards. A wait does not help if a card supports none of the
    formats.
    """
    return error.lost or error.unknown
