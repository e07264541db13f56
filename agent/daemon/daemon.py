"""Runs the daemon's main loop: passes every event to the conversation and carries out its actions."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from agent.daemon.announcements import Announcements
from agent.daemon.builder import build_pipeline
from agent.daemon.connection_builder import local_server_settings
from agent.daemon.dispatch import SPEAKER_TIMEOUT_SECONDS, DeviceTimeout, dispatch, reset_after_suspend
from agent.daemon.event_log import log_event, log_record, log_reload, log_worker_crash
from agent.daemon.local_server import LocalServer
from agent.daemon.outage_notice import OutageNotice
from agent.daemon.shutdown import ShutdownSteps, WorkerBudget
from agent.daemon.stages import Pipeline
from agent.daemon.supervisor import Supervisor
from agent.daemon.suspend import SuspendDetector
from agent.daemon.utterance_store import UtteranceStore
from agent.daemon.utterances import SpokenUtterance, UtteranceTracker
from agent.daemon.volume import VolumeStore
from agent.daemon.watchdog import Watchdog
from agent.errors import AgentError, ConfigError
from agent.frontends.frontend import Frontends, Notification
from agent.pipeline.actions import Action, AppendText, Finish, Record, StopPlayback
from agent.pipeline.conversation import Conversation
from agent.pipeline.events import (
    Announce,
    Choose,
    Event,
    Heard,
    Hush,
    Kept,
    ListenNow,
    Reload,
    Restart,
    Restored,
    Stop,
    Woken,
    WorkerCrashed,
)
from agent.pipeline.state import State
from agent.pipeline.status import Status, StatusTracker
from agent.pipeline.tts.synthesizer import SHUTDOWN
from agent.settings.model import Config
from agent.system.named_tuple import NamedTuple
from agent.system.signals import Signals
from agent.system.systemd import SystemdNotifier
from agent.system.text import escape
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from pathlib import Path

    from agent.daemon.choices import Choices
    from agent.daemon.timer_bell import TimerBell
    from agent.pipeline.device_control import DeviceControl
    from agent.pipeline.stt.captions import Captions

log = logging.getLogger(__name__)

CHECK_SECONDS = 0.5
LATE_IMPORT_SECONDS = 0.02
"""Time without an event after which the next module of ``_IMPORTED_AFTER_READY`` is imported."""
RESTORE_SECONDS = 0.1
"""Longest time that the start of the other threads waits for the timers from before the restart."""
RESTART_CODE = 75
"""Exit code after which the unit restarts the daemon (RestartForceExitStatus=)."""
RESTART_SECONDS = 60.0
# Only failures, requests and reloads need these modules. An import before READY would delay READY. An import on first
# use would fail in a process without a free file descriptor (EMFILE).
_IMPORTED_AFTER_READY = (
    "json",
    "agent.services.protocols.handshake",
    "agent.daemon.reload",
    "agent.pipeline.tts.notice",
)


class DaemonTiming(NamedTuple):
    """Timings of the daemon. Immutable.

    Args:
        check_seconds: Interval of the watchdog and of the other checks while no event arrives.
        speaker_timeout_seconds: How long an utterance waits for a lost speaker.
        restart_seconds: Shortest time from the start to a restart that a frontend requests.
        worker_budget: Durations of the phases in which the stages end; by default shares of ``shutdown_seconds``.
    """

    check_seconds: float = CHECK_SECONDS
    speaker_timeout_seconds: float = SPEAKER_TIMEOUT_SECONDS
    restart_seconds: float = RESTART_SECONDS
    worker_budget: WorkerBudget | None = None


class Daemon:
    """One voice-agent process from start to shutdown. Not thread-safe; owned by the main thread.

    Other threads use only ``inbox``, ``config`` (the configuration in effect) and the members marked as thread-safe.

    Args:
        config: The configuration.
        systemd: Receives the state of the service.
        watch: Called with each event before the conversation handles it, with ``Stop``, and with each record.
        frontends: Builds the frontends, which pass their events to the given function.
        local: A local server that the caller runs; by default the daemon runs one if it needs one.
        captions: Receives the final transcripts in captions mode. The daemon stops when the reader closes the stream.
        reread: Loads the configuration again for a reload. Raises ``ConfigError``.
        volume: Stores the volume, the mutes and the choices; by default a restart loses them.
        suspend_detector: Builds the detector, which calls the given function after a suspend.
        store: Stores the announcements and the history; by default a restart loses them.
        timers: The file of the timers, in the state directory; by default a restart loses the timers.
        notice: Announces that no speech service can speak; by default an outage is silent.
        timing: Timings; tests pass shorter ones.
    """

    def __init__(
        self,
        config: Config,
        systemd: SystemdNotifier,
        *,
        watch: Callable[[Event | Record], None] = lambda event: None,
        frontends: Callable[[Callable[[Event], None]], Frontends] = lambda report: Frontends(),
        local: LocalServer | None = None,
        captions: TextIO | None = None,
        reread: Callable[[], Config] | None = None,
        volume: VolumeStore | None = None,
        suspend_detector: Callable[[Callable[[str], None]], SuspendDetector] = SuspendDetector,
        store: UtteranceStore | None = None,
        notice: OutageNotice | None = None,
        timers: Path | None = None,
        timing: DaemonTiming | None = None,
    ) -> None:
        self.inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._systemd, self._watch = systemd, watch
        self._reread, self._timing = reread, timing or DaemonTiming()
        self._restart_pause = Deadline(self._timing.restart_seconds)
        self._volume = volume or VolumeStore(None, config.speaker.volume)
        self._choices: Choices | None = None
        if config.mqtt.is_on:  # no other frontend offers a choice
            from agent.daemon.choices import Choices

            self._choices = Choices(config, self._volume.choice)
            config = self._choices.configure(config)
        self.config = config
        self._own_server = LocalServer.create(local_server_settings(config), self.inbox.put) if local is None else None
        self._local = local or self._own_server
        mode = config.conversation.mode
        self._captions: Captions | None = None
        if captions is not None and mode == "captions":
            from agent.pipeline.stt.captions import Captions

            self._captions = Captions(captions, self.inbox.put)
        run = os.urandom(6).hex()  # a random part keeps ids unique across restarts, even if the clock is wrong
        self._run_id = run
        self._conversation = Conversation(
            mode=mode,
            listen_while_speaking=config.conversation.listen_while_speaking,
            utterance_id=lambda turn: f"{run}-reply-{turn}",
            follow_up_seconds=None if config.wake.engine == "none" else config.wake.follow_up_seconds,
        )
        self._status = StatusTracker(
            mode, self._speech_services(), config.microphone.device, config.speaker.device, config.responder.kind
        )
        self._utterances = UtteranceTracker()
        self._announcements = Announcements(store if mode != "captions" else None)
        self._timers, self._bell = timers, None
        if mode == "assistant":  # the other modes have no responder and start without these imports
            from agent.daemon.reply_builder import needs_control

            # Timers from before the restart also ring if spoken requests have been turned off.
            if needs_control(config) or (timers is not None and timers.exists()):
                self._bell = self._make_bell()
        self._pipeline: Pipeline = build_pipeline(
            config,
            self.inbox.put,
            self._local,
            self._announcements.record_start,
            self.device_control,
            None if timers is None else timers.parent,
        )
        if self._choices is not None:
            self._choices.apply(config, self._status, self._pipeline)
        self._notice = notice if self._pipeline.synthesizer is not None else None
        if self._notice is not None and self._pipeline.synthesizer is not None:
            self._pipeline.synthesizer.notice_audio = self._notice.audio
        self._frontends = frontends(self.inbox.put)
        self._frontend_supervisor = Supervisor([*self._frontends.workers])
        self._watchdog = Watchdog(systemd, [self._pipeline.supervisor, self._frontend_supervisor])
        self._suspend = suspend_detector(lambda reason: reset_after_suspend(self._pipeline, reason))
        self._suspend.watch(self._pipeline.supervisor.workers)
        self._device_timeout = DeviceTimeout(self._timing.speaker_timeout_seconds)
        self._last_status: Status | None = None
        self._late_imports = [*_IMPORTED_AFTER_READY]
        self._end_reason: str | None = None
        self._shutdown_code = 0  # the exit code of a crash during the shutdown

    def run(self) -> int:
        """Run until a ``Stop``, a ``Restart``, a crash, or a stuck worker that no systemd watchdog would notice.

        Returns:
            The exit code: 0 after a ``Stop``, 75 after a ``Restart``, 70 after a crash or for a stuck worker. A crash
            with a ``DeviceError`` or ``ConfigError`` has the exit code of that error, 78.

        Raises:
            AgentError: A frontend cannot be opened, or a thread cannot be started.
        """
        signals = self._open_frontends()
        reason, code = "an internal failure", 70
        try:
            self._start()
            reason, code = self._run_loop()
        finally:
            self._shut_down(reason)
            code = code or self._shutdown_code
            signals.restore()
        return code

    def _start(self) -> None:
        for event in self._volume.restored_events():
            self._update(event)
        status = self._current_status()
        # All threads exist when READY is sent. They start their work after READY, because loading PortAudio and the
        # network libraries, or starting a child process, would delay READY.
        start_gate = threading.Event()
        try:
            self._frontend_supervisor.start(start_gate)
            self._pipeline.supervisor.start(start_gate)
            self._systemd.ready(status.summary)
            if self._bell is not None:  # before the other threads start their work: a timer may be due
                self._bell.start(self._run_id, Deadline(RESTORE_SECONDS))
        finally:
            start_gate.set()
        # The objects that exist now live until the end, so the garbage collector need not traverse them.
        gc.freeze()
        gc.enable()
        if self._captions is not None:
            self._captions.start()
        if self._own_server is not None:
            self._own_server.start()
        self._notify_frontends(status)
        log.info("daemon ready: %s", status.summary)
        self._announcements.start(self.inbox.put)
        if self._notice is not None:
            self._notice.start()

    def _run_loop(self) -> tuple[str, int]:
        """Handle events until the daemon must end. Return the reason and the exit code."""
        while True:
            event = self._next_event()
            if (suspend := self._suspend.take_reason()) is not None:
                self.handle(Hush(suspend))
            if isinstance(event, Stop):
                self._watch(event)
                return event.reason, 0
            if isinstance(event, WorkerCrashed):
                return f"a crash of the {event.worker}", log_worker_crash(event)
            if isinstance(event, Restart) and self._restart_pause.is_expired:
                return f"a restart, requested by {event.source}", RESTART_CODE
            if isinstance(event, Restart):
                log.warning("daemon: restart refused, the last start is too recent, source=%s", event.source)
            elif isinstance(event, Reload):
                self._reload(self._read_again)
            elif isinstance(event, Choose):
                self._choose(event)
            elif event is not None:
                self.handle(event)
            is_speaking = self._conversation.state is State.SPEAKING
            if is_speaking and (timed_out := self._device_timeout.check()) is not None:
                self.handle(timed_out)
            for due in self._announcements.due():
                self.handle(due)
            for due in [] if self._bell is None else self._bell.due():
                self.handle(due)
            if event is None and self._late_imports:  # after the due timers
                importlib.import_module(self._late_imports.pop())
            stuck = self._watchdog.check()
            if stuck and self._systemd.watchdog_seconds is None:
                return f"{stuck[0]} is stuck, and no systemd watchdog would restart the daemon", 70

    def handle(self, event: Event) -> None:
        """Handle one event, in the main thread."""
        for each in self._announcements.admit(event):
            self._watch(each)
            self._update(each)
            self._notify_frontends(each)
            if isinstance(each, Restored):
                for lost in each.lost:  # the store has recorded them
                    self._report_record(Record(*lost))
            for action in self._conversation.handle(each):
                self._carry_out(action)
            if self._notice is not None and (utterance := self._notice.update(each, self._run_id)) is not None:
                self.inbox.put(Announce(utterance))
            self._publish_status()

    @property
    def local_server(self) -> LocalServer | None:
        """The local server that this process runs. Thread-safe."""
        return self._local

    def levels(self) -> dict[str, int]:
        """Return the level of each sound device in dBFS. Thread-safe."""
        from agent.daemon.levels import measure_levels  # most daemons measure no level

        return measure_levels(self._pipeline)

    def card_underruns(self) -> int:
        """Return how often the sound card ran out of audio. Thread-safe."""
        return 0 if self._pipeline.speaker is None else self._pipeline.speaker.card_underruns

    @property
    def device_control(self) -> DeviceControl | None:
        """The device functions for spoken requests, such as timers; ``None`` if nothing has needed them so far.

        Thread-safe.
        """
        return None if self._bell is None else self._bell.control

    def _add_bell(self, config: Config) -> None:
        """Create the timers if a new configuration needs them and they do not exist yet."""
        if self._bell is not None or self._pipeline.responder is None:
            return
        from agent.daemon.reply_builder import needs_control

        if needs_control(config):
            self._bell = self._make_bell()
            self._bell.start(self._run_id, Deadline(0.0))
            self._pipeline.device_control = self._bell.control

    def _make_bell(self) -> TimerBell:
        from agent.daemon.reply_builder import intent_language
        from agent.daemon.timer_bell import TimerBell

        def volume() -> int:
            speaker = self._pipeline.speaker
            return 0 if speaker is None else speaker.volume

        return TimerBell(self._timers, self.inbox.put, volume, lambda: intent_language(self.config))

    # --- input

    def _open_frontends(self) -> Signals:
        """Install the signal handlers and open the frontends.

        Raises:
            AgentError: A frontend cannot be opened. All frontends are closed, and the signal handlers are restored.
        """
        put = self.inbox.put
        signals = Signals(  # before the frontends: a client that sees the socket may send a signal immediately
            {
                signal.SIGTERM: lambda name: put(Stop(name)),
                signal.SIGINT: lambda name: put(Stop(name)),
                signal.SIGUSR1: lambda name: put(Hush(name)),
                signal.SIGHUP: lambda name: put(Reload()),
            }
        )
        try:
            for frontend in self._frontends.workers:
                frontend.open()
            return signals
        except AgentError:
            self._stop_accepting()
            signals.restore()
            raise

    def _next_event(self) -> Event | None:
        timeout = self._announcements.next_timeout(self._timing.check_seconds)
        timeout = timeout if self._bell is None else self._bell.next_timeout(timeout)
        timeout = min(timeout, LATE_IMPORT_SECONDS) if self._late_imports else timeout
        try:
            return self.inbox.get(timeout=timeout)
        except queue.Empty:
            return None

    def _update(self, event: Event) -> None:
        """Pass an event to all observers except the conversation."""
        if isinstance(event, Woken | ListenNow):
            self._pipeline.wake_word = event.word if isinstance(event, Woken) else ""
        self._status.update(event)
        self._utterances.update(event)
        self._announcements.note(event)
        if self._bell is not None:
            self._bell.update(event)
        log_event(event, transcripts=self.config.logging.transcripts)
        self._volume.apply(event, self._pipeline.speaker, self._pipeline.microphone)
        self._device_timeout.update(event)
        if self._captions is not None and isinstance(event, Heard) and event.text:
            self._captions.write(event.text)

    def _choose(self, event: Choose) -> None:
        """Use and store another voice or wake word."""
        assert self._choices is not None  # without choices no frontend reports this event
        from agent.daemon.choices import VOICE, with_voice

        self._choices.choose(event.setting, event.value)
        if event.setting == VOICE:
            self._reload(lambda: with_voice(self.config, event.value))
        else:
            self._choices.apply(self.config, self._status, self._pipeline)
        self._update(event)
        self._publish_status()

    def _read_again(self) -> Config:
        if self._reread is None:
            raise ConfigError("this process has no configuration file to read again: restart it instead")
        return self._configured(self._reread())

    def _configured(self, config: Config) -> Config:
        return config if self._choices is None else self._choices.configure(config)

    def _reload(self, read: Callable[[], Config]) -> None:
        from agent.daemon.reload import apply  # most daemons never reload

        self._systemd.reloading()
        try:
            generation = self._status.config_generation + 1
            config = read()
            self._add_bell(config)
            result = apply(self.config, config, self._pipeline, self.inbox.put, self._local_server_for, generation)
        except ConfigError as error:
            lines = str(error).splitlines()
            for line in lines:
                log.error("configuration: not reloaded, %s", escape(line, 500))
            self._status.reload_failed(lines[0] if len(lines) == 1 else f"{len(lines)} errors, first {lines[0]}")
        else:
            self.config = result.config
            # In captions mode the connection is not replaced, so its failures remain valid.
            is_replaced = self.config.conversation.mode != "captions"
            responder = self.config.responder.kind
            self._status.reloaded(self._speech_services(), replaced=is_replaced, responder=responder)
            log_reload(result.changed, result.pending)
            if self._choices is not None:
                self._choices.apply(self.config, self._status, self._pipeline)
            if self._notice is not None:
                self._notice.start()  # the language may be another one
        status = self._last_status = self._current_status()
        self._systemd.ready(status.summary)
        self._notify_frontends(status)

    def _speech_services(self) -> tuple[str, ...]:
        return () if self.config.conversation.mode == "captions" else self.config.synthesis.services

    def _local_server_for(self, config: Config) -> LocalServer | None:
        """Return the local server for a new configuration. Start it, or restart it with a recognizer, if needed."""
        settings = local_server_settings(config)
        if self._local is None:
            self._local = self._own_server = LocalServer.create(settings)
            if self._own_server is not None:
                self._own_server.start()
        elif self._own_server is not None and settings is not None:
            self._own_server.reconfigure(settings)
        return self._local

    # --- output

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Record):
            spoken = self._utterances.end(action)
            if self._is_kept(action):
                log.info("queue: kept for the next start, utterance=%s", action.utterance.id)
                self._notify_frontends(Kept(action.utterance.id))
                return
            self._announcements.end(action, spoken, keeps_text=self.config.logging.transcripts)
            if action.utterance.turn and self._pipeline.responder is not None:
                if action.state == "played":
                    self._pipeline.responder.correct(action.utterance.turn, None)
                elif not action.seconds:  # no audio was played, so no PlayedText follows
                    self._pipeline.responder.correct(action.utterance.turn, "")
            self._report_record(action, spoken)
        else:
            self._utterances.record_action(action)
            transcripts = self.config.logging.transcripts
            dispatch(action, self._pipeline, self._device_timeout, self.inbox.put, transcripts=transcripts)

    def _report_record(self, record: Record, spoken: SpokenUtterance | None = None) -> None:
        spoken = spoken or SpokenUtterance(record.utterance)
        log_record(record, spoken.services, spoken.excerpt if self.config.logging.transcripts else None)
        self._watch(record)
        self._notify_frontends(record)

    def _is_kept(self, record: Record) -> bool:
        """Return whether an utterance ends only because the daemon ends, so that it is spoken after the restart."""
        is_ending = self._end_reason is not None and record.reason in (f"by {self._end_reason}", f"by {SHUTDOWN}")
        return is_ending and self._announcements.is_kept(record.utterance.id)

    def _current_status(self) -> Status:
        speaker = self._pipeline.speaker
        return self._status.status(
            self._conversation.state,
            None if speaker is None else speaker.volume,
            self._utterances.saying,
            self._conversation.queue_length,
        )

    def _publish_status(self) -> None:
        status = self._current_status()
        if status != self._last_status:
            was_speaking = self._last_status is not None and self._last_status.state == State.SPEAKING.value
            is_speaking = status.state == State.SPEAKING.value
            if is_speaking != was_speaking and self._pipeline.recognizer is not None:
                self._pipeline.recognizer.set_speaking(is_speaking)
            if self._last_status is None or status.summary != self._last_status.summary:
                self._systemd.status(status.summary)
            self._last_status = status
            self._notify_frontends(status)

    def _notify_frontends(self, notification: Notification) -> None:
        if self._frontends.notify is not None:
            self._frontends.notify(notification)

    # --- shutdown

    def _shut_down(self, reason: str) -> None:
        log.info("daemon shutting down: %s", reason)
        if self._notice is not None:
            self._notice.close()
        self._end_reason = reason
        seconds, pipeline = self.config.shutdown_seconds, self._pipeline
        steps = ShutdownSteps(
            stop_accepting=self._stop_accepting,
            abort_reply=None if pipeline.responder is None else pipeline.responder.abort,
            stop_stages=lambda deadline: self._stop_stages(reason, deadline),
            record_remaining=lambda: self._record_remaining(reason),
            close_captions=None if self._captions is None else self._captions.close,
            stop_frontends=self._stop_frontends if self._frontends.workers else None,
            save_volume=self._volume.close,
            close_store=self._close_stores,
            stop_local_server=None if self._own_server is None else self._own_server.stop,
        )
        try:
            self._systemd.stopping(seconds)
        finally:
            steps.run(seconds)
        self._systemd.resend()
        log.info("daemon: stopped")

    def _close_stores(self, deadline: Deadline) -> None:
        try:
            self._announcements.close(deadline)
        finally:
            if self._bell is not None:
                self._bell.close(deadline)

    def _stop_accepting(self) -> None:
        self._frontends.stop_accepting()
        for frontend in self._frontends.workers:
            frontend.stop_accepting()

    def _stop_stages(self, reason: str, deadline: Deadline) -> list[str]:
        def cancel() -> None:
            if self._pipeline.synthesizer is not None:
                self._pipeline.synthesizer.cancel_all(reason)

        return self._pipeline.supervisor.stop(deadline, self._drain_inbox, cancel, self._timing.worker_budget)

    def _record_remaining(self, reason: str) -> None:
        for event in self._announcements.release():
            self.inbox.put(event)
        self._drain_inbox()
        for action in self._conversation.close(reason):
            self._carry_out(action)

    def _stop_frontends(self, deadline: Deadline) -> list[str]:
        self._frontends.close()
        return self._frontend_supervisor.stop(deadline)

    def _drain_inbox(self) -> None:
        """Handle the events that stages report while they end: the last transcript, ends of utterances, a hush."""
        self._systemd.resend()
        while True:
            try:
                event = self.inbox.get_nowait()
            except queue.Empty:
                return
            try:
                self._handle_late(event)
            except Exception:  # noqa: BLE001 - one event that cannot be handled must not stop the shutdown
                log.exception("shutdown: an event could not be handled")
                self._shutdown_code = self._shutdown_code or 70

    def _handle_late(self, event: Event) -> None:
        if isinstance(event, WorkerCrashed):
            self._shutdown_code = self._shutdown_code or log_worker_crash(event)
            return
        self._watch(event)
        self._update(event)
        self._notify_frontends(event)
        for action in self._conversation.handle(event):
            if isinstance(action, Record | AppendText | Finish | StopPlayback):
                self._carry_out(action)
