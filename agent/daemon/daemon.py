"""The inbox loop: everything that happens goes through the conversation, and what that decides is done."""

from __future__ import annotations

import gc
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import TextIO

from agent.daemon import event_log as journal
from agent.daemon.builder import Parts, assemble, own_server
from agent.daemon.dispatch import DeviceTimeout, do, reset_after_suspend
from agent.daemon.local_server import LocalServer
from agent.daemon.shutdown import ShutdownBudget
from agent.daemon.supervisor import Supervisor
from agent.daemon.suspend import SuspendDetector
from agent.daemon.volume import VolumeStore
from agent.daemon.watchdog import Watchdog
from agent.errors import AgentError, ConfigError
from agent.frontends.frontend import Frontend, Notification
from agent.pipeline.conversation import Action, AppendText, Conversation, Finish, Record, State, StopPlayback
from agent.pipeline.events import Event, Heard, Hush, Reload, Stop, WorkerCrashed
from agent.pipeline.status import Status, StatusTracker
from agent.pipeline.stt.captions import Captions
from agent.settings.model import Config
from agent.system.signals import Signals
from agent.system.stacks import dump_stacks
from agent.system.systemd import SystemdNotifier
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

ROUND_SECONDS = 0.5
"""How often the workers are looked after while nothing happens."""


