"""``voice-agent devices``: the sound cards there are, and the line to write for each."""

from __future__ import annotations

import json
from dataclasses import asdict

from agent.audio.devices import Device, list_devices
from agent.safe import safe


def devices(*, as_json: bool = False) -> int:
    """Raises ``DeviceError`` where PortAudio cannot be asked."""
    found = list_devices()
    if as_json:
        print(json.dumps([asdict(device) for device in found]))
        return 0
    if not found:
        print("no sound card: microphone.device and speaker.device may still be file:PATH.wav or none")
        return 0
    for device in found:
        print(safe(device.name))
        print(f"    {_abilities(device)}")
        print(f"    {safe(device.line)}")
    return 0


def _abilities(device: Device) -> str:
    sides = [
        f"{count} channel{'s' if count > 1 else ''} {side}"
        for count, side in ((device.inputs, "in"), (device.outputs, "out"))
        if count
    ]
    rates = ", ".join(str(rate) for rate in device.rates) or "no common rate"
    return f"{' and '.join(sides)}; {rates} Hz"
