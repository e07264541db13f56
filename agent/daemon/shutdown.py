"""Defines the steps of the daemon's shutdown, their order and their time budgets."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack

from agent.system.named_tuple import NamedTuple
from agent.system.stacks import dump_stacks
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

# Shares of the configured ``shutdown_seconds``, with maxima. As each step gets a fraction of the whole time, a short
# shutdown also reaches every step. More time than the maximum would not help the step.
LOCAL_SERVER_SHARE, MAX_LOCAL_SERVER_SECONDS = 0.3, 3.0
FRONTENDS_SHARE, MAX_FRONTENDS_SECONDS = 0.15, 1.5
CAPTIONS_SHARE, MAX_CAPTIONS_SECONDS = 0.1, 0.5

# Share of ``shutdown_seconds`` after which the recognizer sends the end mark of a transcription without an answer. The
# rest of the drain phase is for the answer to the end mark.
STOP_ANSWER_SHARE = 0.4

# Phases in which workers end, as fractions of the time for all phases.
DRAIN_SHARE = 0.6
CANCEL_SHARE, MAX_CANCEL_SECONDS = 0.1, 0.3  # enough for a speaker to report the played audio
ABORT_RESERVE_SECONDS = 0.2  # reserved for the next steps; also the minimum for the abort phase

# Fixed times. They are not shares, because a slow disk, client or service must not shorten the time for playback.
VOLUME_FILE_SECONDS = 1.0
STORE_SECONDS = 1.0
CONTROL_FLUSH_SECONDS = 1.0
EXPORT_SECONDS = 2.0

# Times for closing service connections, in parallel, when a stage ends. They are passed to the stages and standbys.
STAGE_CLOSE_SECONDS, STAGE_ABORT_SECONDS = 1.5, 0.5  # all connections of a stage, after stop() and after abort()
CONNECTION_CLOSE_SECONDS = 2.0  # one unused connection in the background: end mark and closing handshake
DIAL_GIVE_UP_SECONDS = 0.2  # wait for a dial in progress; its end mark is sent in the background


class ShutdownBudget(NamedTuple):
    """The seconds for each group of steps; their sum is ``shutdown_seconds``. Immutable."""

    stages: float
    local_server: float = 0.0
    frontends: float = 0.0
    captions: float = 0.0

    @classmethod
    def of(cls, seconds: float, *, local_server: bool, frontends: bool, captions: bool) -> ShutdownBudget:
        """Divide ``seconds`` among the groups that exist."""
        server = min(MAX_LOCAL_SERVER_SECONDS, LOCAL_SERVER_SHARE * seconds) if local_server else 0.0
        front = min(MAX_FRONTENDS_SECONDS, FRONTENDS_SHARE * seconds) if frontends else 0.0
        caption = min(MAX_CAPTIONS_SECONDS, CAPTIONS_SHARE * seconds) if captions else 0.0
        return cls(seconds - server - front - caption, server, front, caption)


class WorkerBudget(NamedTuple):
    """The seconds for each phase in which workers end. Immutable.

    In the phase ``drain`` workers process the rest of their input and end. In the phase ``cancel`` the current
    utterance is cancelled. The duration of the last phase, ``abort``, is computed when it begins.
    """

    drain: float
    cancel: float

    @classmethod
    def of(cls, seconds: float) -> WorkerBudget:
        """Divide ``seconds``, the time for all three phases."""
        return cls(DRAIN_SHARE * seconds, min(MAX_CANCEL_SECONDS, CANCEL_SHARE * seconds))

    @staticmethod
    def abort(remaining_seconds: float) -> float:
        """Return the seconds for the phase ``abort``, which leaves a reserve for the next steps."""
        return max(ABORT_RESERVE_SECONDS, remaining_seconds - ABORT_RESERVE_SECONDS)


class ShutdownSteps(NamedTuple):
    """The steps of the shutdown, which ``run`` calls in the order of the fields.

    A field is ``None`` if the daemon has no such part. Immutable; the main thread calls ``run``. ``stop_stages`` and
    ``stop_frontends`` return the names of the workers that did not end.
    """

    stop_accepting: Callable[[], None]
    abort_reply: Callable[[], None] | None  # a reply that has not arrived yet is not spoken
    stop_stages: Callable[[Deadline], list[str]]
    record_remaining: Callable[[], None]
    close_captions: Callable[[Deadline], None] | None
    stop_frontends: Callable[[Deadline], list[str]] | None
    close_store: Callable[[Deadline], None]
    save_volume: Callable[[Deadline], None]
    stop_local_server: Callable[[float], None] | None  # last: the stages speak and recognize through the local server

    def run(self, seconds: float) -> None:
        """Run every step, even if one raises an exception; raise the last exception at the end.

        Does not return if a worker is stuck, because its thread would keep the process alive. Instead the stacks of all
        threads go to stderr, and the process exits with code 70.
        """
        budget = ShutdownBudget.of(
            seconds,
            local_server=self.stop_local_server is not None,
            frontends=self.stop_frontends is not None,
            captions=self.close_captions is not None,
        )
        stuck: list[str] = []
        with ExitStack() as steps:  # runs its callbacks in reverse order, each of them even after an exception
            steps.callback(exit_if_stuck, stuck)
            if self.stop_local_server is not None:
                steps.callback(self.stop_local_server, budget.local_server)
            steps.callback(lambda: self.save_volume(Deadline(VOLUME_FILE_SECONDS)))
            steps.callback(lambda: self.close_store(Deadline(STORE_SECONDS)))
            if (stop_frontends := self.stop_frontends) is not None:
                steps.callback(lambda: stuck.extend(stop_frontends(Deadline(budget.frontends))))
            if (close_captions := self.close_captions) is not None:
                steps.callback(lambda: close_captions(Deadline(budget.captions)))
            steps.callback(self.record_remaining)
            steps.callback(lambda: stuck.extend(self.stop_stages(Deadline(budget.stages))))
            if self.abort_reply is not None:
                steps.callback(self.abort_reply)
            steps.callback(self.stop_accepting)


def exit_if_stuck(names: list[str]) -> None:
    """Exit the process immediately, with code 70, if there are stuck workers."""
    if names:
        log.error("shutdown: workers are stuck, exiting immediately, workers=%s", ", ".join(names))
        dump_stacks(sys.stderr)
        logging.shutdown()
        os._exit(70)
