"""The program as separate processes: every wait is bounded, and every process is reaped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from support.local_server import LocalServerProcess

TIMEOUT_SECONDS = 60.0
RUN_DIRECTORY = tempfile.TemporaryDirectory(prefix="voice-agent-run-")
"""Of the default control socket, so that a daemon outside the tests is no second one."""

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("VOICE_AGENT_")},
    "RUNTIME_DIRECTORY": RUN_DIRECTORY.name,
    "CACHE_DIRECTORY": f"{RUN_DIRECTORY.name}/cache",
}


class Stream:
    """The output of a process, read by a thread; ``first_at`` is the monotonic time of the first byte. Thread-safe."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.data = b""
        self.first_at: float | None = None
        self._over = False
        self._changed = threading.Condition()
        self._pipe = pipe
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), 65536):
                with self._changed:
                    self.first_at = self.first_at or time.monotonic()
                    self.data += chunk
                    self._changed.notify_all()
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def await_bytes(self, least: int) -> None:
        self.await_that(lambda: len(self.data) >= least, f"{least} bytes")

    def await_text(self, *texts: str) -> None:
        """Wait for one of the texts."""
        self.await_that(lambda: any(text.encode() in self.data for text in texts), " or ".join(map(repr, texts)))

    def await_that(self, met: Callable[[], bool], what: str) -> None:
        """Wait until a condition of the output is met; ``what`` names it in the failure."""
        with self._changed:
            self._changed.wait_for(lambda: met() or self._over, TIMEOUT_SECONDS)
            assert met(), f"{what} is missing in {self.data[-2000:]!r}"

    def whole(self) -> bytes:
        self._thread.join(TIMEOUT_SECONDS)
        return self.data


