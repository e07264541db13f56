"""``voice-agent say``: one utterance, from the command line or from stdin as it comes."""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType

from agent.assembly import make_speaker, make_synthesizer
from agent.audio.ring import RingBuffer
from agent.commands.recording import Recording
from agent.commands.run import require_keys
from agent.commands.servers import local_server
from agent.commands.text_reader import TextReader
from agent.config.model import Config
from agent.errors import AgentError, ServiceError, UsageError
from agent.events import Cancelled, DeviceLost, Died, Event, Spoken, Stop, Unspoken, Utterance
from agent.local_server import LocalServer
from agent.speaker import Speaker
from agent.supervisor import Supervisor
from agent.threads import Deadline

LONGEST_TEXT = 100_000
"""Characters: two hours of speech. More is a mistake, and is said to be one before anything is spoken."""

UTTERANCE = "say"


def say(config: Config, words: list[str], *, service: str | None = None, output: str | None = None) -> int:
    """Speaks ``words``, or stdin where they are ``-``; into the WAV file ``output`` where one is named."""
    if service is not None:
        config = replace(config, synthesis=replace(config.synthesis, services=(service,)))
    require_keys(config)
    text = None if words == ["-"] else checked(" ".join(words))
    with local_server(config) as local:
        return _Saying(config, local, output).run(text)


def checked(text: str) -> str:
    """The text, if it can be spoken. Raises ``UsageError``."""
    if not text.strip():
        raise UsageError("there is nothing to say: the text is empty or only white space; give some words")
    if len(text) > LONGEST_TEXT:
        raise UsageError(
            f"the text has {len(text)} characters and at most {LONGEST_TEXT} are spoken at once: say it in parts"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # Bytes of the command line that are no UTF-8 arrive as lone surrogates.
        raise UsageError(f"the text is not UTF-8 at character {error.start + 1}: convert it first") from error
    return text


class _Saying:
    """One utterance through synthesizer, ring and speaker; the main thread waits for how it ends."""

    def __init__(self, config: Config, local: LocalServer | None, output: str | None) -> None:
        self._config = config
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._recording: Recording | None = None
        ring = RingBuffer(16 * 1024 * 1024)
        self._synthesizer = make_synthesizer(config, ring, self._inbox.put, local)
        if output is None:
            self._speaker = make_speaker(config, ring, self._inbox.put)
        else:
            self._recording = recording = Recording(output)
            self._speaker = Speaker(ring, recording.open, self._inbox.put, prebuffer_seconds=0.0)
        self._reader: TextReader | None = None

    def run(self, text: str | None) -> int:
        signals = _Signals(self._inbox.put)
        supervisor = Supervisor([self._synthesizer, self._speaker])
        supervisor.start()
        error: AgentError | None = None
        try:
            if text is None:
                self._reader = TextReader(self._synthesizer, UTTERANCE, LONGEST_TEXT, self._inbox.put)
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
                self._recording.end(whole=error is None)
        if stuck:
            os._exit(AgentError.exit_code)
        if error is not None:
            raise error
        return 0

    def _wait(self) -> AgentError | None:
        """How it ended: ``None`` where it was said, or hushed by the user."""
        while True:
            event = self._inbox.get()
            match event:
                case Spoken():
                    if self._reader is not None and self._reader.error is not None:
                        return self._reader.error
                    silent = self._recording is not None and self._recording.empty
                    return ServiceError("speech", "no sound came for this text") if silent else None
                case Unspoken(reason=reason):
                    return ServiceError("speech", reason)
                case Cancelled():
                    return None
                case Stop(by):
                    self._synthesizer.hush(by)
                    if self._reader is not None and not self._reader.begun:
                        return None
                case Died(worker, cause):
                    return AgentError(f"the {worker} died: {cause!r}")
                case DeviceLost(reason=reason):
                    return AgentError(reason)


class _Signals:
    """Ctrl-C, SIGTERM and SIGUSR1 hush; a second of the first two leaves at once."""

    def __init__(self, report: Callable[[Event], None]) -> None:
        self._count = 0
        self._report = report
        self._before = {
            number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        }

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1 and number != signal.SIGUSR1:
            os._exit(128 + number)
        self._report(Stop(signal.Signals(number).name))

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def record(config: Config, local: LocalServer, text: str, path: Path) -> None:
    """Speaks ``text`` into the WAV file ``path``; for other commands."""
    _Saying(config, local, str(path)).run(text)
