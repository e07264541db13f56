"""Reports once for each outage, by voice, that no speech service can speak."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from agent.audio.format import Format
from agent.errors import AgentError
from agent.pipeline.events import AudioArrived, Event, ServiceUp, UtteranceFailed
from agent.pipeline.utterance import NOTICE, Delivery, Utterance
from agent.settings.model import Config

if TYPE_CHECKING:
    from agent.pipeline.tts.phrase_file import PhraseKey

log = logging.getLogger(__name__)

PREPARE_SECONDS = 5.0
"""Delay after the start, so that the preparation does not compete with the first connections and the first words."""
RECOVERY_SECONDS = 60.0
"""A service that was available for this time without a request ends an outage. A shorter time would repeat the sentence
while a service accepts connections and speaks nothing."""
TTL_SECONDS = 30.0
PRIORITY = 100
END_SECONDS = 2.0
"""Longest wait at the end for the sentence that is being prepared."""

Render = Callable[[str], tuple[Format, bytes]]
"""Returns a sentence as s16le, spoken by an engine of this machine. Raises ``AgentError`` or ``OSError``."""


class OutageNotice:
    """Prepares the audio of the sentence in advance, and creates the utterance for an outage.

    Not thread-safe; owned by the main thread. ``audio`` and ``prepare`` are thread-safe.

    Args:
        config: Returns the configuration in effect.
        directory: Holds the file of the prepared sentence.
        render: Speaks the sentence; called in a thread of its own.
        prepare_seconds: The delay of that thread.
    """

    def __init__(
        self, config: Callable[[], Config], directory: Path, render: Render, *, prepare_seconds: float = PREPARE_SECONDS
    ) -> None:
        self._config, self._directory, self._render = config, directory, render
        self._prepare_seconds = prepare_seconds
        self._timer: threading.Timer | None = None
        self._is_reported = False
        self._available_at: float | None = None  # when a service became available again
        self._count = 0

    @property
    def text(self) -> str:
        """The sentence in the configured language."""
        from agent.pipeline.tts.notice import SENTENCES  # not before an outage

        synthesis = self._config().synthesis
        return synthesis.unavailable_text or SENTENCES.get(synthesis.language, SENTENCES["en"])

    def start(self) -> None:
        """Prepare the sentence in the background, if it is not prepared yet."""
        self.close()
        if not self._path.exists():
            self._timer = threading.Timer(self._prepare_seconds, self.prepare)
            self._timer.name, self._timer.daemon = "notice", True
            try:
                self._timer.start()
            except RuntimeError as error:  # the system cannot create more threads
                log.warning("notice: the sentence cannot be prepared, %s", error)
                self._timer = None

    def prepare(self) -> None:
        """Speak the sentence into the file."""
        from agent.pipeline.tts.phrase_file import Phrase, encode
        from agent.system.files import AtomicFile

        text, path = self.text, self._path
        try:
            format, pcm = self._render(text)
            self._directory.mkdir(parents=True, exist_ok=True)
            for old in self._directory.glob("notice-*.phrase"):
                old.unlink(missing_ok=True)
            with AtomicFile(path) as file:
                file.file.write(encode(Phrase(self._key(text), "", format, pcm)))
                file.commit(durable=True)
        except (OSError, AgentError) as error:
            log.warning("notice: no sentence for an outage, only a tone, %s", error)

    def update(self, event: Event, run: str) -> Utterance | None:
        """Note an event. Once for each outage, return the utterance with the sentence.

        Args:
            event: Any event.
            run: The beginning of the ID, unique to this process.
        """
        match event:
            case AudioArrived(is_phrase=False):
                self._is_reported, self._available_at = False, None
            case ServiceUp():
                self._available_at = time.monotonic()
            case UtteranceFailed(no_service=True):
                if self._available_at is not None and time.monotonic() - self._available_at >= RECOVERY_SECONDS:
                    self._is_reported = False
                self._available_at = None
                if not self._is_reported:
                    self._is_reported = True
                    self._count += 1
                    delivery = Delivery(ttl_seconds=TTL_SECONDS, keep=False)
                    name = f"{run}-{NOTICE}-{self._count}"
                    return Utterance(name, self.text, priority=PRIORITY, source=NOTICE, delivery=delivery)
        return None

    def audio(self) -> tuple[Format, bytes]:
        """Return the sound of the utterance as s16le; for the synthesizer thread."""
        from agent.pipeline.tts.notice import notice_audio

        return notice_audio(self._path, self._key(self.text))

    def close(self) -> None:
        """End the preparation. Idempotent."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            timer.join(END_SECONDS)

    @property
    def _path(self) -> Path:
        """The file; its name changes with each setting that changes the sentence or its sound."""
        import zlib  # the file is read after READY

        config = self._config()
        voice = (config.synthesis.settings("local").voice, config.server.speech)
        settings = repr((config.synthesis.unavailable_text, config.synthesis.language, voice))
        return self._directory / f"notice-{zlib.crc32(settings.encode()):08x}.phrase"

    def _key(self, text: str) -> PhraseKey:
        from agent.pipeline.tts.phrase_file import PhraseKey

        return PhraseKey(NOTICE, "", text)
