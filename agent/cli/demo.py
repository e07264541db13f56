"""``voice-agent demo``: one whole turn on the local server, with a timeline."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from agent.audio.devices.device import open_sink
from agent.audio.format import Format
from agent.cli.say import record
from agent.cli.wav_output import check_writable
from agent.daemon.daemon import Daemon
from agent.daemon.local_server import LocalServer
from agent.errors import AgentError, AudioError, DeviceError, ServiceError
from agent.pipeline.conversation import Record
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
from agent.services.registry import redirected
from agent.settings.model import Config
from agent.system.systemd import Service
from agent.system.text import escape
from agent.system.threads import Deadline

BAR = 40
NAMES = ("end of speech", "final transcript", "first reply text", "first audio", "last audio")


@dataclass
class Timeline:
    """The five moments of a turn, in seconds after the end of speech; a moment that has not come is missing.

    ``see`` is shown every event as it comes.
    """

    moments: dict[str, float] = field(default_factory=dict)
    _zero: float | None = None

    def see(self, event: Event | Record) -> None:
        match event:
            case SpeechEnded(ago_seconds):
                self._zero = time.monotonic() - ago_seconds
                self.moments = {NAMES[0]: 0.0}
            case Heard(text) if text:
                self._mark(NAMES[1])
            case Reply():
                self._mark(NAMES[2])
            case PlaybackStarted():
                self._mark(NAMES[3])
            case UtterancePlayed():
                self._mark(NAMES[4])

    def lines(self) -> list[str]:
        """A line for each moment, its bar drawn to scale."""
        longest = max(self.moments.values(), default=0.0) or 1.0
        return [
            f"{name:>16}  {seconds:6.2f} s  {'▇' * max(1, round(seconds / longest * BAR)) if seconds else '|'}"
            for name, seconds in self.moments.items()
        ]

    def _mark(self, name: str) -> None:
        if self._zero is not None:
            self.moments.setdefault(name, round(time.monotonic() - self._zero, 3))


QUESTION = "Excuse me, could you please tell me what time it is?"
REPLY_FILE = "demo-reply.wav"
TURN_SECONDS = 90.0
START_SECONDS = 60.0
_SIGNALS = ("SIGINT", "SIGTERM")


def demo(
    config: Config, *, service: str, question: str = QUESTION, output: str | None = None, as_json: bool = False
) -> int:
    """Asks ``question`` aloud and has it answered over the wire protocol of ``service``."""
    # Until the daemon has taken the signals, and after it gave them back: what was begun is put away all the same.
    before = {name: signal.signal(signal.Signals[name], _stop) for name in _SIGNALS}
    try:
        return _demo(config, service, question, output, as_json)
    except _Stopped as stopped:
        name = str(stopped)
        print(f"voice-agent: stopped by {name}, before the end of the turn", file=sys.stderr)
        return 128 + signal.Signals[name]
    finally:
        for name, handler in before.items():
            signal.signal(signal.Signals[name], handler)


def _demo(config: Config, service: str, question: str, output: str | None, as_json: bool) -> int:
    say: Callable[[str], None] = partial(print, file=sys.stderr if as_json else sys.stdout, flush=True)
    if output is not None:
        check_writable(output)
    server = LocalServer(replace(config.server, host="127.0.0.1", port=0))
    say("starting the local speech server")
    try:
        server.start()
        url = server.url(Deadline(START_SECONDS))
        say(f"recording the question with the local voice: {question!r}")
        with _recorded(config, server, question) as asked:
            speaker, wav = _speaker(config, output, say)
            turn = _Turn(config, server, _towards(config, service, url, asked, speaker), say)
            turn.run()
    finally:
        server.stop()
    return _tell(turn, service, question, wav, as_json, say)


class _Stopped(KeyboardInterrupt):
    """A signal, by its name, before the end of the turn."""


def _stop(number: int, frame: object) -> None:
    for name in _SIGNALS:
        signal.signal(signal.Signals[name], _leave)  # a second one leaves at once
    raise _Stopped(signal.Signals(number).name)


def _leave(number: int, frame: object) -> None:
    os._exit(128 + number)


@contextlib.contextmanager
def _recorded(config: Config, server: LocalServer, question: str) -> Iterator[str]:
    """The question, spoken by the local voice, as the path of a file that is on no disk: nothing is left of it, however
    this process ends."""
    local = replace(config, synthesis=replace(config.synthesis, services=("local",)))
    wav, stopped_by = record(local, server, question)
    if stopped_by:
        raise _Stopped(stopped_by)
    with os.fdopen(os.memfd_create("question"), "wb", buffering=0) as file:
        file.write(wav)
        yield f"/proc/self/fd/{file.fileno()}"


def _speaker(config: Config, output: str | None, say: Callable[[str], None]) -> tuple[str, str | None]:
    """The speaker that is used, and the WAV file if it is one: where there is no sound card, the reply is recorded."""
    if output is not None:
        return f"file:{output}", output
    device = config.speaker.device
    try:
        open_sink(device, Format(22050), config.speaker.period_seconds, config.speaker.buffer_seconds).close()
    except (DeviceError, AudioError) as error:
        say(f"no sound card to play on ({error}): the reply is written to {REPLY_FILE}")
        try:
            check_writable(REPLY_FILE)
        except AudioError as reason:
            raise AudioError(f"{reason}, with --output F.wav") from reason
        return f"file:{REPLY_FILE}", REPLY_FILE
    return device, device.removeprefix("file:") if device.startswith("file:") else None


def _towards(config: Config, service: str, url: str, question: str, speaker: str) -> Config:
    """The configuration for one turn: the question as the microphone, all services at the local server's ``url``."""
    synthesis = replace(
        config.synthesis,
        services=(service,),
        **{service: replace(getattr(config.synthesis, service), **redirected(service, url))},
    )
    return replace(
        config,
        microphone=replace(config.microphone, device=f"file:{question}"),
        speaker=replace(config.speaker, device=speaker),
        conversation=replace(config.conversation, mode="assistant"),
        transcription=replace(config.transcription, url=f"{url}/", export_url=None),
        synthesis=synthesis,
    )