class Process:
    """One ``voice-agent`` in its own process group. Not thread-safe.

    Args:
        under: A command prefix that executes the program.
    """

    def __init__(self, *arguments: str | bytes, env: Mapping[str, str] | None = None, cwd: Path | None = None,
                 stdin: bool = False, stdout: int = subprocess.PIPE, under: Sequence[str] = ()) -> None:  # fmt: skip
        state = tempfile.mkdtemp(prefix="state-", dir=RUN_DIRECTORY.name)  # no announcements of another daemon
        self.popen = subprocess.Popen(
            [*under, sys.executable, "-m", "agent", *arguments],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env={
                **ENVIRONMENT,
                "STATE_DIRECTORY": state,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                **(env or {}),
            },
            cwd=cwd,
            start_new_session=True,
        )
        assert self.popen.stderr is not None
        self.stdout = Stream(self.popen.stdout or open(os.devnull, "rb"))  # noqa: SIM115 - closed by the stream
        self.stderr = Stream(self.popen.stderr)

    def write(self, data: str | bytes) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(data.encode() if isinstance(data, str) else data)
        self.popen.stdin.flush()

    def close_stdin(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.close()

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def end(self, seconds: float = TIMEOUT_SECONDS) -> int:
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {seconds:g} s; stderr: {self.stderr.whole()!r}") from None

    @property
    def output(self) -> str:
        return self.stdout.whole().decode()

    @property
    def errors(self) -> str:
        return self.stderr.whole().decode()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(TIMEOUT_SECONDS)
        if self.popen.stdin is not None:
            with contextlib.suppress(OSError):
                self.popen.stdin.close()

    def error_lines(self) -> list[str]:
        """Return the lines on stderr without the log of a local server that it started."""
        return [line for line in self.errors.splitlines() if " agent.server." not in line]


class WireLoggedServer(LocalServerProcess):
    """The local server with its wire log in a FIFO; ``await_wire`` waits for lines without polling. Thread-safe."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        directory.mkdir(exist_ok=True)
        os.mkfifo(directory / "wire.jsonl")
        self._lines: list[dict[str, Any]] = []
        self._rest = b""
        self._changed = threading.Condition()
        # Opened for reading and writing: neither the open waits for a writer nor the FIFO ends with it.
        self._fd = os.open(directory / "wire.jsonl", os.O_RDWR | os.O_NONBLOCK)
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._gather, name="wire")
        self._thread.start()
        try:
            super().__init__(directory, *arguments)
        except BaseException:
            self._close()
            raise

    def wire(self) -> list[dict[str, Any]]:
        with self._changed:
            self._read()
            return list(self._lines)

    def await_wire(self, count: int = 1, since: int = 0, **about: Any) -> list[dict[str, Any]]:
        """Return the first ``count`` lines after ``since`` with the fields ``about``; ``event``: one of its events."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._matching(since, about)) >= count, TIMEOUT_SECONDS)
            lines = self._matching(since, about)
            assert len(lines) >= count, f"not {count} lines with {about} in {self._lines[since:][-30:]}"
            return lines[:count]

    def matching(self, since: int = 0, **about: Any) -> list[dict[str, Any]]:
        with self._changed:
            self._read()
            return self._matching(since, about)

    def settled(self, since: int) -> list[dict[str, Any]]:
        """Wait until all sessions opened after ``since`` are closed; return their lines, and none of older sessions."""
        with self._changed:
            self._read()
            self._changed.wait_for(lambda: not self._open(since), TIMEOUT_SECONDS)
            assert not self._open(since), f"sessions {self._open(since)} were never closed"
            opened = self._opened(since)
            return [line for line in self._lines[since:] if line["connection"] in opened]

    def _opened(self, since: int) -> set[int]:
        return {line["connection"] for line in self._lines[since:] if line["kind"] == "open"}

    def _open(self, since: int) -> set[int]:
        closed = {
            line["connection"] for line in self._lines[since:] if line["kind"] == "close" and line["direction"] == "in"
        }
        return self._opened(since) - closed

    def _matching(self, since: int, about: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = {**about}
        event = wanted.pop("event", None)
        return [
            line
            for line in self._lines[since:]
            if all(line.get(name) == value for name, value in wanted.items())
            and (event is None or event in line.get("events", []))
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._close()

    def _close(self) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join(TIMEOUT_SECONDS)
        with self._changed:
            self._read()
            os.close(self._fd)
            self._fd = -1
        os.close(self._stop)

    def _gather(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while True:
            ready = {number for number, _ in poll.poll()}
            if self._fd in ready:
                with self._changed:
                    self._read()
            elif self._stop in ready:
                return

    def _read(self) -> None:
        """Read the current content of the FIFO."""
        if self._fd < 0:
            return
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._fd, 1 << 20):
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self._lines += [json.loads(line) for line in lines]
                self._changed.notify_all()


class Supervision:
    """The notification socket of a service manager; ``lines`` holds what the daemon sent. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self.lines: list[str] = []

    def await_line(self, *words: str, while_alive: Process) -> str:
        """Return the next line that contains one of ``words``; fail once the process has ended."""
        ends = time.monotonic() + TIMEOUT_SECONDS
        while (left := ends - time.monotonic()) > 0:
            self._socket.settimeout(min(left, 1.0))
            ended = while_alive.popen.poll() is not None
            try:
                message = self._socket.recv(65536).decode()
            except TimeoutError:
                if ended:
                    break
                continue
            self.lines += message.splitlines()
            for line in message.splitlines():
                if any(word in line for word in words):
                    return line
        raise AssertionError(f"none of {words} was sent, but {self.lines}; {while_alive.stderr.data.decode()}")

    @contextlib.contextmanager
    def discard(self) -> Iterator[None]:
        """Read and discard all messages inside the block: a full socket would block the daemon. Usable once."""

        def drain() -> None:
            with contextlib.suppress(OSError):
                while self._socket.recv(65536):
                    pass

        self._socket.settimeout(None)
        reader = threading.Thread(target=drain)
        reader.start()
        try:
            yield
        finally:
            self._socket.shutdown(socket.SHUT_RDWR)
            reader.join()

    def close(self) -> None:
        self._socket.close()


def audio_on_wire(server_lines: list[dict[str, Any]], pcm: bytes) -> bytes:
    """Return the part of ``pcm`` that the binary messages of a wire log carried; assert order and content by hash."""
    at = 0
    for line in server_lines:
        if line["direction"] == "in" and line["kind"] == "binary":
            piece = pcm[at : at + line["length"]]
            assert len(piece) == line["length"], f"more audio than in the source: {line}"
            assert hashlib.sha256(piece).hexdigest() == line["sha256"], f"different audio at byte {at}: {line}"
            at += line["length"]
    return pcm[:at]
