"""Ducks or pauses other players while the device listens, thinks or speaks, and restores them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from agent.frontends.other_audio.changes import MAX_CHANGES, Change, ChangeFile
from agent.frontends.other_audio.players import Players
from agent.frontends.other_audio.program import ProgramError, StreamEndedError
from agent.frontends.other_audio.settings import PAUSE, OtherAudioSettings
from agent.frontends.other_audio.streams import KIND, Streams
from agent.frontends.state_follower import OFF, StateFollower
from agent.pipeline.events import Event
from agent.system.child import private_environment
from agent.system.text import escape

log = logging.getLogger(__name__)

ACTIVE_STATES = frozenset({"listening", "thinking", "speaking"})
RESTORE_SECONDS = 1.0
"""Delay before the players are restored, so that they stay quiet between two turns or announcements."""
RETRY_DELAYS_SECONDS = (5.0, 30.0, 300.0)
"""Delays before further attempts to undo the remaining changes. After the last attempt, they are tried again when the
state becomes active."""
MAX_UNRESTORED = MAX_CHANGES // 2
"""Maximum number of changes that could not be undone and are kept. The oldest are dropped, so that the file has room
for new changes."""
FILE_NAME = "other-audio.json"


class OtherAudio(StateFollower):
    """Ducks or pauses other players while the state is active. Thread-safe like ``StateFollower``.

    Each change is written to a file before it is made, and removed from the file after it is undone. After a crash the
    next start undoes the changes in the file.

    Args:
        settings: The configuration; ``action`` is not ``none``.
        environ: The environment of the daemon.
        path: The file for the changes.
        report: Receives the events of the frontend.
        restore_seconds: Time from the end of the activity until the changes are undone.
        retry_seconds: Delays before further attempts to undo the remaining changes.
    """

    stall_timeout = 30.0  # each call to a player that does not answer takes one second

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
        # Changes that could not be undone, because the sound server was not running or the stream had ended.
        self._unrestored: list[Change] = []
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
        """Return the seconds until the next attempt to undo changes; ``None`` if no attempt is planned."""
        if self._applied:
            return self._restore_seconds
        return next(self._retries, None) if self._unrestored else None

    def _change(self) -> None:
        """Duck or pause the players that play now and are not changed yet."""
        if self._unrestored:  # undo these first: a stream that is still ducked must not be ducked again
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
            except ProgramError as error:  # for example, the player or the stream has ended meanwhile
                log.info("other audio: not changed, %s, %s", escape(change.name, 100), escape(str(error), 200))
        log.info("other audio: changed, players=%d", len(new))

    def _plan(self) -> list[Change]:
        """Return the changes for all players that play now.

        Raises:
            ProgramError: Neither the sound server nor the D-Bus session can be reached.
        """
        problems: list[str] = []
        paused: list[Change] | None = None
        if self._pauses:
            try:
                paused = self._players.pauses()
            except ProgramError as error:
                problems.append(str(error))
        try:
            # The streams of paused players are silent, so their volume is not changed.
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
        """Undo all changes. Changes that cannot be undone stay in the file."""
        if self._applied:
            self._retries = iter(self._retry_seconds)
        changes = [*self._unrestored, *self._applied]
        if not changes:
            return
        self._unrestored, self._applied = self._undo(changes)[-MAX_UNRESTORED:], []
        self._save()

    def _undo(self, changes: Sequence[Change]) -> list[Change]:
        """Undo changes, the last one first.

        Returns:
            The changes that could not be undone, because their service cannot be reached or their stream has ended.
        """
        left: list[Change] = []
        for change in reversed(changes):
            self.heartbeat()
            try:
                self._target(change).undo(change)
            except StreamEndedError:
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
