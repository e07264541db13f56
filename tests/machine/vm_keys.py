"""In the virtual machine: press a key of an input device of the kernel (uinput) for a button in the service's sandbox.

The device is plugged in after the start of the button, unplugged, and plugged in again.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import evdev

from agent.frontends.panel.button import Button
from agent.frontends.panel.keys import KeySource
from agent.pipeline.events import Event
from machine.vm_sandbox import LIBRARY, SYSTEM

RESULT = Path("/run/keys.result")
KEY = evdev.ecodes.KEY_PLAYPAUSE
TIMEOUT_SECONDS, POLL_SECONDS = 60.0, 0.2


def press_in_sandbox(unit: Path, drop_in: Path) -> dict[str, Any]:
    """Return what the button of a service with the shipped ``drop_in`` reported. Requires root."""
    subprocess.run(["modprobe", "uinput"], check=True)
    name = "keys.service"
    shutil.copy(unit, SYSTEM / name)
    folder = SYSTEM / f"{name}.d"
    folder.mkdir()
    shutil.copy(drop_in, folder / "keys.conf")
    (folder / "test.conf").write_text(
        "[Service]\nType=exec\nRestart=no\nWatchdogSec=0\nExecReload=\nExecStart=\n"
        "ExecStart=/usr/bin/python3 -m machine.vm_keys\n"
        f"Environment=PYTHONPATH={LIBRARY}\nStandardOutput=file:{RESULT}\nStandardError=file:{RESULT}\n"
    )
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    subprocess.run(["systemctl", "start", name], check=True)
    wait_for("waiting", 1)
    presses = 0
    for _ in range(2):
        with evdev.UInput({evdev.ecodes.EV_KEY: [KEY]}, name="VM Remote") as device:
            before = count("ListenNow")
            pause = threading.Event()
            for _ in range(round(TIMEOUT_SECONDS / POLL_SECONDS)):  # until the service has opened the device
                if count("ListenNow") > before:
                    break
                for value in (1, 0):
                    device.write(evdev.ecodes.EV_KEY, KEY, value)
                    device.syn()
                pause.wait(POLL_SECONDS)
            presses += count("ListenNow") > before
        wait_for("not usable", presses + 1)
    subprocess.run(["systemctl", "stop", name], check=True)
    output = RESULT.read_text()
    return {"devices": presses, "uid": int(output.split("uid ")[1].split()[0]), "warnings": output.count("not usable")}


def count(words: str) -> int:
    return RESULT.read_text().count(words) if RESULT.exists() else 0


def wait_for(words: str, number: int) -> None:
    pause = threading.Event()
    for _ in range(round(TIMEOUT_SECONDS / POLL_SECONDS)):
        if count(words) >= number:
            return
        pause.wait(POLL_SECONDS)
    raise AssertionError(f"no {words!r}: {RESULT.read_text()}")


def main() -> None:
    """Run a button until systemd ends the process."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    print("uid", os.geteuid(), flush=True)

    def report(event: Event) -> None:
        print("event", event, flush=True)

    button = Button(lambda: KeySource("KEY_PLAYPAUSE", "VM Remote"), 5.0, report)
    button.open()
    button.start()


if __name__ == "__main__":
    main()
