"""Stores phrases in a directory that is limited in size and shared by several processes."""

from __future__ import annotations

import contextlib
import datetime
import errno
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.errors import UsageError
from agent.pipeline.tts.phrase_file import Phrase, PhraseKey, decode, encode, normalize
from agent.system.distinct import distinct
from agent.system.files import AtomicFile
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

log = logging.getLogger(__name__)

SUFFIX = ".phrase"
DIRECTORY_NAME = "phrases"
MAX_AUDIO_BYTES = 4 * 1024 * 1024
"""Longest phrase: 95 s at 22050 Hz, mono. A longer phrase is not kept, because to read it takes more than a few
milliseconds."""

BLOCK_BYTES = 4096
"""A file occupies whole blocks of the file system."""

MAX_FILE_BYTES = MAX_AUDIO_BYTES + 1024 * 1024
MIN_ID_CHARACTERS = 6
"""Shortest beginning of an ID that names a phrase."""
LEFTOVER_SECONDS = 600.0
"""Age after which a temporary file is deleted: the process that wrote it was killed."""
UNREADABLE = "cannot be read"
"""The beginning of ``CacheEntry.problem`` for a file that cannot be read and may be undamaged."""


@distinct
class CacheEntry(NamedTuple):
    """One file of the directory. Immutable.

    ``used_at`` is the time of the last use (seconds since 1970), ``size`` the occupied bytes on the disk. The other
    attributes are set only if the file was read: ``key``, ``voice`` and ``seconds``, or the ``problem`` of a file that
    is damaged or not readable.
    """

    path: Path
    used_at: float
    size: int
    key: PhraseKey | None = None
    voice: str = ""
    seconds: float = 0.0
    problem: str = ""

    @property
    def id(self) -> str:
        """The file name without the suffix."""
        return self.path.stem

    def as_json(self, *, texts: bool = True) -> dict[str, object]:
        """Return the entry as a JSON object. ``texts``: whether to include the text."""
        used = datetime.datetime.fromtimestamp(self.used_at, datetime.UTC).isoformat(timespec="seconds")
        known: dict[str, object] = {"id": self.id, "bytes": self.size, "used": used, "problem": self.problem or None}
        if self.key is not None:
            known |= {"service": self.key.service, "voice": self.voice, "seconds": round(self.seconds, 3)}
            known |= {"text": self.key.text if texts else ""}
        return known


