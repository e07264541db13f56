"""What users call a sound card, and what ALSA calls it: pure, so that every mistake has its sentence and its test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.audio.devices.alsa import SINK_SLOT, SOURCE_SLOT, CardPcm
from agent.errors import DeviceError

_HARDWARE = re.compile(r"\((?:plug)?hw:(\d+),(\d+)\)$")
# What alsa-plugins defines and PortAudio lists, though no sound comes in or goes out there by itself.
_NO_DEVICES = re.compile(
    r"^(surround|lavrate|samplerate|speexrate|speex$|upmix|vdownmix|jack|oss|usbstream|a52|dmix|dsnoop|null|iec958"
    rf"|{SOURCE_SLOT}$|{SINK_SLOT}$)"
)


@dataclass(frozen=True, slots=True)
class PortAudioDevice:
    """One device of PortAudio's list. ``inputs`` and ``outputs`` are its most channels."""

    index: int
    name: str
    inputs: int
    outputs: int


def reject_number(name: str) -> None:
    """``DeviceError`` where a name is a number, or nothing."""
    if not name.strip() or name.strip().isdigit():
        raise DeviceError(
            f"{name!r} is no name of a sound device, and numbers change at boot: use a name from `voice-agent devices`"
        )


def resolve_name(name: str, output: bool, listed: Sequence[PortAudioDevice], present: Sequence[CardPcm]) -> list[str]:
    """The ALSA names to try, in this order, for ``name``, a part of a card's name in any case.

    ``present``: the kernel's cards; ``listed``: what ALSA's configuration adds to them. ``DeviceError`` where it fits
    nothing, or several; a whole name outranks a part of a longer one.
    """
    part = name.strip().casefold()
    side = "speaker" if output else "microphone"
    kernel = [card for card in present if (card.sink if output else card.source)]
    named = [device.name for device in listed if (device.outputs if output else device.inputs) and _is_device(device)]
    found = [card for card in kernel if part in f"{card.card} {card.name}".casefold()]
    others = [n for n in named if part in n.casefold()]
    exact = [card for card in found if part == card.card.casefold()]
    if exact:
        found, others = exact, []
    choices = sorted({f"{card.name}, {card.card}" for card in found} | set(others))
    if len(choices) > 1:
        raise DeviceError(f"{name!r} fits several sound devices: {'; '.join(choices)}; write more of the name")
    if found:
        # The card itself first: ALSA's plug would take any rate and convert it worse than our own resampler does.
        return [f"{how}:{found[0].address}" for how in ("hw", "plughw")]
    if others:
        return others
    there = sorted({card.name for card in kernel} | set(named))
    raise DeviceError(
        f"there is no {side} {name!r}; there is: {'; '.join(there) or 'no sound device at all'}", unknown=True
    )


def alsa_name(device: PortAudioDevice, present: Sequence[CardPcm]) -> tuple[str, str] | None:
    """A device's name for people and for ALSA; ``None`` for what is no device a user would choose."""
    hardware = _HARDWARE.search(device.name)
    if not hardware:
        return (device.name, device.name) if _is_device(device) else None
    for card in present:
        if (card.number, card.device) == (int(hardware[1]), int(hardware[2])):
            return card.name, f"plughw:{card.address}"
    return None


def _is_device(device: PortAudioDevice) -> bool:
    return not (_HARDWARE.search(device.name) or _NO_DEVICES.match(device.name))
