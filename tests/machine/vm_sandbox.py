"""In the virtual machine: open a sound card of the kernel in the sandbox of the service's unit."""

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
RESULT = Path("/run/sandbox.result")
FORMAT = Format(48000, 2)
SECONDS = 0.5


def run_in_sandbox(unit: Path) -> dict[str, Any]:
    """Return the result of ``main`` started by ``unit``. Requires root; called in the directory with the packages."""
    for package in ("agent", "machine"):  # the service cannot read the shared directory
        shutil.copytree(package, LIBRARY / package)
    shutil.copy(unit, SYSTEM)
    drop_in = SYSTEM / f"{unit.name}.d" / "sandbox.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(
        "[Service]\nType=oneshot\nRestart=no\nRestartForceExitStatus=\nWatchdogSec=0\nExecReload=\nExecStart=\n"
        "ExecStart=/usr/bin/python3 -m machine.vm_sandbox\n"
        f"Environment=PYTHONPATH={LIBRARY}\nStandardOutput=file:{RESULT}\nStandardError=file:{RESULT}\n"
    )
    for command in ("daemon-reload", "start"):
        names = [unit.name] if command == "start" else []
        done = subprocess.run(["systemctl", command, *names], capture_output=True, text=True)
        output = RESULT.read_text() if RESULT.exists() else ""
        assert done.returncode == 0, f"{done.stderr}\n{output}"
    result: dict[str, Any] = json.loads(output)
    return result


def main() -> None:
    source = open_source("HDA", 0.1)
    recorded_bytes = sum(len(source.read()) for _ in range(round(SECONDS / 0.1)))
    source.close()
    sink = open_sink("HDA", FORMAT, 0.02, 0.4)
    sink.write(bytes(FORMAT.bytes_of(SECONDS)))
    sink.drain()
    sink.close()
    print(
        json.dumps(
            {"uid": os.geteuid(), "user": check_user().saw, "recorded_seconds": SPEECH.seconds_of(recorded_bytes)}
        )
    )


if __name__ == "__main__":
    main()
