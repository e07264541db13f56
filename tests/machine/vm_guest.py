"""What the virtual machine does: speaks on a USB card that is taken out and comes back under another number.

Every step is a line of JSON on standard output. ``python3 -m machine.vm_guest AWAY_SECONDS``.
"""

from __future__ import annotations

import array
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.audio.devices.alsa import kernel_pcms
from agent.audio.devices.device import list_devices, open_sink, open_source
from agent.audio.format import Format
from agent.pipeline.capture.frame_queue import FrameQueue
from agent.pipeline.capture.microphone import Microphone
from agent.pipeline.events import DeviceBack, DeviceLost, Event
from agent.pipeline.playback.reconnecting_sink import ReconnectingSink
from agent.system.threads import Deadline
from machine.vm_sandbox import in_the_sandbox

CARD = "USB Audio"
FORMAT = Format(48000, 2)
TIMEOUT_SECONDS = 60.0


def tell(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, "at": round(time.monotonic(), 3), **more}), flush=True)


def wish(number: int, command: str, **arguments: Any) -> None:
    new = Path("wish.new")
    new.write_text(f"{command} {json.dumps(arguments)}\n")
    os.replace(new, f"qmp.{number}")


def until(met: Callable[[], bool]) -> float:
    """When it came true: nothing tells of a card but looking."""
    pause = threading.Event()
    deadline = Deadline(TIMEOUT_SECONDS)
    while not met():
        assert not deadline.is_expired, "it did not come"
        pause.wait(0.02)
    return time.monotonic()


def usb() -> int | None:
    """The number of the USB card now."""
    return next((card.number for card in kernel_pcms() if CARD in card.name), None)


def main(away_seconds: float) -> None:
    subprocess.run(["modprobe", "snd-usb-audio"], check=True)
    until(lambda: usb() is not None)
    tell("sandbox", **in_the_sandbox(Path("voice-agent.service")))
    tell("cards", cards=[(card.number, card.name) for card in kernel_pcms()])
    tell("devices", devices=[(device.name, device.alsa_name) for device in list_devices()])
    events: list[tuple[float, Event]] = []
    over = threading.Event()

    def report(event: Event) -> None:
        events.append((time.monotonic(), event))
        tell("event", event=repr(event))

    sink = ReconnectingSink(lambda format: open_sink(CARD, format, 0.02, 0.4), report, threading.Event())
    written = [0]

    def speak() -> None:
        # Each frame tells its place, in steps so large that the card's own volume does not hide it.
        while not over.is_set():
            period = array.array("h")
            for place in range(written[0], written[0] + 960):
                period.extend((1000 + 64 * (place % 400), 1000 + 16 * (place // 400)))
            if not sink.write(period.tobytes(), FORMAT, lambda: not over.is_set()):
                break
            written[0] += 960
        sink.close()

    frames = FrameQueue(5.0)
    microphone = Microphone(frames, lambda: open_source("HDA", 0.1), report)
    speaker = threading.Thread(target=speak)
    microphone.start()
    speaker.start()
    pause = threading.Event()
    pause.wait(4.0)
    before = usb()
    tell("taken out", number=before, written=written[0])
    wish(1, "device_del", id="usb")
    gone = until(lambda: usb() is None)
    lost = until(lambda: any(isinstance(event, DeviceLost) for _, event in list(events)))
    tell("lost", after=round(lost - gone, 2), written=written[0])
    subprocess.run(["modprobe", "snd-dummy"], check=True)  # takes the number that is free now
    pause.wait(away_seconds)
    wish(2, "device_add", driver="usb-audio", id="usb", audiodev="after")
    there = until(lambda: usb() is not None)
    back = until(lambda: any(isinstance(event, DeviceBack) for _, event in list(events)))
    tell("back", after=round(back - there, 2), before=before, number=usb())
    pause.wait(4.0)
    over.set()
    microphone.stop()
    assert microphone.join(Deadline(TIMEOUT_SECONDS))
    speaker.join(TIMEOUT_SECONDS)
    lost_sides = {event.which for _, event in events if isinstance(event, DeviceLost)}
    tell("end", written=written[0], forgotten=frames.dropped_frames, lost=sorted(lost_sides))


if __name__ == "__main__":
    main(float(sys.argv[1]))
