"""Starts the configured command of each hook for its events, at most one process for each hook at a time."""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from agent.config.environment import EVENT_PREFIX as VARIABLE
from agent.frontends.api.milestones import Milestones
from agent.frontends.frontend import Frontend, Notification
from agent.frontends.hooks.settings import HookSettings
from agent.pipeline.events import Event
from agent.system.child import Child, describe_exit
from agent.system.log import RepeatedWarning
from agent.system.systemd import child_environment
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MAX_EVENTS = 16
"""Maximum number of queued events of one hook. A further event replaces the oldest, because the newest state matters
most."""
MAX_STDERR_BYTES = 400
MAX_VALUE_CHARACTERS = 500
TERMINATE_SECONDS = 1.0
"""Time from SIGTERM, which is sent at the timeout of a command, to SIGKILL."""
HEARTBEAT_SECONDS = 4.0


class _Hook:
    """One hook with its queued events.

    Not thread-safe; ``events`` and ``is_behind`` are guarded by the lock of ``Hooks``, the rest is owned by the hooks
    thread.
    """

    def __init__(self, name: str, command: tuple[str, ...]) -> None:
        self.name, self.command = name, command
        self.events: deque[dict[str, object]] = deque(maxlen=MAX_EVENTS)
        self.is_behind = False
        self.running: Child | None = None
        self.deadline = Deadline(None)
        self.is_timed_out = False
        self.is_reading = False  # stderr is open
        self.excerpt = b""
        self.failure = RepeatedWarning(log)


