"""The local speech server as a separate process on a free local port."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

TIMEOUT_SECONDS = 30.0


class LocalServerProcess:
    """A running server: ``with LocalServerProcess(tmp_path, "--speech", "tone") as server``. Not thread-safe."""

    def __init__(self, directory: Path, *arguments: str, stdin: int = subprocess.DEVNULL) -> None:
        self.wire_path = directory / "wire.jsonl"
        self.log_path = directory / "server.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent.server", "--port", "0", "--wire-log", str(self.wire_path),
             "--log", str(self.log_path), *arguments],
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None and self.process.stderr is not None
        killer = threading.Timer(TIMEOUT_SECONDS, self.process.kill)
        killer.start()
        line = self.process.stdout.readline()
        killer.cancel()
        if not line.startswith("listening on "):
            raise AssertionError(f"the server did not start: {line!r} {self.process.stderr.read()}")
        self.host, _, port = line.removeprefix("listening on ").strip().rpartition(":")
        self.port = int(port)
        self.ws = f"ws://{self.host}:{self.port}"
        self.http = f"http://{self.host}:{self.port}"
        self.wyoming_port = 0
        if "--wyoming" in arguments:
            line = self.process.stdout.readline()
            assert line.startswith("wyoming on "), line
            self.wyoming_port = int(line.rpartition(":")[2])

    def wire(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.wire_path.read_text(encoding="utf-8").splitlines()]

    def event_names(self, direction: str, service: str) -> list[str]:
        """Return the names of the events in one direction, in order."""
        return [
            event
            for line in self.wire()
            if line["direction"] == direction and line["service"] == service
            for event in line.get("events", [])
        ]

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_SECONDS)

    def __enter__(self) -> LocalServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
