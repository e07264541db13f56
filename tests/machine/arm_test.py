"""``scripts/arm-test``: the package in an arm64 Debian under emulation, up to one turn of ``voice-agent demo``."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from support.wav import read_wav

from machine import debian
from machine.table import Table, run_steps

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURE = "arm64"


def main() -> int:
    parser = argparse.ArgumentParser(prog="arm-test", description=__doc__)
    parser.add_argument("suite", nargs="?", default="bookworm", choices=("bookworm", "trixie"))
    suite = parser.parse_args().suite
    return run_steps("arm", lambda folder, table: ArmTest(folder, suite, table).run())


class ArmTest:
    """The steps of the test, in a root file system that is not booted."""

    def __init__(self, folder: Path, suite: str, table: Table) -> None:
        self._folder, self._suite, self._table = folder, suite, table
        self._root = folder / "root"
        self._archives = {debian.downloads(suite, ARCHITECTURE): "/var/cache/apt/archives"}

    def run(self) -> None:
        step = self._table.step
        step("the package is built", self._build, needed=True)
        step(f"a minimal Debian ({self._suite}, {ARCHITECTURE})", self._make_root, needed=True)
        step("apt install", self._install, needed=True)
        step("the local voice", self._say)
        step("the local recognizer", self._recognizer)
        step("voice-agent demo", self._demo)

    def _inside(self, *command: str) -> str:
        return debian.in_root(self._root, list(command), self._archives)

    def _build(self) -> str:
        command = [str(ROOT / "scripts/package"), "--output", str(self._folder / "dist")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self._package = Path(done.stdout.strip())
        return self._package.name

    def _make_root(self) -> str:
        debian.unpack(debian.root_archive(self._suite, ARCHITECTURE), self._root)
        shutil.copy(self._package, self._root / "root")
        return self._inside("uname", "--machine").strip()

    def _install(self) -> str:
        install = f"apt-get -qq -y install /root/{self._package.name}"
        self._inside("sh", "-c", f"{install} || {{ apt-get -qq update && {install}; }}")
        return self._inside("voice-agent", "--version").strip()

    def _say(self) -> str:
        self._inside("voice-agent", "say", "--output", "/root/speech.wav", "Good morning.")
        format, pcm = read_wav(self._root / "root/speech.wav")
        seconds = format.seconds_of(len(pcm))
        assert seconds > 0.5, f"only {seconds:.2f} s of audio"
        return f"{seconds:.1f} s of speech"

    def _recognizer(self) -> None:
        self._inside("/usr/lib/voice-agent/add-recognition")

    def _demo(self) -> str:
        output = self._inside("sh", "-c", "cd /root && voice-agent demo --output reply.wav")
        transcript = next((line for line in output.splitlines() if line.strip().startswith("transcript ")), "")
        format, pcm = read_wav(self._root / "root/reply.wav")
        assert format.seconds_of(len(pcm)) > 0.5, "the reply is empty"
        assert "time" in transcript, f"the question was not understood: {output[-1500:]}"
        return " ".join(transcript.split())


if __name__ == "__main__":
    sys.exit(main())
