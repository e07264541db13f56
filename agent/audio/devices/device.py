"""Where sound comes from and goes to, by name: a sound card, ``file:PATH``, or ``none``.

A name is ``default``, an ALSA name taken as it is written (``plughw:CARD=Device,DEV=0``), or part of a card's name;
never a number, because numbers change at boot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.audio.format import Format
from agent.errors import DeviceError

_FILE = "file:"


@dataclass(frozen=True, slots=True)
class Device:
    """A sound card's device. ``line`` is what to write into the configuration, below ``microphone`` or ``speaker``.

    ``inputs`` and ``outputs`` are the most channels of each direction, 0 where there is none; ``rates`` in Hz.
    """

    name: str
    alsa_name: str
    inputs: int
    outputs: int
    rates: tuple[int, ...]
    line: str


class Source(Protocol):
    """A microphone: 16 kHz mono s16le, frame by frame, in real time.

    One thread opens, reads and closes it. ``lost_frames`` counts samples that were recorded and never read.
    """

    @property
    def lost_frames(self) -> int: ...

    def read(self) -> bytes:
        """The next frame. Blocks in real time; ``DeviceError`` with ``lost`` when the card is gone."""
        ...

    def close(self) -> None: ...


class Sink(Protocol):
    """A speaker: takes s16le of ``format``, at the pace of what it is played on. One thread opens, uses and closes it.

    ``underruns`` counts how often it ran empty in the middle of an utterance. Every method but ``close`` raises
    ``DeviceError`` with ``lost`` when the card is gone; ``taken_frames`` then still tells how much it had taken.
    """

    format: Format
    underruns: int

    @property
    def accepted_frames(self) -> int:
        """How many frames of ``format`` the card has taken since it was opened, drained or dropped."""
        ...

    @property
    def queued_seconds(self) -> float:
        """How much of what was written is still to be heard; endless where nothing can run dry."""
        ...

    @property
    def ready_in_seconds(self) -> float:
        """How long ``write`` would wait, as far as can be known; 0.0 where it would not."""
        ...

    def write(self, pcm: bytes) -> None:
        """Takes sound; waits while the buffer is full."""
        ...

    def drain_nowait(self) -> float:
        """Drains, but does not wait: returns after how many seconds it is to be called again, 0.0 when everything
        written has been heard, to its last sample. Only ``drain``, ``drop`` or ``close`` may come between."""
        ...

    def drain(self) -> None:
        """Returns when everything written has been heard, to its last sample."""
        ...

    def drop(self) -> None:
        """Silent at once; what has not been heard never will be."""
        ...

    def change_format(self, format: Format) -> bool:
        """Takes sound of another ``format`` from now on; ``False`` where it must be opened anew for that. To be asked
        only when everything has been drained or dropped."""
        ...

    def close(self) -> None: ...


def is_card(name: str) -> bool:
    """Whether the name stands for a sound card, which may be missing, and not for a file or for nothing."""
    return name != "none" and not name.startswith(_FILE)


def open_source(name: str, frame_seconds: float) -> Source:
    """Opens the microphone ``name``; ``DeviceError`` or ``AudioError`` in one sentence where that cannot be done."""
    if name == "none" or name.startswith(_FILE):
        from agent.audio.devices.file import FileSource, SilentSource

        if name == "none":
            return SilentSource(frame_seconds)
        return FileSource(Path(name.removeprefix(_FILE)), frame_seconds)
    from agent.audio.devices.card import CardSource

    return CardSource(name, frame_seconds)


def open_sink(name: str, format: Format, period_seconds: float, buffer_seconds: float) -> Sink:
    """Opens the speaker ``name`` for sound of ``format``, with about ``buffer_seconds`` between write and ear.

    ``file:PATH`` replaces the file at PATH, when it is closed.
    """
    if name == "none" or name.startswith(_FILE):
        from agent.audio.devices.file import PacedSink

        if name == "none":
            return PacedSink(format, buffer_seconds)
        return PacedSink(format, buffer_seconds, Path(name.removeprefix(_FILE)))
    from agent.audio.devices.card import CardSink

    return CardSink(name, format, period_seconds, buffer_seconds)


def list_devices() -> list[Device]:
    """The devices there are, ``default`` first; empty where there is no sound. ``DeviceError`` without PortAudio."""
    from agent.audio.devices.portaudio import list_cards

    return [
        Device(name, alsa_name, inputs, outputs, rates, f"device: {alsa_name}")
        for name, alsa_name, inputs, outputs, rates in list_cards()
    ]


WaitPolicy = Callable[[DeviceError], bool]
"""Whether to wait for the device; where not, the error ends whoever wanted it. It is asked until the device has been
opened once: from then on every failure may pass."""


def fail_fast(error: DeviceError) -> bool:
    """A command that somebody waits for fails at once."""
    return False


def wait_for_device(error: DeviceError) -> bool:
    """A daemon starts before the cards on USB are found: it waits, says so, and does meanwhile what it can. A card that
    takes no format at all is mended by no waiting."""
    return error.lost or error.unknown
