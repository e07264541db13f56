"""In the virtual machine: the service's own unit, but for what it starts, opens a card of the kernel's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from agent.audio.devices.device import open_sink, open_source
from agent.audio.format import SPEECH, Format
from agent.cli.doctor.machine import check_user

SYSTEM = Path("/run/systemd/system")
LIBRARY = Path("/opt/sandbox")
FOUND = Path("/run/sandbox.found")
FORMAT = Format(48000, 2)
SECONDS = 0.5


def in_the_sandbox(unit: Path) -> dict[str, Any]:
    """What ``main`` finds when it is started by ``unit``. As root, in the folder that has the packages."""
    for package in ("agent", "machine"):  # the shared folder is for root only
        shutil.copytree(package, LIBRARY / package)
    shutil.copy(unit, SYSTEM)
    addition = SYSTEM / f"{unit.name}.d" / "sandbox.conf"
    addition.parent.mkdir()
    addition.write_text(
        "[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nExecReload=\nExecStart=\n"
        "ExecStart=/usr/bin/python3 -m machine.vm_sandbox\n"
        f"Environment=PYTHONPATH={LIBRARY}\nStandardOutput=file:{FOUND}\nStandardError=file:{FOUND}\n"
    )
    for command in ("daemon-reload", "start"):
        names = [unit.name] if command == "start" else []
        done = subprocess.run(["systemctl", command, *names], capture_output=True, text=True)
        said = FOUND.read_text() if FOUND.exists() else ""
        assert done.returncode == 0, f"{done.stderr}\n{said}"
    found: dict[str, Any] = json.loads(said)
    return found


def main() -> None:
    source = open_source("HDA", 0.1)
    heard = sum(len(source.read()) for _ in range(round(SECONDS / 0.1)))
    source.close()
    sink = open_sink("HDA", FORMAT, 0.02, 0.4)
    sink.write(bytes(FORMAT.bytes_of(SECONDS)))
    sink.drain()
    sink.close()
    print(json.dumps({"uid": os.geteuid(), "who": check_user().saw, "heard": SPEECH.seconds_of(heard)}))


if __name__ == "__main__":
    main()
