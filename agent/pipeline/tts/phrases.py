"""Finds phrases for the synthesizer, decides which speech is kept, and writes it in a background thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from agent.audio.format import Format
from agent.errors import AgentError
from agent.pipeline.tts.phrase_cache import MAX_AUDIO_BYTES, PhraseCache
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey, normalize
from agent.pipeline.utterance import Utterance
from agent.services.connection.standby import Sound, Standby
from agent.system.threads import Deadline, start_thread

log = logging.getLogger(__name__)

MAX_WAITING = 4
"""Limit for the phrases that wait for the writer. Each takes up to ``MAX_AUDIO_BYTES`` of memory. Further phrases are
not kept."""

REPLY_SOURCE = "reply"


class Phrases:
    """Finds and keeps the speech of utterances. Thread-safe; a short-lived thread writes to the disk.

    Args:
        cache: The phrases on disk.
        services: The names of the services whose speech is kept; empty for all services.
        keeps_replies: Whether the speech of replies is kept too.
    """

    def __init__(self, cache: PhraseCache, services: Sequence[str] = (), *, keeps_replies: bool = False) -> None:
        self._cache, self._services, self._keeps_replies = cache, frozenset(services), keeps_replies
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._writer: threading.Thread | None = None
        self._problem = ""  # of the last write; only the first of consecutive failures is logged as a warning

    @property
    def problem(self) -> str:
        """The reason why the last phrase was not kept."""
        return self._problem or "the service did not mark its end, or the audio is too long"

    def find(self, standby: Standby, passages: Sequence[str]) -> Phrase | None:
        """Return the phrase of a service for a text, or ``None``. Reads the disk, and notes the use of the phrase."""
        if standby.sound is None:
            return None
        key = _key(standby.service, standby.sound, passages)
        phrase = self._cache.find(key)
        if phrase is not None:
            self._hand_over(lambda: self._cache.touch(key))
        return phrase

    def has(self, standby: Standby, passages: Sequence[str]) -> bool:
        """Return whether a service has a phrase for a text. Does not read the phrase."""
        return standby.sound is not None and self._cache.has(_key(standby.service, standby.sound, passages))

    def may_keep(self, utterance: Utterance, standby: Standby) -> bool:
        """Return whether the settings allow to keep the speech of a service for an utterance."""
        if standby.sound is None or not utterance.delivery.keep:
            return False
        if self._services and standby.service not in self._services:
            return False
        return self._keeps_replies or utterance.source != REPLY_SOURCE

    def keep(self, standby: Standby, passages: Sequence[str], recording: Recording) -> None:
        """Write a phrase in the background. Never waits for the disk."""
        if standby.sound is None or recording.format is None or not recording.pcm:
            return
        key = _key(standby.service, standby.sound, passages)
        phrase = Phrase(key, standby.sound.voice, recording.format, bytes(recording.pcm))
        self._hand_over(lambda: self._store(phrase))

    def close(self, deadline: Deadline) -> None:
        """Wait until the waiting phrases are written, at most until the deadline."""
        with self._lock:
            writer = self._writer
        if writer is not None:
            writer.join(deadline.remaining())

    def _hand_over(self, work: Callable[[], None]) -> None:
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                log.debug("phrase: not kept, the disk is too slow")
                return
            self._waiting.append(work)
            if self._writer is not None:
                return
            # A daemon thread, because a disk that does not respond must not prevent the exit of the process.
            self._writer = threading.Thread(target=self._write, name="phrase writer", daemon=True)
            try:
                start_thread(self._writer)
            except AgentError as error:
                log.warning("phrase: not kept, %s", error)
                self._writer = None
                self._waiting.clear()

    def _write(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._writer = None
                    return
                work = self._waiting.popleft()
            work()

    def _store(self, phrase: Phrase) -> None:
        try:
            is_stored = self._cache.store(phrase)
        except OSError as error:
            problem = f"the directory {self._cache.directory} cannot be written ({error.strerror or error})"
            log.log(logging.DEBUG if self._problem else logging.WARNING, "phrase: not kept, %s", problem)
            self._problem = problem
        else:
            self._problem = "" if is_stored else "the audio is too long for synthesis.phrases.megabytes"


class Recording:
    """Collects the audio of an utterance while it arrives. Not thread-safe; owned by the synthesizer thread.

    ``pcm`` (s16le in ``format``) becomes and stays empty if the audio is too long for a phrase or has no end mark.
    """

    def __init__(self, standby: Standby) -> None:
        self.standby = standby
        self.format: Format | None = None
        self.pcm = bytearray()
        self._is_dropped = False

    def append(self, format: Format, pcm: bytes) -> None:
        if self._is_dropped:
            return
        self.format = format
        self.pcm += pcm
        if len(self.pcm) > MAX_AUDIO_BYTES:
            self.drop()

    def drop(self) -> None:
        self._is_dropped = True
        self.pcm.clear()


def _key(service: str, sound: Sound, passages: Sequence[str]) -> PhraseKey:
    return PhraseKey(service, sound.settings, normalize(passages))
