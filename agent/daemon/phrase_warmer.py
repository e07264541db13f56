"""Synthesizes texts without playback, so that their audio is kept as phrases."""

from __future__ import annotations

import queue
from types import TracebackType
from typing import TYPE_CHECKING

from agent.daemon.connection_builder import CLOSE_TIMING
from agent.daemon.speech_builder import make_services, phrase_cache
from agent.daemon.supervisor import Supervisor
from agent.errors import AgentError, ServiceError
from agent.pipeline.events import Event, UtteranceCancelled, UtteranceFailed, UtterancePlayed, WorkerCrashed
from agent.pipeline.playback.audio_writer import AudioWriter
from agent.pipeline.playback.ring_buffer import RingBuffer
from agent.pipeline.text.passages import split_passages
from agent.pipeline.tts.phrases import Phrases
from agent.pipeline.tts.synthesizer import SHUTDOWN, Synthesizer
from agent.pipeline.utterance import Utterance
from agent.settings.model import Config
from agent.system.named_tuple import NamedTuple
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.daemon.local_server import LocalServer

KEPT, PRESENT, FAILED = "kept", "present", "failed"
RING_BYTES = 1 << 20
WRITE_SECONDS = 30.0
"""Limit for writing one phrase to the disk."""


class Warmed(NamedTuple):
    """The result for one text. Immutable.

    ``state`` is ``kept`` (now), ``present`` (kept before) or ``failed`` (with a ``reason``).
    ``seconds`` is the length of the audio.
    """

    state: str
    seconds: float = 0.0
    reason: str = ""


class PhraseWarmer:
    """Context manager that synthesizes texts with one service, one after the other.

    Not thread-safe; owned by the thread that creates it.

    Args:
        config: The configuration; the first service whose speech is kept is used.
        local: The local server, as for ``build_pipeline``.
        service: The service to use instead.

    Raises:
        ServiceError: No configured service is one whose speech is kept.
        AgentError: From ``with``: the system cannot create more threads.
    """

    def __init__(self, config: Config, local: LocalServer | None, service: str | None = None) -> None:
        self.service = service or warmed_service(config)
        synthesis = config.synthesis._replace(services=(self.service,))
        self._config = config._replace(synthesis=synthesis)
        self._phrases = Phrases(phrase_cache(config))
        self._inbox: queue.SimpleQueue[Event] = queue.SimpleQueue()
        ring = RingBuffer(RING_BYTES)
        services = make_services(self._config, self._inbox.put, local)
        self._standby = services[0]
        self._synthesizer = Synthesizer(
            ring,
            services,
            self._inbox.put,
            first_audio_seconds=synthesis.first_audio_seconds,
            language=synthesis.text.language,
            phrases=lambda: self._phrases,
            close_timing=CLOSE_TIMING,
        )
        writer = AudioWriter(ring, lambda format: len, self._inbox.put)
        self._supervisor = Supervisor([self._synthesizer, writer])
        self._count = 0

    def warm(self, text: str) -> Warmed:
        """Synthesize a text and keep its audio, unless it is already a phrase.

        Raises:
            AgentError: A worker crashed.
        """
        passages = split_passages(text, self._config.synthesis.text.language)
        if (phrase := self._phrases.find(self._standby, passages)) is not None:
            return Warmed(PRESENT, phrase.seconds)
        self._count += 1
        self._synthesizer.begin(Utterance(f"warm-{self._count}", text, source="warm"))
        end = self._await_end()
        if not isinstance(end, UtterancePlayed):
            return Warmed(FAILED, reason=end.reason)
        self._phrases.close(Deadline(WRITE_SECONDS))
        if (phrase := self._phrases.find(self._standby, passages)) is None:
            return Warmed(FAILED, reason=f"it was spoken and not kept: {self._phrases.problem}")
        return Warmed(KEPT, phrase.seconds)

    def is_kept(self, text: str) -> bool:
        """Return whether the phrase of a text still exists: later phrases may have needed its space."""
        return self._phrases.has(self._standby, split_passages(text, self._config.synthesis.text.language))

    def abort(self) -> None:
        """Abort the text in progress, which then counts as failed, as do all later texts. Thread-safe."""
        self._synthesizer.abort()
        # A text that begins after the end of the synthesizer is dropped there, and no other event reports its end.
        self._inbox.put(UtteranceCancelled("", SHUTDOWN))

    def __enter__(self) -> PhraseWarmer:
        self._supervisor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self._synthesizer.abort()
        self._supervisor.stop(Deadline(self._config.shutdown_seconds))

    def _await_end(self) -> UtterancePlayed | UtteranceFailed | UtteranceCancelled:
        while True:
            match self._inbox.get():
                case UtterancePlayed() | UtteranceFailed() | UtteranceCancelled() as end:
                    return end
                case WorkerCrashed(worker, error):
                    raise AgentError(f"the {worker} thread crashed: {error!r}") from error


def warmed_service(config: Config) -> str:
    """Return the first service whose speech is kept. Raises ``ServiceError`` if there is none."""
    kept = config.synthesis.phrases.services
    for name in config.synthesis.services:
        if not kept or name in kept:
            return name
    raise ServiceError("phrases", "no service of synthesis.services is in synthesis.phrases.services. Add one there")
