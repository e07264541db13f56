"""Resolves the device names in the configuration to ALSA names, without access to a sound card."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agent.audio.devices.alsa import SINK_SLOT, SOURCE_SLOT, CardPcm
from agent.errors import DeviceError
from agent.system.named_tuple import NamedTuple

_HARDWARE = re.compile(r"\((?:plug)?hw:(\d+),(\d+)\)$")
# PCMs that alsa-lib and alsa-plugins define and PortAudio lists, but that are not devices.
_PLUGINS = re.compile(
    r"^(surround|lavrate|samplerate|speexrate|speex$|upmix|vdownmix|jack|oss|usbstream|a52|dmix|dsnoop|null|iec958"
    rf"|{SOURCE_SLOT}$|{SINK_SLOT}$)"
)


class PortAudioDevice(NamedTuple):
    """One device of PortAudio's list. Immutable. ``inputs``, ``outputs``: maximum number of channels."""

    number: int
    name: str
    inputs: int
    outputs: int


def reject_number(name: str) -> None:
    """Raise ``DeviceError`` if ``name`` is a number or empty."""
    if not name.strip() or name.strip().isdigit():
        raise DeviceError(
            f"{name!r} is not the name of a sound device, and numbers change at boot. "
            "Use a name from `voice-agent devices`."
        )


def resolve_name(name: str, output: bool, listed: Sequence[PortAudioDevice], present: Sequence[CardPcm]) -> list[str]:
    """Resolve a part of a card's name, in upper or lower case, to the ALSA names to try in order.

    Args:
        name: Part of a name; a card's complete id takes precedence over a part of another name.
        output: Whether to look for a speaker.
        listed: PortAudio's list, which contains the PCMs of ALSA's configuration.
        present: The PCMs of the kernel's cards.

    Raises:
        DeviceError: If no device or several devices match.
    """
    part = name.strip().casefold()
    side = "speaker" if output else "microphone"
    kernel = [card for card in present if (card.sink if output else card.source)]
    named = [device.name for device in listed if (device.outputs if output else device.inputs) and _is_device(device)]
    matches = [card for card in kernel if part in f"{card.card} {card.name}".casefold()]
    others = [each for each in named if part in each.casefold()]
    exact = [card for card in matches if part == card.card.casefold()]
    if exact:
        matches, others = exact, []
    choices = sorted({f"{card.name}, {card.card}" for card in matches} | set(others))
    if len(choices) > 1:
        raise DeviceError(
            f"{name!r} matches several sound devices: {'; '.join(choices)}. Use a longer part of the name."
        )
    if matches:
        # First the card itself: ALSA's plug accepts every rate, but converts with lower quality than our resampler.
        return [f"{how}:{matches[0].address}" for how in ("hw", "plughw")]
    if others:
        return others
    available = sorted({card.name for card in kernel} | set(named))
    raise DeviceError(
        f"there is no {side} {name!r}; available: {'; '.join(available) or 'no sound device at all'}", unknown=True
    )


def alsa_name(device: PortAudioDevice, present: Sequence[CardPcm]) -> tuple[str, str] | None:
    """Return the name that users see and the ALSA name of a device; ``None`` if users cannot select it."""
    hardware = _HARDWARE.search(device.name)
    if not hardware:
        return (device.name, device.name) if _is_device(device) else None
    for card in present:
        if (card.number, card.device) == (int(hardware[1]), int(hardware[2])):
            return card.name, f"plughw:{card.address}"
    return None


def _is_device(device: PortAudioDevice) -> bool:
    return not (_HARDWARE.search(device.name) or _PLUGINS.match(device.name))
