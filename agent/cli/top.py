"""``voice-agent top``: a live screen of the running daemon in the terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from agent.cli.daemon_errors import service_errors
from agent.cli.handover import require_daemon
from agent.cli.top_screen import RECORDS, Snapshot, fit, screen
from agent.client import Client, ClientError, Refused
from agent.errors import UsageError

if TYPE_CHECKING:
    import curses

EVENTS = ("state", "wake", "heard", "utterance", "device", "service")
"""The events after which the screen is drawn again."""
TICK_SECONDS = 1.0
"""Longest time between two screens: the uptime and the levels change without an event."""
MIN_INTERVAL_SECONDS = 0.1
"""Shortest time between two screens."""
RECONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0
"""Timeout of a request. While the daemon does not answer, the screen does not react to keys for this time."""
QUIT_KEYS = (b"q", b"Q", b"\x03", b"\x04", b"\x1b")
TERMINATED = 128 + signal.SIGTERM


class _Terminated(Exception):
    """SIGTERM or SIGHUP arrived."""


def top(path: str | None, *, once: bool = False) -> int:
    """Show the state of the daemon until the user quits.

    Args:
        path: The value of ``--config``.
        once: Print one screen as plain text instead.

    Returns:
        The exit code: 0, or 143 after SIGTERM or SIGHUP.

    Raises:
        ServiceError: No daemon answers.
        UsageError: Stdin or stdout is not a terminal, or curses does not know its type.
    """
    with require_daemon(path) as client, service_errors():
        snapshot, socket_path = read(client), client.path
    if once:
        # Do not cut the lines for a pipe: its reader can do that.
        lines = screen(snapshot)
        print("\n".join(fit(lines, shutil.get_terminal_size().columns, len(lines)) if sys.stdout.isatty() else lines))
        return 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("top: stdin and stdout are not a terminal. Print one screen: voice-agent top --once")
    import curses

    try:
        curses.setupterm()
    except curses.error as error:
        raise UsageError(f"top: {error} (TERM={os.environ.get('TERM', '')}): use voice-agent top --once") from error
    feed = _Feed(socket_path)
    with feed, _signals(feed.wake):
        try:
            curses.wrapper(lambda window: _Screen(window, feed).run())
        except KeyboardInterrupt:
            return 0
        except _Terminated:
            return TERMINATED
    return 0


def read(client: Client) -> Snapshot:
    """Request everything that the screen shows. Raises ``ClientError`` if the daemon does not answer."""
    records = client.call("history", limit=RECORDS)["records"]
    details = {}
    for name, field in (("levels", "levels"), ("queue", "utterances"), ("turns", "turns")):
        try:
            details[name] = client.call(name)[field]
        except Refused:  # the daemon has no web page, or this user may not read it
            details[name] = None
    return Snapshot(client.status(), records, **details)


class _Feed:
    """A connection to the daemon that is reopened after a loss. Thread-safe.

    Its thread waits for events and wakes the main thread through ``wake_fd``. ``reason``: why there is no connection.

    Args:
        socket_path: The control socket.
    """

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._closing = threading.Event()
        self._client: Client | None = None
        self.reason = "connecting"
        self.wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> _Feed:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        if (client := self._client) is not None:
            client.close()
        self._thread.join()
        os.close(self.wake_fd)

    def wake(self) -> None:
        os.eventfd_write(self.wake_fd, 1)

    def read(self) -> Snapshot | None:
        """Return the state of the daemon; ``None`` without a connection (see ``reason``)."""
        client = self._client
        if client is None:
            return None
        try:
            return read(client)
        except ClientError as error:
            self.reason = str(error)
            client.close()  # ends the wait for events in ``_run``, which then reconnects
            return None

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                with Client(self._path, timeout=ANSWER_SECONDS) as client:
                    self._client = client
                    events = client.events(*EVENTS)
                    self.wake()
                    if self._closing.is_set():
                        return
                    for _ in events:
                        self.wake()
            except ClientError as error:
                self.reason = str(error)
            self._client = None
            self.wake()
            self._closing.wait(RECONNECT_SECONDS)


class _Screen:
    """The screen of a terminal in curses mode. Not thread-safe; owned by the main thread."""

    def __init__(self, window: curses.window, feed: _Feed) -> None:
        self._window, self._feed = window, feed
        self._last: Snapshot | None = None
        import curses

        with contextlib.suppress(curses.error):  # a terminal without colors
            curses.use_default_colors()
        with contextlib.suppress(curses.error):  # a terminal that cannot hide its cursor
            curses.curs_set(0)

    def run(self) -> None:
        """Draw after each event, resize and tick, until the user quits."""
        while True:
            self._draw()
            if self._quits(MIN_INTERVAL_SECONDS, [sys.stdin.fileno()]):
                return
            if self._quits(TICK_SECONDS, [sys.stdin.fileno(), self._feed.wake_fd]):
                return

    def _quits(self, seconds: float, descriptors: list[int]) -> bool:
        ready, _, _ = select.select(descriptors, [], [], seconds)
        if self._feed.wake_fd in ready:
            os.eventfd_read(self._feed.wake_fd)
        if sys.stdin.fileno() not in ready:
            return False
        try:
            keys = os.read(sys.stdin.fileno(), 64)
        except OSError:  # the terminal was closed
            return True
        # The key Escape sends one byte; special keys, such as the arrows, send a longer escape sequence.
        return keys in QUIT_KEYS or not keys

    def _draw(self) -> None:
        import curses

        snapshot = self._feed.read()
        self._last = snapshot or self._last
        size = shutil.get_terminal_size((80, 24))
        curses.resizeterm(size.lines, size.columns)
        notice = "voice-agent top, q quits" if snapshot is not None else f"NO DAEMON: {self._feed.reason}"
        lines = [notice] if self._last is None else screen(self._last, notice)
        self._window.erase()
        for row, line in enumerate(fit(lines, size.columns, size.lines)):
            bold = row == 0 or line.isupper()
            # curses raises an error after it has written the last cell of the screen.
            with contextlib.suppress(curses.error):
                self._window.addstr(row, 0, line, curses.A_BOLD if bold else curses.A_NORMAL)
        self._window.refresh()


@contextlib.contextmanager
def _signals(wake: Callable[[], None]) -> Iterator[None]:
    """Call ``wake`` after a resize. Raise ``_Terminated`` after SIGTERM and SIGHUP: curses then resets the terminal."""

    def terminate(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    handlers = {signal.SIGWINCH: lambda number, frame: wake(), signal.SIGTERM: terminate, signal.SIGHUP: terminate}
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
