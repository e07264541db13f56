"""``voice-agent demo``: show one whole turn on the local speech server, with a timeline."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from agent.cli.file_output import check_writable, speaker_problem
from agent.cli.notice import notice
from agent.cli.say import record
from agent.daemon.daemon import Daemon
from agent.daemon.local_server import LocalServer
from agent.errors import AgentError, AudioError, ServiceError, UsageError
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Event,
    Heard,
    Partial,
    PlaybackStarted,
    Reply,
    ServiceDown,
    SpeechEnded,
    Stop,
    UtterancePlayed,
)
from agent.services.registry import find
from agent.settings.model import Config
from agent.system.systemd import SystemdNotifier
from agent.system.text import escape, validate_text
from agent.system.threads import Deadline

QUESTION = "Excuse me, could you please tell me what time it is?"
REPLY_FILE = "demo-reply.wav"
MAX_TURN_SECONDS = 90.0
MAX_START_SECONDS = 60.0
BAR_WIDTH = 40

_SIGNALS = ("SIGINT", "SIGTERM")

Print = Callable[[str], None]


def demo(
    config: Config, *, service: str, question: str = QUESTION, output: str | None = None, as_json: bool = False
) -> int:
    """Speak a question with the local voice, transcribe it, reply to it and play the reply.

    Args:
        config: The configuration.
        service: The service whose wire protocol is used; the local server answers it.
        question: The question.
        output: A WAV file for the reply, in place of the speaker.
        as_json: Print the result as one JSON object, and the progress to standard error.

    Returns:
        The exit code: 0, or 128 plus the number of the signal that ended the turn.

    Raises:
        AgentError: The turn failed, the question has no words, or ``output`` is ``-``.
        OSError: The progress cannot be printed.
    """
    question = validate_text(question)
    if output == "-":
        raise UsageError("demo prints its timeline to standard output: name a file after --output")
    progress: Print = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    # The daemon installs its own signal handlers. Before and after it, these handlers let ``_run`` stop the server.
    previous = {name: signal.signal(signal.Signals[name], _interrupt) for name in _SIGNALS}
    try:
        turn, wav = _run(config, service, question, output, progress)
    except _Interrupted as interruption:
        name = str(interruption)
        notice(f"stopped by {name}, before the end of the turn")
        return 128 + signal.Signals[name]
    finally:
        for name, handler in previous.items():
            signal.signal(signal.Signals[name], handler)
    result = {
        "service": service,
        "question": question,
        "transcript": turn.transcript,
        "reply": " ".join(turn.reply),
        "wav": wav,
        "timeline": {name.replace(" ", "_"): seconds for name, seconds in turn.timeline.moments.items()},
    }
    print(json.dumps(result, ensure_ascii=False) if as_json else _report(result, turn.timeline), flush=True)
    return 0


def _run(config: Config, service: str, question: str, output: str | None, progress: Print) -> tuple[_Turn, str | None]:
    """Run the turn and return it with the WAV file of the reply, if the reply is written to one."""
    if output is not None:
        check_writable(output)
    uses_tcp = "tcp" in find(service).url_schemes
    server = LocalServer(config.server._replace(host="127.0.0.1", port=0, wyoming=0 if uses_tcp else "none"))
    progress("starting the local speech server")
    try:
        server.start()
        url = server.url(Deadline(MAX_START_SECONDS))
        service_url = server.wyoming_url(Deadline(MAX_START_SECONDS)) if uses_tcp else url
        progress(f"recording the question with the local voice: {question!r}")
        with _recording(config, server, question) as microphone:
            speaker, wav = _speaker(config, output, progress)
            turn = _Turn(server, _demo_config(config, service, url, service_url, microphone, speaker), progress)
            turn.run()
    finally:
        server.stop()
    return turn, wav


class _Interrupted(KeyboardInterrupt):
    """A signal arrived before the end of the turn. The argument is the name of the signal."""


def _interrupt(number: int, frame: object) -> None:
    for name in _SIGNALS:
        signal.signal(signal.Signals[name], _exit)  # a second signal ends the process immediately
    raise _Interrupted(signal.Signals(number).name)


def _exit(number: int, frame: object) -> None:
    os._exit(128 + number)


# --- devices and configuration of the turn


@contextlib.contextmanager
def _recording(config: Config, server: LocalServer, question: str) -> Iterator[str]:
    """Yield the path of the spoken question: a WAV file in memory, so that no file remains even after SIGKILL."""
    local = config._replace(synthesis=config.synthesis._replace(services=("local",)))
    wav, stopped_by = record(local, server, question)
    if stopped_by:
        raise _Interrupted(stopped_by)
    with os.fdopen(os.memfd_create("question"), "wb", buffering=0) as file:
        file.write(wav)
        yield f"/proc/self/fd/{file.fileno()}"


def _speaker(config: Config, output: str | None, progress: Print) -> tuple[str, str | None]:
    """Return the speaker device, and its path if it is a WAV file. ``REPLY_FILE`` replaces a sound card that fails."""
    if output is not None:
        return f"file:{output}", output
    device = config.speaker.device
    if problem := speaker_problem(config.speaker):
        progress(f"{problem}: the reply is written to {REPLY_FILE}")
        try:
            check_writable(REPLY_FILE)
        except AudioError as reason:
            raise AudioError(f"{reason} Name another file: --output FILE.wav") from reason
        return f"file:{REPLY_FILE}", REPLY_FILE
    return device, device.removeprefix("file:") if device.startswith("file:") else None


def _demo_config(config: Config, service: str, url: str, service_url: str, question: str, speaker: str) -> Config:
    """Return the configuration of the turn: the question replaces the microphone, the local server all services."""
    settings = config.synthesis.settings(service)._replace(**find(service).local_settings(service_url))
    return config._replace(
        microphone=config.microphone._replace(device=f"file:{question}"),
        speaker=config.speaker._replace(device=speaker),
        conversation=config.conversation._replace(mode="assistant"),
        transcription=config.transcription._replace(url=f"{url}/", export_url=None),
        synthesis=config.synthesis._replace(services=(service,)).with_settings(service, settings),
    )


# --- the turn


@dataclass
class Timeline:
    """The five moments of a turn, in seconds after the end of speech. Not thread-safe; owned by the main thread."""

    moments: dict[str, float] = field(default_factory=dict)
    _end_of_speech: float | None = None

    def add(self, event: Event | Record) -> None:
        """Store the time of an event that is one of the moments; ignore other events."""
        match event:
            case SpeechEnded(ago_seconds):
                self._end_of_speech = time.monotonic() - ago_seconds
                self.moments = {"end of speech": 0.0}
            case Heard(text) if text:
                self._note("final transcript")
            case Reply():
                self._note("first reply text")
            case PlaybackStarted():
                self._note("first audio")
            case UtterancePlayed():
                self._note("last audio")

    def lines(self) -> list[str]:
        """Return one line per moment, with a bar drawn to scale."""
        longest = max(self.moments.values(), default=0.0) or 1.0
        return [
            f"{name:>16}  {seconds:6.2f} s  {'▇' * max(1, round(seconds / longest * BAR_WIDTH)) if seconds else '|'}"
            for name, seconds in self.moments.items()
        ]

    def _note(self, name: str) -> None:
        if self._end_of_speech is not None:
            self.moments.setdefault(name, round(time.monotonic() - self._end_of_speech, 3))


class _Turn:
    """One turn of a whole daemon. Not thread-safe; owned by the main thread, which also runs the daemon."""

    def __init__(self, server: LocalServer, config: Config, progress: Print) -> None:
        self.timeline = Timeline()
        self.transcript = ""
        self.reply: list[str] = []
        self._progress = progress
        self._error: AgentError | OSError | None = None
        self._has_ended = False
        self._stopped_by = ""
        self._daemon = Daemon(config, SystemdNotifier({}), watch=self._watch, local=server)

    def run(self) -> None:
        """Run the daemon for the turn.

        Raises:
            AgentError: The turn fails.
            OSError: The progress cannot be printed.
        """
        self._progress("asking the question and listening to it")
        timeout = Stop(f"no answer within {MAX_TURN_SECONDS:g} s")
        timer = threading.Timer(MAX_TURN_SECONDS, self._daemon.inbox.put, [timeout])
        timer.start()
        try:
            self._daemon.run()
        finally:
            timer.cancel()
        if self._stopped_by:
            raise _Interrupted(self._stopped_by)
        if self._error is not None:
            raise self._error
        if not self._has_ended:
            raise ServiceError("demo", f"the turn did not end within {MAX_TURN_SECONDS:g} s")

    def _watch(self, event: Event | Record) -> None:
        """Handle an event. Progress that cannot be printed (the pipe is closed, the disk is full) ends the turn."""
        if isinstance(self._error, OSError):
            return
        try:
            self._watch_printing(event)
        except OSError as error:
            self._error = error
            self._daemon.inbox.put(Stop("a failure"))

    def _watch_printing(self, event: Event | Record) -> None:
        self.timeline.add(event)
        match event:
            case Partial(text):
                self._progress(f"  partial: {escape(text)}")
            case Heard(text) if text:
                self.transcript = text
                self._progress(f"  heard:   {escape(text)}")
            case Heard():
                self._fail(ServiceError("transcription", "no words were recognized in the question"))
            case Stop(name) if name in _SIGNALS and not self._has_ended and self._error is None:
                self._stopped_by = name
            case Reply(text=text):
                self.reply.append(text)
                self._progress(f"  reply:   {escape(text)}")
            case ServiceDown(service, reason):
                self._fail(ServiceError(service, reason.removeprefix(f"{service}: ")))
            case Record(state="played"):
                self._has_ended = True
                self._daemon.inbox.put(Stop("the end of the demonstration"))
            case Record(state=state, reason=why):
                self._has_ended = True
                self._fail(ServiceError("synthesis", f"the reply was {state}: {why}"))

    def _fail(self, error: AgentError) -> None:
        self._error = self._error or error
        self._daemon.inbox.put(Stop("a failure"))


def _report(result: Mapping[str, object], timeline: Timeline) -> str:
    suffix = f", written to {result['wav']}" if result["wav"] else ""
    return "\n".join(
        [
            "",
            f"  question    {result['question']}",
            f"  transcript  {escape(str(result['transcript']))}",
            f"  reply       {escape(str(result['reply']))}",
            f"  spoken by   {result['service']}{suffix}",
            "",
            "seconds after the end of speech:",
            *timeline.lines(),
        ]
    )
