"""Ducks or pauses other players while the device listens, thinks or speaks, and restores them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from agent.frontends.other_audio.changes import MAX_CHANGES, Change, ChangeFile
from agent.frontends.other_audio.players import Players
from agent.frontends.other_audio.program import EndedError, ProgramError
from agent.frontends.other_audio.settings import PAUSE, OtherAudioSettings
from agent.frontends.other_audio.streams import KIND, Streams
from agent.frontends.state_follower import OFF, StateFollower
from agent.pipeline.events import Event
from agent.system.child import private_environment
from agent.system.text import escape

log = logging.getLogger(__name__)

ACTIVE_STATES = frozenset({"listening", "thinking", "speaking"})
RESTORE_SECONDS = 1.0
"""Delay of the restoration, so that the players stay quiet between two turns or announcements."""
RETRY_DELAYS_SECONDS = (5.0, 30.0, 300.0)
"""Delays of the attempts to restore the remaining changes. After the last one, the next activity tries again."""
MAX_UNRESTORED = MAX_CHANGES // 2
"""Number of changes that could not be undone; the oldest are forgotten, so that the file has room for new ones."""
FILE_NAME = "other-audio.json"


class OtherAudio(StateFollower):
    """Changes other players while the state is active. Thread-safe like ``StateFollower``.

    Each change is written to a file before it is made, and removed after it is undone. After a crash the next start
    undoes it.

    Args:
        settings: The configuration; ``action`` is not ``none``.
        environ: The environment of the daemon.
        path: The file of the changes.
        report: Receives the events of the frontend.
        restore_seconds: From the end of the activity to the restoration.
        retry_seconds: The delays before further attempts to restore the remaining changes.
    """

    stall_timeout = 30.0  # a player that hangs delays each of its calls for a second

    def __init__(
        self,
        settings: OtherAudioSettings,
        environ: Mapping[str, str],
        path: Path,
        report: Callable[[Event], None],
        *,
        restore_seconds: float = RESTORE_SECONDS,
        retry_seconds: Sequence[float] = RETRY_DELAYS_SECONDS,
    ) -> None:
        super().__init__("other audio", report)
        self._pauses, self._share = settings.action == PAUSE, settings.volume / 100
        self._restore_seconds, self._retry_seconds = restore_seconds, retry_seconds
        environment = private_environment(environ)
        self._streams, self._players = Streams(environment), Players(environment)
        self._file = ChangeFile(path)
        self._applied: list[Change] = []
        self._unrestored: list[Change] = []  # the sound server was gone, or the stream had ended
        self._retries: Iterator[float] = iter(())

    def run(self) -> None:
        try:
            self._applied = self._file.read()
            self._restore()
            state = "idle"
            while state != OFF and not self.is_aborted:
                new = self.wait(None if state in ACTIVE_STATES else self._delay())
                if new is None:
                    self._restore()
                if new in ACTIVE_STATES:
                    self._change()
                state = new or state
            if not self.is_aborted:
                self._restore()
        finally:
            self.close()

    def _delay(self) -> float | None:
        """Return the time until the next attempt to restore."""
        if self._applied:
            return self._restore_seconds
        return next(self._retries, None) if self._unrestored else None

    def _change(self) -> None:
        """Change the players that play now and are not changed yet."""
        if self._unrestored:  # first, so that a stream with its ducked volume is not ducked again
            self._unrestored = self._undo(self._unrestored)
            self._save()
        try:
            planned = self._plan()
        except ProgramError as error:
            self.log_problem(str(error))
            return
        self.log_problem(None)
        new = [change for change in planned if not any(change.is_same_target(each) for each in self._applied)]
        new = new[: MAX_CHANGES - len(self._unrestored) - len(self._applied)]
        if not new:
            return
        self._applied += new
        if not self._save():
            self._applied = self._applied[: -len(new)]
            return
        for change in new:
            self.heartbeat()
            try:
                self._target(change).apply(change)
            except ProgramError as error:  # the player or the stream has ended meanwhile
                log.info("other audio: not changed, %s, %s", escape(change.name, 100), escape(str(error), 200))
        log.info("other audio: changed, players=%d", len(new))

    def _plan(self) -> list[Change]:
        """Return the changes for everything that plays. Raises ``ProgramError`` if no service can be reached."""
        problems: list[str] = []
        paused: list[Change] | None = None
        if self._pauses:
            try:
                paused = self._players.pauses()
            except ProgramError as error:
                problems.append(str(error))
        try:
            # A paused player is silent: its stream keeps its volume.
            return [*(paused or ()), *self._streams.ducks(self._share, self._players.processes(paused or []))]
        except ProgramError as error:
            problems.append(str(error))
        if paused is not None:
            return paused
        if not self._pauses:
            try:
                return self._players.ducks(self._share)
            except ProgramError as error:
                problems.append(str(error))
        raise ProgramError("; ".join(problems))

    def _restore(self) -> None:
        """Undo the changes. What cannot be undone stays in the file."""
        if self._applied:
            self._retries = iter(self._retry_seconds)
        changes = [*self._unrestored, *self._applied]
        if not changes:
            return
        self._unrestored, self._applied = self._undo(changes)[-MAX_UNRESTORED:], []
        self._save()

    def _undo(self, changes: Sequence[Change]) -> list[Change]:
        """Undo changes, the last one first. Return those whose service cannot be reached or whose stream has ended."""
        left: list[Change] = []
        for change in reversed(changes):
            self.heartbeat()
            try:
                self._target(change).undo(change)
            except EndedError:
                if not any(change.is_same_value(each) for each in left):
                    left.append(change)
            except ProgramError as error:
                left.append(change)
                self.log_problem(f"cannot restore {change.name}: {error}")
        if len(left) < len(changes):
            log.info("other audio: restored, players=%d", len(changes) - len(left))
        return left[::-1]

    def _save(self) -> bool:
        try:
            self._file.write([*self._unrestored, *self._applied])
        except OSError as error:
            self.log_problem(f"the file of the changes cannot be written, {error.strerror}")
            return False
        return True

    def _target(self, change: Change) -> Streams | Players:
        return self._streams if change.kind == KIND else self._players