class Hooks(Frontend):
    """Starts the configured command for each event that has a hook.

    Thread-safe: the main thread calls ``notify`` and the methods of a frontend; everything else is owned by the hooks
    thread.

    Args:
        settings: The configuration; at least one hook has a command.
        environ: The environment of the daemon.
        report: Receives the events of the frontend.
        terminate_seconds: Time from SIGTERM, which is sent at the timeout of a command, to SIGKILL.
    """

    def __init__(
        self,
        settings: HookSettings,
        environ: Mapping[str, str],
        report: Callable[[Event], None],
        *,
        terminate_seconds: float = TERMINATE_SECONDS,
    ) -> None:
        super().__init__("hooks", report)
        self._settings, self._terminate_seconds = settings, terminate_seconds
        self._environ = {name: value for name, value in environ.items() if not name.startswith(VARIABLE)}
        self._hooks = {name: _Hook(name, command) for name, command in settings.commands().items()}
        self._lock = threading.Lock()
        self._wake = -1
        self._is_stopping = self._is_aborted = False
        self._milestones = Milestones(texts=settings.transcripts)  # owned by the main thread

    # --- the main thread

    def open(self) -> None:
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def notify(self, notification: Notification) -> None:
        """Queue the events of a notification for their hooks. Never blocks."""
        for name, fields in self._milestones.update(notification):
            if name in self._hooks:
                self._put(self._hooks[name], {"hook": name, **fields})

    def stop_accepting(self) -> None:
        """Do nothing: a hook has no clients, and the events of the shutdown also start hooks."""

    def stop(self) -> None:
        with self._lock:
            self._is_stopping = True
            self._wake_up()
            if self.ident is None:
                self._close()

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
        self.stop()

    def _put(self, hook: _Hook, event: dict[str, object]) -> None:
        with self._lock:
            if len(hook.events) == MAX_EVENTS and not hook.is_behind:
                hook.is_behind = True
                log.warning("hook %s: events dropped, the command is slower than the events", hook.name)
            hook.events.append(event)
            self._wake_up()

    def _wake_up(self) -> None:
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    # --- the hooks thread

    def run(self) -> None:
        try:
            while not self._is_aborted:
                self._start_waiting()
                if self._is_stopping and all(hook.running is None for hook in self._hooks.values()):
                    return
                self._wait()
        finally:
            for hook in self._hooks.values():
                if hook.running is not None:
                    hook.running.kill()
                    hook.running = None
            with self._lock:
                self._close()

    def _start_waiting(self) -> None:
        """Start the command of each hook that has a queued event and no running process."""
        for hook in self._hooks.values():
            while hook.running is None:
                with self._lock:
                    if not hook.events:
                        hook.is_behind = False
                        break
                    event = hook.events.popleft()
                try:
                    hook.running = self._start(hook.command, event)
                except (OSError, ValueError, subprocess.SubprocessError) as error:
                    hook.failure.warn("hook %s: cannot be started: %s", hook.name, escape(str(error), 200))
                    continue
                hook.deadline = Deadline(self._settings.timeout_seconds)
                hook.is_timed_out, hook.is_reading, hook.excerpt = False, True, b""

    def _start(self, command: tuple[str, ...], event: dict[str, object]) -> Child:
        # A file in memory instead of a pipe: writing to a pipe would block if the command does not read its stdin.
        stdin = os.memfd_create("event", os.MFD_CLOEXEC)
        try:
            os.write(stdin, json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
            os.lseek(stdin, 0, os.SEEK_SET)
            child = Child(
                command, {**child_environment(self._environ), **_variables(event)}, stdin=stdin, stderr=subprocess.PIPE
            )
        finally:
            os.close(stdin)
        os.set_blocking(_stderr(child), False)
        return child

    def _wait(self) -> None:
        """Wait for an event or for a command (its output, end or timeout), and handle the commands."""
        self.heartbeat()
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        seconds = HEARTBEAT_SECONDS
        running = [(hook, hook.running) for hook in self._hooks.values() if hook.running is not None]
        for hook, child in running:
            poll.register(child, select.POLLIN)
            if hook.is_reading:
                poll.register(_stderr(child), select.POLLIN)
            if (remaining := hook.deadline.remaining()) is not None:
                seconds = min(seconds, remaining)
        ready = dict(poll.poll(1000 * seconds))
        if self._wake in ready:
            os.eventfd_read(self._wake)
        for hook, child in running:
            if _stderr(child) in ready:
                self._read_stderr(hook, child)
            if child.fileno() in ready:
                self._end(hook, child)
            elif hook.deadline.is_expired:
                self._time_out(hook, child)

    def _read_stderr(self, hook: _Hook, child: Child) -> None:
        """Read the available stderr output and keep its beginning. Otherwise a full pipe would block the command."""
        with suppress(BlockingIOError):
            data = os.read(_stderr(child), 65536)
            hook.is_reading = bool(data)
            hook.excerpt = (hook.excerpt + data)[:MAX_STDERR_BYTES]

    def _time_out(self, hook: _Hook, child: Child) -> None:
        if hook.is_timed_out:
            child.kill_group(signal.SIGKILL)
            hook.deadline = Deadline(None)
            return
        seconds = self._settings.timeout_seconds
        hook.failure.warn("hook %s: did not end within %g s, terminated", hook.name, seconds)
        child.kill_group(signal.SIGTERM)
        hook.is_timed_out, hook.deadline = True, Deadline(self._terminate_seconds)

    def _end(self, hook: _Hook, child: Child) -> None:
        """Kill the remaining processes in the group of a command that has ended, and log its exit code if it failed."""
        child.kill_group(signal.SIGKILL)
        if hook.is_reading:
            self._read_stderr(hook, child)
        code = child.reap()
        hook.running = None
        child.close()
        if hook.is_timed_out:
            return
        if not code:
            hook.failure.resolved("hook %s: works again", hook.name)
            return
        words = hook.excerpt.decode("utf-8", "replace").strip()
        detail = f", {escape(words, 200)}" if words else ""
        hook.failure.warn("hook %s: failed: %s%s", hook.name, describe_exit(code), detail)

    def _close(self) -> None:
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1


def _stderr(child: Child) -> int:
    assert child.stderr is not None
    return child.stderr.fileno()


def _variables(event: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables for an event: the fields that contain no words of the user or of the device."""
    variables = {VARIABLE: str(event["hook"])}
    for name, value in event.items():
        if name not in ("hook", "event", "text", "name") and isinstance(value, str | int | float):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            variables[f"{VARIABLE}_{name.upper()}"] = escape(text, MAX_VALUE_CHARACTERS)
    return variables