class Daemon:
    """One voice-agent, from its start to its end in good order.

    ``run`` returns the exit code: 0 after a ``Stop``, 70 after a worker died. ``watch`` is shown every event before it
    is handled and every record (a demonstration). ``frontends`` makes the doors for the outside, each with the inbox
    to report to. ``local`` is a local server that runs already and belongs to somebody else. ``captions`` is where
    finals go in captions mode; when its reader leaves, that is a ``Stop``. ``levels`` keeps volume and mutes.
    ``reread`` reads the configuration again, after a SIGHUP, and raises ``ConfigError``; ``config`` is that in force.
    """

    def __init__(
        self,
        config: Config,
        service: SystemdNotifier,
        *,
        watch: Callable[[Event | Record], None] = lambda event: None,
        frontends: Callable[[Callable[[Event], None]], list[Frontend]] = lambda report: [],
        local: LocalServer | None = None,
        captions: TextIO | None = None,
        reread: Callable[[], Config] | None = None,
        levels: VolumeStore | None = None,
    ) -> None:
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.config, self._service, self._watch = config, service, watch
        self._reread = reread
        self._own_server = LocalServer.of(own_server(config)) if local is None else None
        self._local = local or self._own_server
        mode = config.conversation.mode
        self._captions = Captions(captions, self.inbox.put) if captions is not None and mode == "captions" else None
        run = os.urandom(6).hex()  # ids that are never used twice, also after a restart, whatever the clock says
        self._conversation = Conversation(
            mode=mode,
            listen_while_speaking=config.conversation.listen_while_speaking,
            utterance_id=lambda turn: f"{run}-reply-{turn}",
        )
        self._condition = StatusTracker(
            mode, self._condition_services(), config.microphone.device, config.speaker.device
        )
        self._parts: Parts = assemble(config, self.inbox.put, self._local)
        self._levels = levels or VolumeStore(None, config.speaker.volume)
        self._frontends = frontends(self.inbox.put)
        self._doors = Supervisor([*self._frontends])
        self._watchdog = Watchdog(service, [self._parts.supervisor, self._doors])
        self._standstill = SuspendDetector(lambda by: reset_after_suspend(self._parts, by))
        self._standstill.watch(self._parts.supervisor.workers)
        self._absence = DeviceTimeout()
        self._said: Status | None = None
        self._code = 0  # what a death that came only while everything ended makes of the exit code
        self._stuck: list[str] = []

    def run(self) -> int:
        signals = self._start_frontends()
        by, code = "a failure of its own", 70
        try:
            self._start()
            by, code = self._serve()
        finally:
            late = self._end(by)
            code = code or late
            signals.restore()
        return code

    def _start(self) -> None:
        for event in self._levels.kept():
            self._note(event)
        status = self._status()
        # All threads are up when READY is said, and held back until it was: what they begin with (PortAudio, the
        # network's libraries, a child process) would only make it later.
        held = threading.Event()
        try:
            self._doors.start(held)
            self._parts.supervisor.start(held)
            self._service.ready(status.summary)
        finally:
            held.set()
        # What is there by now stays to the end: the collector need never look at it.
        gc.freeze()
        gc.enable()
        if self._captions is not None:
            self._captions.start()
        if self._own_server is not None:
            self._own_server.start()
        self._tell_frontends(status)
        log.info("ready: %s", status.summary)

    def _serve(self) -> tuple[str, int]:
        """Until something ends it: what that was, and the exit code it deserves."""
        while True:
            event = self._next()
            if (by := self._standstill.over()) is not None:
                self.handle(Hush(by))
            if isinstance(event, Stop):
                self._watch(event)
                return event.reason, 0
            if isinstance(event, WorkerCrashed):
                return f"the death of the {event.worker}", journal.log_worker_crash(event)
            if isinstance(event, Reload):
                self._reload()
            elif event is not None:
                self.handle(event)
            if self._conversation.state is State.SPEAKING and (away := self._absence.look()) is not None:
                self.handle(away)
            stuck = self._watchdog.look()
            if stuck and self._service.watchdog_seconds is None:
                return f"{stuck[0]} is stuck, and no watchdog is there to end it", 70

    def handle(self, event: Event) -> None:
        """What one event leads to. Runs on the main thread only."""
        self._watch(event)
        self._note(event)
        for action in self._conversation.handle(event):
            self._do(action)
        self._tell()

    # --- what comes in

    def _start_frontends(self) -> Signals:
        """Raises ``AgentError``, before anything runs, with every door shut again."""
        put = self.inbox.put
        signals = Signals(  # first: who finds a door open may send one
            {
                signal.SIGTERM: lambda name: put(Stop(name)),
                signal.SIGINT: lambda name: put(Stop(name)),
                signal.SIGUSR1: lambda name: put(Hush(name)),
                signal.SIGHUP: lambda name: put(Reload()),
            }
        )
        try:
            for frontend in self._frontends:
                frontend.open()
            return signals
        except AgentError:
            self._stop_accepting()
            signals.restore()
            raise

    def _stop_accepting(self) -> None:
        for frontend in self._frontends:
            frontend.stop_accepting()

    def _next(self) -> Event | None:
        try:
            return self.inbox.get(timeout=ROUND_SECONDS)
        except queue.Empty:
            return None

    def _note(self, event: Event) -> None:
        self._condition.update(event)
        journal.write(event, transcripts=self.config.logging.transcripts)
        self._levels.note(event, self._parts.speaker, self._parts.microphone)
        self._absence.note(event)
        if self._captions is not None and isinstance(event, Heard) and event.text:
            self._captions.write(event.text)

    def _reload(self) -> None:
        from agent.daemon.reload import apply  # many daemons are never told to read anything again

        self._service.reloading()
        try:
            if self._reread is None:
                raise ConfigError("there is no file that it was read from")
            generation = self._condition.config_generation + 1
            done = apply(self.config, self._reread(), self._parts, self.inbox.put, self._local_for, generation)
        except ConfigError as error:
            lines = str(error).splitlines()
            for line in lines:
                log.error("the configuration is kept as it was: %s", escape(line, 500))
            self._condition.reload_failed(lines[0] if len(lines) == 1 else f"{len(lines)} mistakes, first {lines[0]}")
        else:
            self.config = done.config
            # Captions go on with the connection that they began with.
            self._condition.reloaded(self._condition_services(), replaced=self.config.conversation.mode != "captions")
            journal.log_reload(done.changed, done.waiting)
        status = self._said = self._status()
        self._service.ready(status.summary)
        self._tell_frontends(status)

    def _condition_services(self) -> tuple[str, ...]:
        return () if self.config.conversation.mode == "captions" else self.config.synthesis.services

    def _local_for(self, config: Config) -> LocalServer | None:
        """The local server, which is started where a new configuration is the first to need one, and begun anew where
        it is the first to need its ears."""
        settings = own_server(config)
        if self._local is None:
            self._local = self._own_server = LocalServer.of(settings)
            if self._own_server is not None:
                self._own_server.start()
        elif self._own_server is not None and settings is not None:
            self._own_server.use(settings)
        return self._local

    # --- what goes out

    def _do(self, action: Action) -> None:
        if isinstance(action, Record):
            self._record(action)
        else:
            do(action, self._parts, self._absence, self.inbox.put, transcripts=self.config.logging.transcripts)

    def _record(self, record: Record) -> None:
        utterance = record.utterance
        level = logging.WARNING if record.state == "failed" else logging.INFO
        log.log(
            level,
            "%s: %s%s, %.1f s%s",
            utterance.id,
            record.state,
            f" ({escape(record.reason, 300)})" if record.reason else "",
            record.seconds,
            f"; {record.dropped_seconds:.2f} s of its sound dropped" if record.dropped_seconds else "",
            extra={"turn": utterance.turn, "utterance": utterance.id},
        )
        self._watch(record)
        self._tell_frontends(record)

    def _status(self) -> Status:
        speaker = self._parts.speaker
        return self._condition.status(self._conversation.state, None if speaker is None else speaker.volume)

    def _tell(self) -> None:
        status = self._status()
        if status != self._said:
            self._said = status
            self._service.status(status.summary)
            self._tell_frontends(status)

    def _tell_frontends(self, news: Notification) -> None:
        for frontend in self._frontends:
            frontend.notify(news)

    # --- the end

    def _end(self, by: str) -> int:
        """Everything ends by end-of-stream, within ``shutdown_seconds``, and whatever goes wrong in one step, the next
        are taken. Returns what a worker's death in the meantime makes of the exit code; does not return where one
        could not be ended, which would keep the process for ever."""
        log.info("ending: %s", by)
        shares = ShutdownBudget.of(
            self.config.shutdown_seconds,
            local_server=self._own_server is not None,
            frontends=bool(self._frontends),
            captions=self._captions is not None,
        )
        with ExitStack() as steps:  # the last is taken first
            steps.callback(self._leave_the_stuck)
            if self._own_server is not None:
                steps.callback(self._own_server.stop, shares.local_server)
            steps.callback(self._levels.close)
            steps.callback(self._end_doors, shares.frontends)
            if self._captions is not None:
                steps.callback(lambda captions: captions.close(Deadline(shares.captions)), self._captions)
            steps.callback(self._record_what_is_left, by)
            steps.callback(self._end_stages, by, Deadline(shares.stages))
            if self._parts.responder is not None:
                steps.callback(self._parts.responder.abort)  # an answer that has not come yet will not be said any more
            steps.callback(self._stop_accepting)
            self._service.stopping(self.config.shutdown_seconds)
        self._service.resend()
        log.info("ended")
        return self._code

    def _end_stages(self, by: str, deadline: Deadline) -> None:
        self._stuck += self._parts.supervisor.stop(deadline, self._tend, lambda: self._cut(by))

    def _record_what_is_left(self, by: str) -> None:
        for action in self._conversation.close(by):
            self._do(action)

    def _end_doors(self, seconds: float) -> None:
        self._stuck += self._doors.stop(Deadline(seconds), lambda: None, lambda: None)

    def _leave_the_stuck(self) -> None:
        if self._stuck:
            log.error("could not be ended: %s", ", ".join(self._stuck))
            dump_stacks(sys.stderr)
            logging.shutdown()
            os._exit(70)

    def _cut(self, by: str) -> None:
        if self._parts.synthesizer is not None:
            self._parts.synthesizer.hush(by)

    def _tend(self) -> None:
        """While the workers flow out, what they report is still taken: the last transcript, how utterances ended. A
        hush still counts."""
        self._service.resend()
        while True:
            try:
                event = self.inbox.get_nowait()
            except queue.Empty:
                return
            try:
                self._take_late(event)
            except Exception:  # noqa: BLE001 - one event that cannot be taken must not keep all others from their end
                log.exception("what came while all was ending could not be taken")
                self._code = self._code or 70

    def _take_late(self, event: Event) -> None:
        if isinstance(event, WorkerCrashed):
            self._code = self._code or journal.log_worker_crash(event)
            return
        self._watch(event)
        self._note(event)
        for action in self._conversation.handle(event):
            if isinstance(action, Record | AppendText | Finish | StopPlayback):
                self._do(action)
