"""In the virtual machine: play on a USB card that is unplugged and plugged in again under another number.

``python3 -m machine.vm_guest UNPLUGGED_SECONDS`` prints one line of JSON per step.
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
from machine.vm_keys import press_in_sandbox
from machine.vm_sandbox import run_in_sandbox

CARD = "USB Audio"
FORMAT = Format(48000, 2)
TIMEOUT_SECONDS = 60.0


def print_step(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, "at": round(time.monotonic(), 3), **more}), flush=True)


def request(number: int, command: str, **arguments: Any) -> None:
    new = Path("request.new")
    new.write_text(f"{command} {json.dumps(arguments)}\n")
    os.replace(new, f"qmp.{number}")


def wait_until(is_met: Callable[[], bool]) -> float:
    """Poll a condition, since the kernel does not report a new card; return the time at which it became true."""
    pause = threading.Event()
    deadline = Deadline(TIMEOUT_SECONDS)
    while not is_met():
        assert not deadline.is_expired, "the condition was not met"
        pause.wait(0.02)
    return time.monotonic()


def usb_card() -> int | None:
    """Return the current number of the USB card."""
    return next((card.number for card in kernel_pcms() if CARD in card.name), None)


def main(unplugged_seconds: float) -> None:
    subprocess.run(["modprobe", "snd-usb-audio"], check=True)
    wait_until(lambda: usb_card() is not None)
    print_step("sandbox", **run_in_sandbox(Path("voice-agent.service")))
    print_step("keys", **press_in_sandbox(Path("voice-agent.service"), Path("keys.conf.example")))
    print_step("cards", cards=[(card.number, card.name) for card in kernel_pcms()])
    print_step("devices", devices=[(device.name, device.alsa_name) for device in list_devices()])
    events: list[tuple[float, Event]] = []
    over = threading.Event()

    def report(event: Event) -> None:
        events.append((time.monotonic(), event))
        print_step("event", event=repr(event))

    sink = ReconnectingSink(lambda format: open_sink(CARD, format, 0.02, 0.4), report, threading.Event())
    written = [0]

    def play() -> None:
        # Each frame encodes its position, in steps large enough to survive the card's own volume.
        while not over.is_set():
            period = array.array("h")
            for position in range(written[0], written[0] + 960):
                period.extend((1000 + 64 * (position % 400), 1000 + 16 * (position // 400)))
            if not sink.write(period.tobytes(), FORMAT, lambda: not over.is_set()):
                break
            written[0] += 960
        sink.close()

    frames = FrameQueue(5.0)
    microphone = Microphone(frames, lambda: open_source("HDA", 0.1), report)
    speaker = threading.Thread(target=play)
    microphone.start()
    speaker.start()
    pause = threading.Event()
    pause.wait(4.0)
    before = usb_card()
    print_step("unplugged", number=before, written=written[0])
    request(1, "device_del", id="usb")
    gone = wait_until(lambda: usb_card() is None)
    lost = wait_until(lambda: any(isinstance(event, DeviceLost) for _, event in list(events)))
    print_step("lost", after=round(lost - gone, 2), written=written[0])
    subprocess.run(["modprobe", "snd-dummy"], check=True)  # a dummy card takes the free number
    pause.wait(unplugged_seconds)
    request(2, "device_add", driver="usb-audio", id="usb", audiodev="after")
    there = wait_until(lambda: usb_card() is not None)
    back = wait_until(lambda: any(isinstance(event, DeviceBack) for _, event in list(events)))
    print_step("back", after=round(back - there, 2), before=before, number=usb_card())
    pause.wait(4.0)
    over.set()
    microphone.stop()
    assert microphone.join(Deadline(TIMEOUT_SECONDS))
    speaker.join(TIMEOUT_SECONDS)
    lost_devices = {event.device for _, event in events if isinstance(event, DeviceLost)}
    print_step("end", written=written[0], forgotten=frames.dropped_frames, lost=sorted(lost_devices))


if __name__ == "__main__":
    main(float(sys.argv[1]))
