"""``voice-agent say``: one utterance, from the command line or from stdin as it comes."""

from __future__ import annotations

import os
import queue
import sys
from dataclasses import replace

from agent.audio.devices.device import fail_fast
from agent.cli.interrupts import hush_signals
from agent.cli.local_server import local_server
from agent.cli.say_via_daemon import say_via_daemon
from agent.cli.stdin_text import TextReader
from agent.cli.wav_output import Memory, Recording
from agent.daemon.builder import RING_BYTES, make_speaker, make_synthesizer, require_keys
from agent.daemon.local_server import LocalServer
from agent.daemon.supervisor import Supervisor
from agent.errors import AgentError, DeviceError, ServiceError
from agent.frontends.control.client import ControlClient, DaemonUnreachable, sockets
from agent.pipeline.events import (
    AudioArrived,
    DeviceBack,
    DeviceLost,
    Event,
    ServiceDown,
    Stop,
    Utterance,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
    WorkerCrashed,
)
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.playback.speaker import Speaker
from agent.settings.model import Config
from agent.system.text import LONGEST_TEXT, checked, escape
from agent.system.threads import Deadline

UTTERANCE = "say"


def say(config: Config, words: list[str], *, service: str | None = None, output: str | None = None) -> int:
    """Speaks ``words``, or stdin where they are ``-``; into the WAV file ``output`` where one is named.

    Where neither a file nor a service is asked for, a running daemon does it: it has the sound card, the keys, and a
    connection in standby.
    """
    text = None if words == ["-"] else checked(" ".join(words))
    if service is None and output is None:
        daemon = _daemon(config)
        if daemon is not None:
            return say_via_daemon(daemon, text)
    # Nobody listens here: a local server for the transcription alone would be started for nothing.
    config = replace(config, conversation=replace(config.conversation, mode="announce"))
    if service is not None:
        config = replace(config, synthesis=replace(config.synthesis, services=(service,)))
    require_keys(config)
    with local_server(config) as local:
        try:
            saying = _Saying(config, local, None if output is None else Recording(output))
            saying.run(text)
        except DeviceError as error:
            hint = f"{error}, or have the sound written: voice-agent say --output F.wav"
            raise DeviceError(hint, lost=error.lost, unknown=error.unknown) from error
    if saying.cut and output not in (None, "-"):
        print(f"voice-agent: stopped: {escape(str(output))} was not written", file=sys.stderr)
    return 0


def _daemon(config: Config) -> ControlClient | None:
    try:
        return ControlClient.find(sockets(config.control.socket, os.environ))
    except DaemonUnreachable:
        return None


class _Saying:
    """One utterance through synthesizer, ring and speaker; the main thread waits for how it ends. ``stopped_by``: the
    signal that came meanwhile, whether there was anything left to stop or not; ``cut``: there was."""

    def __init__(self, config: Config, local: LocalServer | None, recording: Recording | Memory | None) -> None:
        self._config = config
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._recording = recording
        ring = RingBuffer(RING_BYTES)
        self._synthesizer = make_synthesizer(config, ring, self._inbox.put, local, eager=False)
        if recording is None:
            self._speaker = make_speaker(config, ring, self._inbox.put, patience=fail_fast)
        else:
            # A file has all the time in the world, and hears no gap.
            self._speaker = Speaker(ring, recording.open, self._inbox.put, prebuffer_most_seconds=0.0)
        self.stopped_by = ""
        self.cut = False
        self._reader: TextReader | None = None
        self._said = False
        self._down: dict[str, str] = {}  # the services that failed, and why

    def run(self, text: str | None) -> None:
        """Returns when it was said, or cut by the user; raises what went wrong."""
        signals = hush_signals(self._report)
        supervisor = Supervisor([self._synthesizer, self._speaker])
        supervisor.start()
        error: AgentError | None = None
        try:
            if text is None:
                self._reader = TextReader(
                    self._synthesizer, UTTERANCE, LONGEST_TEXT, self._inbox.put, kept=self._recording is None
                )
                self._reader.start()
            else:
                self._synthesizer.begin(Utterance(UTTERANCE, text, source="say"))
            error = self._wait()
        finally:
            if self._reader is not None:
                self._reader.stop()
            stuck = supervisor.stop(Deadline(self._config.shutdown_seconds), lambda: None, lambda: None)
            signals.restore()
            if self._recording is not None:
                self._recording.end(whole=self._said)
        if stuck:
            os._exit(AgentError.exit_code)
        if error is not None:
            raise error

    def _report(self, event: Event) -> None:
        if isinstance(event, Stop):
            self.stopped_by = event.reason
        self._inbox.put(event)

    def _wait(self) -> AgentError | None:
        """How it ended: ``None`` where it was said, or hushed by the user."""
        while True:
            event = self._inbox.get()
            match event:
                case UtterancePlayed():
                    if self._reader is not None and self._reader.error is not None:
                        return self._reader.error
                    if self._recording is not None and self._recording.empty:
                        return ServiceError("speech", "no sound came for this text")
                    self._said = True
                    return None
                case UtteranceFailed(reason=reason):
                    # Where stdin is no text, the little that came before it may well have no sound.
                    mistake = self._reader.error if self._reader is not None else None
                    return mistake or ServiceError("speech", reason)
                case UtteranceCancelled():
                    self.cut = True
                    return self._reader.error if self._reader is not None else None
                case ServiceDown(service, reason):
                    self._down[service] = reason
                case AudioArrived(service=service):
                    for other, reason in self._down.items():
                        if other != service:
                            print(f"voice-agent: {escape(reason, 300)}; {service} speaks instead", file=sys.stderr)
                    self._down.clear()
                case Stop(by):
                    self._synthesizer.hush(by)
                    if self._reader is not None and not self._reader.begun:
                        return None
                case WorkerCrashed(worker, cause):
                    if isinstance(cause, BrokenPipeError):
                        raise cause  # whoever reads our output has had enough
                    return cause if isinstance(cause, AgentError) else AgentError(f"the {worker} died: {cause!r}")
                case DeviceLost(which, reason):
                    print(f"voice-agent: no {which}: {escape(reason)}; waiting for it", file=sys.stderr)
                case DeviceBack(which, seconds):
                    print(f"voice-agent: the {which} is back after {seconds:.1f} s", file=sys.stderr)


def speak(config: Config, local: LocalServer | None, text: str) -> None:
    """Speaks ``text`` through the configured speaker; for other commands."""
    _Saying(config, local, None).run(text)


def record(config: Config, local: LocalServer, text: str) -> tuple[bytes, str]:
    """``text`` spoken, as a WAV file, and the signal that came meanwhile, if one did; for other commands."""
    memory = Memory()
    saying = _Saying(config, local, memory)
    saying.run(text)
    return memory.wav, saying.stopped_by
