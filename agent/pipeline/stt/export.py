"""What the transcription service keeps of a session, fetched over REST and written next to the transcript."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.errors import AgentError, ServiceError
from agent.pipeline.events import Heard
from agent.services.connection.http import CancellableSession
from agent.services.settings import TranscriptionSettings
from agent.system.files import AtomicFile
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MAX_AUDIO_BYTES = 512 * 1024 * 1024
TIMEOUT_SECONDS = 30.0
LONGEST_SECONDS = 1800.0
"""What takes longer to come, a little at a time, keeps its place for nothing."""

AT_ONCE = 4
_ID = re.compile(r"[0-9A-Za-z-]{1,64}\Z")


@dataclass(frozen=True, slots=True)
class Fetched:
    """The files that were written, and the kinds of which the service has kept nothing (HTTP 404)."""

    paths: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """What there is to tell a user."""
        found = [f"export: {path}" for path in self.paths]
        return found + [f"export: the service has kept no {' and no '.join(self.missing)}"] * bool(self.missing)


class Exporter:
    """Fetches the export of every session that is heard, each in a short-lived thread, and says in the log what came of
    it. At most ``AT_ONCE`` at once: what comes beyond that is not fetched. ``watch`` never waits. ``settings`` gives
    those in force, which a reload changes; ``directory`` is for what they name no other for."""

    def __init__(self, settings: Callable[[], TranscriptionSettings], directory: Path) -> None:
        self._settings, self._directory = settings, directory
        self._threads: list[threading.Thread] = []

    def watch(self, event: object) -> None:
        """Takes any event; called from one thread."""
        if not isinstance(event, Heard) or not event.export_id:
            return
        settings = self._settings()
        if settings.export_url is None:
            return
        self._threads = [each for each in self._threads if each.is_alive()]
        if len(self._threads) >= AT_ONCE:
            log.warning("an export was not fetched: %d are being fetched already", AT_ONCE)
            return
        thread = threading.Thread(target=self._fetch, args=(settings, event.export_id), name="export", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives us no more threads
            log.warning("an export was not fetched: %s", error)
        else:
            self._threads.append(thread)

    def close(self, deadline: Deadline) -> None:
        """Waits until everything is fetched, but no longer than that; what is not there by then is left out."""
        for thread in self._threads:
            thread.join(deadline.remaining())

    def _fetch(self, settings: TranscriptionSettings, export_id: str) -> None:
        directory = Path(settings.export_directory or self._directory)
        try:
            for line in fetch_export(settings, export_id, directory).lines():
                log.info("%s", escape(line, 500))
        except (AgentError, OSError) as error:
            log.warning("%s", escape(str(error), 500))


def fetch_export(settings: TranscriptionSettings, export_id: str, directory: Path) -> Fetched:
    """Writes ``ID.json`` (the transcript) and ``ID.wav`` (the sound) into ``directory``.

    A file is there whole or not at all, also after a power cut. Raises ``ServiceError`` where the service does not give
    what it has; that it has kept nothing of a session is no failure.
    """
    if settings.export_url is None:
        return Fetched()
    if not _ID.match(export_id):
        raise ServiceError("transcription", "the export was not fetched: its ID is no ID")
    base = settings.export_url.rstrip("/")
    key = settings.api_key.reveal()
    # The server of the document's date wants the first of the two headers, today's the second.
    headers = {"key": key, "Authorization": key} if key else {}
    directory.mkdir(parents=True, exist_ok=True)
    paths, missing = [], []
    for kind, ending in (("transcript", ".json"), ("audio", ".wav")):
        path = directory / f"{export_id}{ending}"
        if _fetch(f"{base}/export/{kind}/{export_id}", headers, path):
            paths.append(path)
        else:
            missing.append(kind)
    return Fetched(tuple(paths), tuple(missing))


def _fetch(url: str, headers: dict[str, str], path: Path) -> bool:
    """Whether there was anything to fetch."""
    import requests  # only who wants exports pays for it

    line = CancellableSession()
    try:
        line.cancel_after(LONGEST_SECONDS)
        with line.session() as session:
            session.headers.update(headers)
            with session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True) as answer:
                status = answer.status_code
                if status == 404:
                    return False
                if status != 200:
                    raise ServiceError("transcription", f"the export was answered with HTTP {status}", status=status)
                size = 0
                with AtomicFile(path) as draft:
                    for chunk in answer.iter_content(65536):
                        size += len(chunk)
                        if size > MAX_AUDIO_BYTES:
                            raise ServiceError("transcription", "the export is larger than 512 MiB and was not kept")
                        draft.file.write(chunk)
                    if line.is_cancelled:  # what ends with the connection looks whole
                        raise _too_long()
                    if answer.raw.length_remaining:  # urllib3 1.26, as in Debian 12, does not mind
                        raise ServiceError("transcription", "the export broke off before its end and was not kept")
                    draft.commit(durable=True)
    except requests.RequestException as error:
        if line.is_cancelled:
            raise _too_long() from error
        raise ServiceError("transcription", f"the export could not be fetched ({type(error).__name__})") from error
    except OSError as error:
        raise ServiceError("transcription", f"the export could not be written to {path}: {error.strerror}") from error
    except RuntimeError as error:  # the system gives us no more threads
        raise ServiceError("transcription", f"the export was not fetched: {error}") from error
    finally:
        line.close()
    return True


def _too_long() -> ServiceError:
    return ServiceError("transcription", f"the export took longer than {LONGEST_SECONDS:g} s and was not kept")
