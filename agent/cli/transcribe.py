"""``voice-agent transcribe``: print the transcripts of a file, stdin or the microphone."""

from __future__ import annotations

import json
import os
import queue
import sys
from pathlib import Path

from agent.audio.devices.device import fail_fast
from agent.cli.audio_input import FileFrames, InputFrames, PipeFrames, StdinFrames
from agent.cli.foreground import crash_error, print_device_event, stop_signals
from agent.cli.local_server import local_server
from agent.cli.notice import notice
from agent.daemon.builder import require_keys
from agent.daemon.capture_builder import make_microphone, make_recognizer
from agent.daemon.local_server import LocalServer
from agent.daemon.supervisor import Supervisor
from agent.errors import AgentError, ServiceError
from agent.pipeline.capture.endpointer import NullEndpointer
from agent.pipeline.capture.frame_queue import FrameQueue, FrameSource
from agent.pipeline.events import (
    DeviceBack,
    DeviceLost,
    Event,
    Gap,
    Heard,
    Partial,
    ServiceConnected,
    ServiceDown,
    ServiceUp,
    Stop,
    WorkerCrashed,
)
from agent.pipeline.stt.export import fetch_export
from agent.settings.model import Config
from agent.system.text import escape
from agent.system.threads import Deadline, Worker

ALIVE_CHECK_SECONDS = 0.5


def transcribe(config: Config, source: str | None, *, as_json: bool = False) -> int:
    """Transcribe until the end of the input or a signal.

    Args:
        config: The configuration.
        source: A WAV file; ``-`` for raw 16 kHz mono s16le from stdin; ``None`` for the microphone.
        as_json: Print one JSON object per transcript and per gap.

    Raises:
        AgentError: The input was not transcribed completely.
        OSError: A transcript cannot be printed.
    """
    config = config._replace(conversation=config.conversation._replace(mode="captions"))
    require_keys(config)
    frames: FrameSource
    if source is None:
        frames = FrameQueue(config.microphone.outage_seconds)
    elif source == "-":
        frames = StdinFrames(config.microphone.frame_seconds)
    elif _is_pipe(Path(source)):
        frames = PipeFrames(Path(source), config.microphone.frame_seconds)
    else:
        frames = FileFrames(Path(source), config.microphone.frame_seconds)
    with local_server(config) as local:
        return _TranscribeSession(config, frames, local, source, as_json).run()


def _is_pipe(path: Path) -> bool:
    try:
        return path.is_fifo()
    except OSError:  # such as no permission for the directory: reading the file reports the error
        return False


