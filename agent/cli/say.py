"""``voice-agent say``: speak one utterance, from the command line or from stdin while it arrives."""

from __future__ import annotations

import gc
import os
import queue
from typing import TYPE_CHECKING

from agent.cli.file_output import FileOutput, WavMemory, speaker_problem
from agent.cli.foreground import crash_error, print_device_event, stop_signals
from agent.cli.local_server import local_server
from agent.cli.notice import notice
from agent.daemon.builder import require_keys
from agent.daemon.speech_builder import RING_BYTES, make_speaker, make_synthesizer
from agent.daemon.supervisor import Supervisor
from agent.errors import CANCELLED_EXIT_CODE, AgentError, DeviceError, ServiceError
from agent.pipeline.events import (
    AudioArrived,
    DeviceBack,
    DeviceLost,
    Event,
    ServiceDown,
    Stop,
    UtteranceCancelled,
    UtteranceFailed,
    UtterancePlayed,
    WorkerCrashed,
)
from agent.pipeline.playback.audio_writer import AudioWriter
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.stage import Stage
from agent.pipeline.utterance import Utterance
from agent.settings.model import Config
from agent.system.text import validate_text
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.cli.stdin_text import TextReader
    from agent.daemon.local_server import LocalServer

UTTERANCE = "say"


def say(
    config: Config,
    words: list[str],
    *,
    service: str | None = None,
    output: str | None = None,
    fallback: str | None = None,
) -> int:
    """Speak a text.

    Args:
        config: The configuration.
        words: The words of the text; a single ``-`` for the text of stdin.
        service: The speech service to use; ``None`` for the configured ones.
        output: A sound file that replaces the speaker (see ``FileOutput``), or ``-`` for WAV on standard output.
        fallback: A file that replaces the speaker if the speaker cannot be opened.

    Returns:
        The exit code: 0, or 3 if the utterance was cancelled.

    Raises:
        AgentError: The text was not spoken completely.
    """
    text = None if words == ["-"] else validate_text(" ".join(words))
    if service is not None:
        config = config._replace(synthesis=config.synthesis._replace(services=(service,)))
    config = with_announce_mode(config)
    require_keys(config)
    if output is None and fallback is not None and (problem := speaker_problem(config.speaker)):
        notice(f"{problem}: the speech is written to {fallback}")
        output = fallback
    if output is None and config.speaker.volume == 0:
        notice("speaker.volume is 0 in the configuration: the text cannot be heard")
    with local_server(config) as local:
        try:
            session = _SaySession(config, local, None if output is None else FileOutput(output))
            session.run(text)
        except DeviceError as error:
            cure = f"{error.cure} To write a file instead: voice-agent say --output FILE.wav".strip()
            raise DeviceError(
                error.reason, cure=cure, lost=error.lost, unknown=error.unknown, problem=error.problem
            ) from error
    if session.was_cancelled and output not in (None, "-"):
        notice(f"stopped: {output} was not written")
    return CANCELLED_EXIT_CODE if session.was_cancelled else 0


def with_announce_mode(config: Config) -> Config:
    """Return the configuration with the mode ``announce``, so that no local server is started for transcription."""
    return config._replace(conversation=config.conversation._replace(mode="announce"))


def speak(config: Config, local: LocalServer | None, text: str) -> None:
    """Speak ``text`` through the configured speaker; for other commands."""
    _SaySession(config, local, None).run(text)


def record(config: Config, local: LocalServer, text: str) -> tuple[bytes, str]:
    """Speak ``text`` into a WAV file in memory; for other commands.

    Returns:
        The WAV file, and the name of the signal that arrived meanwhile; each is empty if there is none.
    """
    memory = WavMemory()
    session = _SaySession(config, local, memory)
    session.run(text)
    return memory.wav, session.stopped_by


class _SaySession:
    """One utterance through synthesizer, ring buffer and speaker. Not thread-safe; owned by the main thread.

    ``stopped_by``: the name of the last signal, including one after the end of the utterance; empty if there was none.
    ``was_cancelled``: whether a signal cancelled the utterance.
    """

    def __init__(self, config: Config, local: LocalServer | None, output: FileOutput | WavMemory | None) -> None:
        self._config = config
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._output = output
        ring = RingBuffer(RING_BYTES)
        self._synthesizer = make_synthesizer(config, ring, self._inbox.put, local, eager=False)
        if output is None:
            from agent.audio.devices.device import fail_fast

            self._speaker: Stage = make_speaker(config, ring, self._inbox.put, wait_policy=fail_fast)
        else:
            self._speaker = AudioWriter(ring, output.open, self._inbox.put, output.take)
        self.stopped_by = ""
        self.was_cancelled = False
        self._reader: TextReader | None = None
        self._was_played = False
        self._down: dict[str, str] = {}  # services that failed, with the reason

    def run(self, text: str | None) -> None:
        """Return when the utterance was played, or was cancelled by the user.

        Args:
            text: The text; ``None`` for stdin.

        Raises:
            AgentError: The utterance failed.
        """
        # agent/__main__.py disables the collector for the imports. The imported modules are not garbage: exclude them.
        gc.freeze()
        gc.enable()
        supervisor = Supervisor([self._synthesizer, self._speaker])
        error: AgentError | None = None
        with stop_signals(self._report):
            supervisor.start()
            try:
                if text is None:
                    from agent.cli.stdin_text import TextReader

                    self._reader = TextReader(
                        self._synthesizer, UTTERANCE, self._inbox.put, keeps_partial=self._output is None
                    )
                    self._reader.start()
                else:
                    self._synthesizer.begin(Utterance(UTTERANCE, text, source="say"))
                error = self._wait()
            finally:
                if self._reader is not None:
                    self._reader.stop()
                stuck = supervisor.stop(Deadline(self._config.shutdown_seconds))
                if self._output is not None:
                    self._output.end(complete=self._was_played)
        if stuck:
            os._exit(AgentError.exit_code)  # a normal exit would wait for the stuck thread
        if error is not None:
            raise error

    def _report(self, event: Event) -> None:
        if isinstance(event, Stop):
            self.stopped_by = event.reason
        self._inbox.put(event)

    def _wait(self) -> AgentError | None:
        """Return the error of the utterance; ``None`` if it was played or cancelled by the user."""
        while True:
            match self._inbox.get():
                case UtterancePlayed():
                    if self._read_error is not None:
                        return self._read_error
                    if self._output is not None and self._output.is_empty:
                        return ServiceError("speech", "the service returned no audio for this text")
                    self._was_played = True
                    return None
                case UtteranceFailed(reason=reason):
                    # If invalid input follows a few words, these may produce no audio. Then the input is the cause.
                    return self._read_error or ServiceError("speech", reason)
                case UtteranceCancelled():
                    self.was_cancelled = True
                    return self._read_error
                case ServiceDown(service, reason):
                    self._down[service] = reason
                case AudioArrived(service=service):
                    for other, reason in self._down.items():
                        if other != service:
                            notice(f"{reason}; {service} speaks instead")
                    self._down.clear()
                case Stop(name):
                    self._synthesizer.cancel_all(name)
                    if self._reader is not None and not self._reader.has_begun:
                        self.was_cancelled = True
                        return None
                case WorkerCrashed(error=BrokenPipeError() as error):
                    raise error  # the reader of standard output closed the pipe
                case WorkerCrashed() as event:
                    return crash_error(event)
                case DeviceLost() | DeviceBack() as event:
                    print_device_event(event)

    @property
    def _read_error(self) -> AgentError | None:
        return None if self._reader is None else self._reader.error
