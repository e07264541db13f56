"""A virtual machine with Debian's kernel, its sound drivers and a USB card that can be unplugged.

Without hardware virtualization the machine is emulated, which is about ten times slower.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from machine.debian import CACHE, MAX_AGE_SECONDS

PACKAGES = (
    "linux-image-amd64,initramfs-tools,systemd,systemd-sysv,udev,kmod,procps,libasound2-plugins,libspeexdsp1,"
    "python3,python3-pyaudio,python3-evdev"
)
BOOT_SECONDS = 400.0
_SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
_JOB = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /share; mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /share; \
cd /share; sh ./job.sh >job.out 2>&1; echo "exit $?" >>job.out; sync; systemctl --no-block poweroff'
"""


def image() -> Path:
    """Return a directory with disk, kernel and initrd; they are created once, which takes minutes."""
    made = CACHE / f"vm-bookworm-{zlib.crc32(PACKAGES.encode()):08x}"
    if (made / "disk").exists() and time.time() - (made / "disk").stat().st_mtime < MAX_AGE_SECONDS:
        return made
    shutil.rmtree(made, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vm-", dir=CACHE) as folder:
        new, root = Path(folder) / "new", Path(folder) / "root"
        new.mkdir()
        command = ["mmdebstrap", "--quiet", "--format=directory", "--variant=minbase", f"--include={PACKAGES}"]
        subprocess.run([*command, "bookworm", str(root), *([str(_SOURCES)] if _SOURCES.exists() else [])], check=True)
        system = root / "etc/systemd/system"
        (system / "job.service").write_text(_JOB)
        (system / "graphical.target.wants").mkdir(exist_ok=True)
        (system / "graphical.target.wants/job.service").symlink_to("../job.service")
        (root / "etc/hostname").write_text("vm\n")
        (root / "etc/machine-id").write_text("")
        (root / "etc/fstab").write_text("/dev/vda / ext4 rw,noatime 0 1\n")
        disk = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), str(new / "disk"), "2G"]
        subprocess.run(disk, check=True)
        for name, pattern in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
            (file,) = (root / "boot").glob(pattern)
            shutil.copy(file, new / name)
        os.replace(new, made)
    return made


class Machine:
    """One run of the machine: it boots, runs ``job.sh`` and powers itself off. Not thread-safe.

    The job sends requests to the emulator as files ``qmp.N`` (N = 1, 2, ...) in /share, each with a QMP command and its
    arguments as JSON; they are executed in this order.

    Args:
        share: The directory with ``job.sh``, mounted as /share.
        devices: Further options of the emulator.
    """

    def __init__(self, share: Path, *devices: str) -> None:
        self._share = share
        self._made = image()
        self._monitor = share / "monitor"
        self._devices = devices

    def run(self) -> str:
        """Return the output of the job; its last line is ``exit 0``."""
        errors = ""
        output = self._share / "job.out"
        # KVM may be present and not work, for example inside another virtual machine.
        for how in (["kvm"] if os.access("/dev/kvm", os.R_OK | os.W_OK) else []) + ["tcg,thread=multi"]:
            errors = self._boot(how)
            if output.exists():
                return output.read_text()
        raise AssertionError(f"the machine did not boot: {errors[-500:]}")

    def _boot(self, how: str) -> str:
        """Run until the machine powers off; return the errors of the emulator."""
        process = subprocess.Popen(
            ["qemu-system-x86_64", "-M", "q35", "-accel", how, "-cpu", "max",
             "-smp", "2", "-m", "1024", "-display", "none", "-no-reboot", "-monitor", "none", "-nic", "none",
             "-kernel", str(self._made / "kernel"), "-initrd", str(self._made / "initrd"),
             "-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0 mitigations=off",
             "-drive", f"file={self._made / 'disk'},if=virtio,format=raw,snapshot=on",
             "-virtfs", f"local,path={self._share},mount_tag=share,security_model=none",
             "-serial", f"file:{self._share / 'console'}", "-qmp", f"unix:{self._monitor},server=on,wait=off",
             "-device", "virtio-rng-pci", "-device", "qemu-xhci", *self._devices],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        over = threading.Event()
        requests = threading.Thread(target=self._execute_requests, args=(over,))
        requests.start()
        try:
            _, errors = process.communicate(timeout=BOOT_SECONDS)
        finally:
            over.set()
            process.kill()
            process.wait(10)
            requests.join()
        return errors.decode("utf-8", "replace")

    def _execute_requests(self, over: threading.Event) -> None:
        number = 1
        # inotify does not report changes by the guest in a 9p share, so the directory is polled.
        while not over.wait(0.1):
            request = self._share / f"qmp.{number}"
            if request.exists():
                command, _, arguments = request.read_text().strip().partition(" ")
                self._command(command, json.loads(arguments))
                number += 1

    def _command(self, command: str, arguments: dict[str, Any]) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10.0)
            sock.connect(str(self._monitor))
            with sock.makefile("rw") as stream:
                stream.readline()
                for execute, parameters in (("qmp_capabilities", {}), (command, arguments)):
                    stream.write(json.dumps({"execute": execute, "arguments": parameters}) + "\n")
                    stream.flush()
                    answer: dict[str, Any] = {"event": True}
                    while "event" in answer:
                        answer = json.loads(stream.readline())
                    assert "error" not in answer, answer
