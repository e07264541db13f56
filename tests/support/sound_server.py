"""PulseAudio with streams of other programs, for one test."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from support.pulse import Pulse
from support.timing import poll_until


class SoundServer:
    """PulseAudio with streams of other programs."""

    def __init__(self, folder: Path) -> None:
        self._pulse = Pulse(folder, 48000)
        self._pulse.start()
        self.env = {**os.environ, **self._pulse.env}
        self._streams: list[subprocess.Popen[bytes]] = []

    def play(self, name: str, volume: int = 65536) -> subprocess.Popen[bytes]:
        """Play silence as a program of this name; its stream exists when this returns."""
        before = len(self.volumes())
        command = ["pacat", "--raw", "--device=speaker", f"--client-name={name}", f"--volume={volume}", "/dev/zero"]
        stream = subprocess.Popen(command, env=self.env, stderr=subprocess.DEVNULL)
        self._streams.append(stream)
        self.await_streams(before + 1)
        return stream

    def end(self, stream: subprocess.Popen[bytes]) -> None:
        before = len(self.volumes())
        stream.kill()
        stream.wait(60)
        self.await_streams(before - 1)

    def await_streams(self, count: int) -> None:
        poll_until(
            lambda: len(self.volumes()) == count,
            0.05,
            lambda: f"{count} streams expected, there are {self.volumes()}",
        )

    def volumes(self) -> list[tuple[str, int]]:
        """Return the name of the program and the volume of each stream, in the order of their starts."""
        rows = json.loads(self.pactl("--format=json", "list", "sink-inputs"))
        return [(row["properties"]["application.name"], next(iter(row["volume"].values()))["value"]) for row in rows]

    def pactl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["pactl", *arguments], env=self.env, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    def kill(self) -> None:
        self._pulse.kill()

    def close(self) -> None:
        for stream in self._streams:
            stream.kill()
            stream.wait(60)
        self._pulse.close()

    def await_volumes(self, *expected: int) -> None:
        """Wait until the streams have these volumes, in the order of their starts."""
        poll_until(
            lambda: [volume for _, volume in self.volumes()] == [*expected],
            0.05,
            lambda: f"volumes {expected} expected, they are {self.volumes()}",
        )