class PhraseCache:
    """The phrases in a directory. Thread-safe; several processes may use the directory at the same time.

    A file gets its name when it is complete, so that no incomplete phrase is read. The directory needs no lock: a file
    that another process deletes meanwhile counts as missing.

    Args:
        directory: The directory; created when the first phrase is stored.
        capacity_bytes: The limit for all files together. The least recently used files are deleted first.
    """

    def __init__(self, directory: Path, capacity_bytes: int) -> None:
        self.directory, self.capacity_bytes = directory, capacity_bytes

    def find(self, key: PhraseKey) -> Phrase | None:
        """Return a phrase, or ``None``. Deletes a damaged file. An error of the disk causes a warning, no exception."""
        path = self.directory / key.name
        try:
            phrase = decode(_read(path))
            if phrase.key != key:
                raise ValueError("it holds another text")
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("phrase: cannot be read, %s", error)
            return None
        except ValueError as error:
            log.warning("phrase: deleted, %s, file=%s", error, path)
            self._delete(path)
            return None
        return phrase

    def has(self, key: PhraseKey) -> bool:
        """Return whether the file of a phrase exists. Does not read it."""
        return (self.directory / key.name).exists()

    def touch(self, key: PhraseKey) -> None:
        """Set the time of the last use of a phrase to now."""
        with contextlib.suppress(OSError):  # deleted meanwhile, or a read-only disk
            os.utime(self.directory / key.name)

    def store(self, phrase: Phrase) -> bool:
        """Write a phrase and wait until it is on the disk; return ``False`` if it is too long.

        Raises:
            OSError: The phrase cannot be written.
        """
        data = encode(phrase)
        size = _occupied(len(data))
        if len(phrase.pcm) > MAX_AUDIO_BYTES or size > self.capacity_bytes:
            return False
        self._make_directory()
        self._make_room(size)
        owner = self.directory.stat()
        with AtomicFile(self.directory / phrase.key.name) as file:
            os.fchmod(file.file.fileno(), stat.S_IRUSR | stat.S_IWUSR)
            if os.geteuid() == 0:  # a command run by root: the user of the daemon must be able to read the file
                os.fchown(file.file.fileno(), owner.st_uid, owner.st_gid)
            file.file.write(data)
            file.commit(durable=True)
        self._make_room(0)  # another process may have stored a phrase at the same time
        return True

    def entries(self, *, checks: bool = False) -> Iterator[CacheEntry]:
        """Yield the phrases, the most recently used one first.

        Args:
            checks: Whether to read each file and set its properties or its problem.
        """
        for entry in sorted(self._scan(), key=lambda entry: -entry.used_at):
            try:
                yield _checked(entry) if checks else entry
            except FileNotFoundError:
                continue
            except OSError as error:
                yield entry._replace(problem=f"{UNREADABLE}: {error.strerror}")

    def remove(self, *entries: CacheEntry) -> None:
        """Delete phrases. Raises ``OSError``."""
        for entry in entries:
            entry.path.unlink(missing_ok=True)

    def matching(self, words: Sequence[str]) -> list[CacheEntry]:
        """Return the phrases that ``words`` name. A word is the whole text of a phrase, or the beginning of its ID.

        Raises:
            UsageError: A word names no phrase.
        """
        entries = list(self.entries(checks=True))
        chosen: list[CacheEntry] = []
        for word in words:
            found = [entry for entry in entries if _is_meant(entry, word)]
            if not found:
                raise UsageError(f"there is no phrase {escape(word, 100)!r}. voice-agent phrases list shows all")
            chosen += found
        return chosen

    def verify(self) -> tuple[int, list[CacheEntry]]:
        """Read all phrases and delete the damaged ones; return the number of all phrases, and the damaged ones.

        Raises:
            OSError: A phrase cannot be read for a reason other than damage, or cannot be deleted.
        """
        entries = []
        for entry in self._scan():
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                entries.append(_checked(entry))
        damaged = [entry for entry in entries if entry.problem]
        self.remove(*damaged)
        return len(entries), damaged

    def _make_directory(self) -> None:
        if self.directory.is_dir():
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            owner = self.directory.parent.stat()
            os.chown(self.directory, owner.st_uid, owner.st_gid)

    def _make_room(self, size: int) -> None:
        """Delete the least recently used phrases until ``size`` more bytes fit."""
        entries = sorted(self._scan(), key=lambda entry: entry.used_at)
        excess = sum(entry.size for entry in entries) + size - self.capacity_bytes
        for entry in entries:
            if excess <= 0:
                return
            self._delete(entry.path)
            excess -= entry.size

    def _scan(self) -> list[CacheEntry]:
        """Return all phrases, and delete the temporary files of killed processes."""
        entries = []
        try:
            with os.scandir(self.directory) as files:
                for file in files:
                    try:
                        status = file.stat(follow_symlinks=False)
                    except OSError:
                        continue  # deleted meanwhile
                    path = self.directory / file.name
                    if file.name.endswith(SUFFIX) and stat.S_ISREG(status.st_mode):
                        entries.append(CacheEntry(path, status.st_mtime, _occupied(status.st_size)))
                    elif file.name.endswith(".part") and time.time() - status.st_mtime > LEFTOVER_SECONDS:
                        self._delete(path)
        except FileNotFoundError:
            return []
        return entries

    def _delete(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # deleted meanwhile, or a read-only disk
            path.unlink()


def _checked(entry: CacheEntry) -> CacheEntry:
    """Read a phrase; return the entry with its properties or its problem. Raises ``OSError`` if it may be undamaged."""
    try:
        phrase = decode(_read(entry.path))
        if phrase.key.name != entry.path.name:
            raise ValueError("it has the name of another phrase")
    except ValueError as error:
        return entry._replace(problem=str(error))
    except OSError as error:
        if error.errno != errno.EIO:  # EIO: a damaged block of the disk
            raise
        return entry._replace(problem=str(error.strerror))
    return entry._replace(key=phrase.key, voice=phrase.voice, seconds=phrase.seconds)


def _is_meant(entry: CacheEntry, word: str) -> bool:
    if len(word) >= MIN_ID_CHARACTERS and entry.id.startswith(word):
        return True
    return entry.key is not None and entry.key.text.split() == normalize([word]).split()


def _read(path: Path) -> bytes:
    with path.open("rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
        return file.read(MAX_FILE_BYTES)


def _occupied(size: int) -> int:
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