@dataclass
class _Turn:
    """One turn of a whole daemon, watched."""

    config: Config
    server: LocalServer
    aim: Config
    say: Callable[[str], None]
    timeline: Timeline = field(default_factory=Timeline)
    transcript: str = ""
    reply: list[str] = field(default_factory=list)
    failure: AgentError | None = None
    ended: bool = False
    stopped_by: str = ""

    def run(self) -> None:
        self.say("asking it, and listening to ourselves")
        self._daemon = Daemon(self.aim, Service({}), watch=self._see, local=self.server)
        patience = threading.Timer(TURN_SECONDS, self._daemon.inbox.put, [Stop(f"no answer within {TURN_SECONDS:g} s")])
        patience.start()
        try:
            self._daemon.run()
        finally:
            patience.cancel()
        if self.stopped_by:
            raise _Stopped(self.stopped_by)
        if self.failure is not None:
            raise self.failure
        if not self.ended:
            raise ServiceError("demo", f"the turn did not end within {TURN_SECONDS:g} s")

    def _see(self, event: Event | Record) -> None:
        self.timeline.see(event)
        match event:
            case Partial(text):
                self.say(f"  partial: {escape(text)}")
            case Heard(text):
                self.transcript = text
                if text:
                    self.say(f"  heard:   {escape(text)}")
                else:
                    self._fail(ServiceError("transcription", "the question was not understood"))
            case Stop(by) if by in _SIGNALS and not self.ended and self.failure is None:
                self.stopped_by = by
            case Reply(text=text):
                self.reply.append(text)
                self.say(f"  reply:   {escape(text)}")
            case ServiceDown(service, reason):
                self._fail(ServiceError(service, reason.removeprefix(f"{service}: ")))
            case Record(state=state, reason=why):
                self.ended = True
                if state == "played":
                    self._daemon.inbox.put(Stop("the end of the demonstration"))
                else:
                    self._fail(ServiceError("synthesis", f"the reply was {state}: {why}"))

    def _fail(self, error: AgentError) -> None:
        self.failure = self.failure or error
        self._daemon.inbox.put(Stop("a failure"))


def _tell(turn: _Turn, service: str, question: str, wav: str | None, as_json: bool, say: Callable[[str], None]) -> int:
    reply = " ".join(turn.reply)
    if as_json:
        facts = {
            "service": service,
            "question": question,
            "transcript": turn.transcript,
            "reply": reply,
            "wav": wav,
            "timeline": {name.replace(" ", "_"): seconds for name, seconds in turn.timeline.moments.items()},
        }
        print(json.dumps(facts, ensure_ascii=False), flush=True)
        return 0
    say("")
    say(f"  question    {question}")
    say(f"  transcript  {escape(turn.transcript)}")
    say(f"  reply       {escape(reply)}")
    say(f"  spoken by   {service}" + (f", written to {wav}" if wav else ""))
    say("")
    say("seconds after the end of speech:")
    for line in turn.timeline.lines():
        say(line)
    return 0
