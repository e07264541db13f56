"""Announces once for each outage that no speech service can speak."""

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
from agent.system.threads import Deadline

if TYPE_CHECKING:
    from agent.pipeline.tts.phrase_file import PhraseKey

log = logging.getLogger(__name__)

PREPARE_SECONDS = 5.0
"""Delay after the start, so that the preparation does not slow down the first connections and the first words."""
RECOVERY_SECONDS = 60.0
"""An outage also ends if a service has been available for this time before its next failure.

With a shorter time the sentence would be repeated while a service accepts connections but sends no audio.
"""
TTL_SECONDS = 30.0
PRIORITY = 100
END_SECONDS = 2.0
"""Longest wait in ``close`` for the preparation in progress."""

Render = Callable[[str], tuple[Format, bytes]]
"""Returns the audio of a sentence as s16le, from an engine on this machine. Raises ``AgentError`` or ``OSError``."""


class OutageNotice:
    """Prepares the audio of the sentence in advance, and creates the utterance that announces an outage.

    Not thread-safe; owned by the main thread. ``audio`` and ``prepare`` are thread-safe.

    Args:
        config: Returns the configuration in effect.
        directory: Contains the file of the prepared sentence.
        render: Synthesizes the sentence; called in a background thread.
        prepare_seconds: Delay before ``render`` is called.
    """

    def __init__(
        self, config: Callable[[], Config], directory: Path, render: Render, *, prepare_seconds: float = PREPARE_SECONDS
    ) -> None:
        self._config, self._directory, self._render = config, directory, render
        self._prepare_seconds = prepare_seconds
        self._timer: threading.Timer | None = None
        self._preparing = threading.Lock()  # a preparation waits for the end of an earlier one
        self._is_reported = False
        self._available_at: float | None = None  # when a service became available again
        self._count = 0

    @property
    def text(self) -> str:
        """The configured sentence, or the default sentence of the configured language."""
        from agent.pipeline.tts.notice import SENTENCES  # imported late: not needed before the preparation

        synthesis = self._config().synthesis
        return synthesis.unavailable_text or SENTENCES.get(synthesis.language, SENTENCES["en"])

    def start(self) -> None:
        """Prepare the sentence in the background, if its file does not exist. Restarts a pending preparation.

        Does not wait for a preparation in progress.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._path.exists():
            self._timer = threading.Timer(self._prepare_seconds, self.prepare)
            self._timer.name, self._timer.daemon = "notice", True
            try:
                self._timer.start()
            except RuntimeError as error:  # the system cannot create more threads
                log.warning("notice: the sentence cannot be prepared, %s", error)
                self._timer = None

    def prepare(self) -> None:
        """Write the audio of the sentence to its file, and delete the files of other sentences."""
        from agent.pipeline.tts.phrase_file import Phrase, encode
        from agent.system.files import AtomicFile

        with self._preparing:
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
        """Record an event. Once for each outage, return the utterance with the sentence.

        Args:
            event: Any event.
            run: Prefix of the id of the utterance; unique to this process.
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
        """Return the format and the audio of the utterance (s16le). Called by the synthesizer thread."""
        from agent.pipeline.tts.notice import notice_audio

        return notice_audio(self._path, self._key(self.text))

    def close(self) -> None:
        """Cancel the preparation, or wait up to ``END_SECONDS`` for its end. Idempotent."""
        deadline = Deadline(END_SECONDS)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        # The preparation in progress may be that of an earlier timer, for which the one of this timer waits.
        if self._preparing.acquire(timeout=END_SECONDS):
            self._preparing.release()
        if timer is not None:
            timer.join(deadline.remaining())

    @property
    def _path(self) -> Path:
        """The file of the sentence. Its name depends on the settings that determine the sentence and its audio."""
        import zlib  # the file is read after READY

        config = self._config()
        voice = (config.synthesis.settings("local").voice, config.server.speech)
        settings = repr((config.synthesis.unavailable_text, config.synthesis.language, voice))
        return self._directory / f"notice-{zlib.crc32(settings.encode()):08x}.phrase"

    def _key(self, text: str) -> PhraseKey:
        from agent.pipeline.tts.phrase_file import PhraseKey

        return PhraseKey(NOTICE, "", text)
