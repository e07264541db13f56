"""``voice-agent transcribe``: a file, stdin or the microphone, as text."""

from __future__ import annotations

import json
import os
import queue
import sys
from dataclasses import replace
from pathlib import Path

from agent.audio.devices.device import fail_fast
from agent.cli.audio_input import FileFrames, StdinFrames
from agent.cli.interrupts import hush_signals
from agent.cli.local_server import local_server
from agent.daemon.builder import make_microphone, make_recognizer, require_keys
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
    ServiceDown,
    ServiceUp,
    Stop,
    WorkerCrashed,
)
from agent.pipeline.stt.export import fetch_export
from agent.settings.model import Config
from agent.system.text import escape
from agent.system.threads import Deadline, Worker


def transcribe(config: Config, source: str | None, *, as_json: bool = False) -> int:
    """Transcribes ``source`` (a WAV file, ``-`` for raw stdin, ``None``: the microphone) until it or the user ends."""
    config = replace(config, conversation=replace(config.conversation, mode="captions"))
    require_keys(config)
    frames = _frames(config, source)
    with local_server(config) as local:
        return _Transcribing(config, frames, local, source, as_json).run()


def _frames(config: Config, source: str | None) -> FrameSource:
    if source is None:
        return FrameQueue(config.microphone.outage_seconds)
    if source == "-":
        return StdinFrames(config.microphone.frame_seconds)
    return FileFrames(Path(source), config.microphone.frame_seconds)


class _Transcribing:
    def __init__(
        self, config: Config, frames: FrameSource, local: LocalServer | None, source: str | None, as_json: bool
    ) -> None:
        self._config, self._source, self._as_json = config, source, as_json
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._recognizer = make_recognizer(config, frames, NullEndpointer(), self._inbox.put, local)
        workers: list[Worker] = [self._recognizer]
        if isinstance(frames, FrameQueue):
            workers.insert(0, make_microphone(config, frames, self._inbox.put, patience=fail_fast))
        self._supervisor = Supervisor(workers)
        self._error: AgentError | OSError | None = None
        self._heard_anything = False
        self._down: ServiceError | None = None
        self._patience = Deadline(None)  # for a service that was there and has gone

    def run(self) -> int:
        signals = hush_signals(self._inbox.put)
        self._supervisor.start()
        ended = False
        while not ended and self._error is None:
            try:
                ended = self._take(self._inbox.get(timeout=0.5))
            except queue.Empty:
                ended = not self._recognizer.is_alive
            if self._patience.is_expired and self._error is None:
                self._error = self._down
        if self._error is not None:
            self._recognizer.abort()  # whoever cannot go on has nothing to wait for
        stuck = self._supervisor.stop(Deadline(self._config.shutdown_seconds), self._tend, lambda: None)
        signals.restore()
        if stuck:
            os._exit(AgentError.exit_code)
        if self._error is not None:
            raise self._error
        return 0

    def _tend(self) -> None:
        while True:
            try:
                self._take(self._inbox.get_nowait())
            except queue.Empty:
                return

    def _take(self, event: Event) -> bool:
        """Handles an event; after one that could not be printed, because the reader has left or the disk is full,
        only what ends the recognizer is of interest, which otherwise would keep the process for ever."""
        if isinstance(self._error, OSError):
            return True
        try:
            return self._handle(event)
        except OSError as error:
            self._error = error
            return True

    def _handle(self, event: Event) -> bool:
        """Prints what there is to print; tells whether that was the end."""
        match event:
            case Partial(text):
                print(f"... {escape(text)}", file=sys.stderr, flush=True)
            case Heard():
                self._heard_anything = True
                self._print(event)
            case Gap(start, seconds, reason) if self._error is None:
                print(f"{seconds:.2f} s of sound are missing from {start:.1f} s on: {reason}", file=sys.stderr)
            case ServiceDown(service, reason, permanent):
                self._down = ServiceError(service, reason.removeprefix(f"{service}: "), permanent=permanent)
                if permanent or not self._heard_anything:
                    self._error = self._down
                else:
                    print(reason, file=sys.stderr)
                    if self._source is not None:  # what is read from a file or a pipe has an end, and so has its reader
                        self._patience = Deadline(self._config.microphone.outage_seconds)
            case ServiceUp():
                self._patience = Deadline(None)
            case DeviceLost(which, reason):
                print(f"no {which}: {escape(reason)}; waiting for it", file=sys.stderr)
            case DeviceBack(which, seconds):
                print(f"the {which} is back after {seconds:.1f} s", file=sys.stderr)
            case WorkerCrashed(worker, error):
                self._error = error if isinstance(error, AgentError) else AgentError(f"the {worker} died: {error!r}")
            case Stop():
                return True
        return not self._recognizer.is_alive and self._inbox.empty()

    def _print(self, heard: Heard) -> None:
        if heard.text:
            if self._as_json:
                words = [
                    {"word": word, "start": start, "end": end, "conf": confidence}
                    for word, start, end, confidence in heard.words
                ]
                print(json.dumps({"text": heard.text, "result": words}, ensure_ascii=False), flush=True)
            else:
                print(escape(heard.text), flush=True)
        if heard.export_id and self._config.transcription.export_url:
            self._fetch(heard.export_id)

    def _fetch(self, export_id: str) -> None:
        given = self._config.transcription.export_directory
        beside = Path() if self._source is None or self._source == "-" else Path(self._source).parent
        for line in fetch_export(self._config.transcription, export_id, Path(given) if given else beside).lines():
            print(escape(line), file=sys.stderr)