class _TranscribeSession:
    """One input through the recognizer to standard output. Not thread-safe; owned by the main thread."""

    def __init__(
        self, config: Config, frames: FrameSource, local: LocalServer | None, source: str | None, as_json: bool
    ) -> None:
        self._config, self._frames, self._source, self._as_json = config, frames, source, as_json
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        # A transient error, such as a single HTTP 503, does not end the command before report_seconds.
        self._recognizer = make_recognizer(
            config,
            frames,
            NullEndpointer(),
            self._inbox.put,
            local,
            report_seconds=config.synthesis.first_audio_seconds,
        )
        workers: list[Worker] = [self._recognizer]
        if isinstance(frames, FrameQueue):
            workers.insert(0, make_microphone(config, frames, self._inbox.put, wait_policy=fail_fast))
        self._supervisor = Supervisor(workers)
        self._error: AgentError | OSError | None = None
        self._has_answer = self._has_words = False
        self._missing_seconds = 0.0
        # Gaps before the first connection; None after it. If the service fails without a connection, they are not
        # printed: its error says that all audio is missing.
        self._early_gaps: list[Gap] | None = []
        self._down: ServiceError | None = None
        self._outage = Deadline(None)  # limits the reconnect to a service that failed during the stream

    def run(self) -> int:
        with stop_signals(self._inbox.put):
            self._supervisor.start()
            is_over = False
            while not is_over and self._error is None:
                try:
                    is_over = self._handle(self._inbox.get(timeout=ALIVE_CHECK_SECONDS))
                except queue.Empty:
                    is_over = not self._recognizer.is_alive
                if self._outage.is_expired and self._error is None:
                    self._error = self._down
            if self._error is not None:
                self._recognizer.abort()  # no further transcript is needed
            stuck = self._supervisor.stop(Deadline(self._config.shutdown_seconds), self._drain)
        if stuck:
            os._exit(AgentError.exit_code)  # a normal exit would wait for the stuck thread
        self._report_rest()
        if self._error is not None:
            raise self._error
        self._print_early_gaps()
        if self._missing_seconds:
            raise ServiceError(
                "transcription",
                f"the transcript is incomplete: {self._missing_seconds:.2f} s of audio are missing. Transcribe it"
                " again; for a slow service raise transcription.answer_seconds.",
            )
        if not self._has_words:
            self._report_silence()
        return 0

    def _drain(self) -> None:
        while True:
            try:
                self._handle(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _handle(self, event: Event) -> bool:
        """Handle an event and return whether the transcription is over.

        If a transcript cannot be printed (the pipe is closed, the disk is full), the transcription is over, and later
        events are ignored.
        """
        if isinstance(self._error, OSError):
            return True
        try:
            return self._handle_printing(event)
        except OSError as error:
            self._error = error
            return True

    def _handle_printing(self, event: Event) -> bool:
        match event:
            case Partial(text):
                self._has_answer = True
                if self._outage.remaining() is not None:  # the service answers again
                    self._outage = Deadline(self._config.microphone.outage_seconds)
                print(f"... {escape(text)}", file=sys.stderr, flush=True)
            case Heard():
                self._has_answer = True
                self._print(event)
            case Gap():
                self._print_gap(event)
            case ServiceDown(service, reason, permanent):
                self._down = ServiceError(service, reason.removeprefix(f"{service}: "), permanent=permanent)
                if permanent or not self._has_answer:
                    self._error = self._down
                else:
                    notice(reason)
                    if self._source is not None:  # a file or a pipe ends, so the wait for the service is limited too
                        self._outage = Deadline(self._config.microphone.outage_seconds)
            case ServiceConnected():
                self._print_early_gaps()
            case ServiceUp():
                self._outage = Deadline(None)
            case DeviceLost() | DeviceBack():
                print_device_event(event)
            case WorkerCrashed():
                self._error = crash_error(event)
            case Stop():
                return True
        return not self._recognizer.is_alive and self._inbox.empty()

    def _print_gap(self, gap: Gap) -> None:
        """Print that a part of the audio has no transcript, at its position between the transcripts."""
        if self._early_gaps is not None:
            self._early_gaps.append(gap)
            return
        self._missing_seconds += gap.seconds
        if self._as_json:
            fields = {"start": gap.start_seconds, "seconds": gap.seconds, "reason": gap.reason}
            print(json.dumps({"gap": fields}, ensure_ascii=False), flush=True)
        else:
            text = f"{gap.seconds:.2f} s of audio are missing after {gap.start_seconds:.2f} s: {gap.reason}"
            print(f"[gap: {escape(text)}]", flush=True)

    def _print_early_gaps(self) -> None:
        gaps, self._early_gaps = self._early_gaps or [], None
        for gap in gaps:
            self._print_gap(gap)

    def _report_rest(self) -> None:
        """Print the part of a file that was not read because of an error of the service, as a gap."""
        if isinstance(self._error, ServiceError) and isinstance(self._frames, InputFrames):
            seconds = self._frames.measure_rest()
            if seconds > 0:
                self._print_gap(Gap(self._frames.position_seconds, seconds, str(self._error)))

    def _report_silence(self) -> None:
        subject = {None: "the microphone", "-": "stdin"}.get(self._source, f"the file {self._source}")
        if isinstance(self._frames, FrameQueue):
            notice(f"no speech: the audio from {subject} has no words")
        elif isinstance(self._frames, InputFrames) and self._frames.seconds:
            notice(f"no speech: {self._frames.seconds:.1f} s of audio from {subject} without words")
        else:
            notice(f"no speech: {subject} contained no audio")

    def _print(self, event: Heard) -> None:
        self._has_words = self._has_words or bool(event.text)
        if event.text and self._as_json:
            words = [
                {"word": word, "start": start, "end": end, "conf": confidence}
                for word, start, end, confidence in event.words
            ]
            print(json.dumps({"text": event.text, "result": words}, ensure_ascii=False), flush=True)
        elif event.text:
            print(escape(event.text), flush=True)
        if event.export_id and self._config.transcription.export_url:
            self._fetch_export(event.export_id)

    def _fetch_export(self, export_id: str) -> None:
        settings = self._config.transcription
        if settings.export_directory:
            directory = Path(settings.export_directory)
        else:
            directory = Path() if self._source in (None, "-") else Path(str(self._source)).parent
        for line in fetch_export(settings, export_id, directory).lines():
            print(escape(line), file=sys.stderr)
