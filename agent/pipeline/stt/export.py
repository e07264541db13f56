"""Downloads the transcript and the recording of a session from the transcription service."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path

from agent.errors import AgentError, ServiceError
from agent.pipeline.events import Heard
from agent.services.settings import TranscriptionSettings
from agent.system.files import AtomicFile
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Deadline

log = logging.getLogger(__name__)

MAX_EXPORT_BYTES = 512 * 1024 * 1024
IO_TIMEOUT_SECONDS = 30.0
MAX_DOWNLOAD_SECONDS = 1800.0
"""A slower download is cancelled: it occupies one of ``MAX_DOWNLOADS`` slots."""

MAX_DOWNLOADS = 4
_ID = r"[0-9A-Za-z-]{1,64}\Z"


class ExportResult(NamedTuple):
    """The files that were written, and the kinds of files that the service does not keep (HTTP 404). Immutable."""

    paths: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the lines for the user."""
        lines = [f"export: {path}" for path in self.paths]
        if self.missing:
            lines.append(f"export: the service has kept no {' and no '.join(self.missing)}")
        return lines


class Exporter:
    """Downloads the export of every transcribed session, each in its own thread, and logs the result.

    At most ``MAX_DOWNLOADS`` run at a time; further exports are skipped with a warning.
    Not thread-safe; owned by the main thread. ``settings`` is called in that thread.

    Args:
        settings: returns the current settings, which a reload may change.
        directory: receives the files, unless the settings name another directory.
    """

    def __init__(self, settings: Callable[[], TranscriptionSettings], directory: Path) -> None:
        self._settings, self._directory = settings, directory
        self._threads: list[threading.Thread] = []

    def handle_event(self, event: object) -> None:
        """Start a download if the event is a transcript with an export; never blocks."""
        if not isinstance(event, Heard) or not event.export_id:
            return
        settings = self._settings()
        if settings.export_url is None:
            return
        self._threads = [each for each in self._threads if each.is_alive()]
        if len(self._threads) >= MAX_DOWNLOADS:
            log.warning("export: skipped, other downloads are running, count=%d", MAX_DOWNLOADS)
            return
        thread = threading.Thread(target=self._download, args=(settings, event.export_id), name="export", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            log.warning("export: skipped, error=%s", error)
        else:
            self._threads.append(thread)

    def close(self, deadline: Deadline) -> None:
        """Wait for the running downloads until the deadline; downloads that are still running then are abandoned."""
        for thread in self._threads:
            thread.join(deadline.remaining())

    def _download(self, settings: TranscriptionSettings, export_id: str) -> None:
        directory = Path(settings.export_directory or self._directory)
        try:
            for line in fetch_export(settings, export_id, directory).lines():
                log.info("%s", escape(line, 500))
        except (AgentError, OSError) as error:
            log.warning("%s", escape(str(error), 500))


def fetch_export(settings: TranscriptionSettings, export_id: str, directory: Path) -> ExportResult:
    """Write ``ID.json`` (the transcript) and ``ID.wav`` (the recording) into ``directory``.

    Each file is written completely or not at all, also after a power failure. A file that the service does not keep is
    not an error.

    Raises:
        ServiceError: a download failed, or a file could not be written.
    """
    if settings.export_url is None:
        return ExportResult()
    if not re.match(_ID, export_id):
        raise ServiceError("transcription", "export not downloaded: the service sent an invalid export ID")
    base = settings.export_url.rstrip("/")
    key = settings.export_key.reveal() or settings.api_key.reveal()
    # The service documentation names the header "key"; the current server accepts "Authorization".
    headers = {"key": key, "Authorization": key} if key else {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = f"export could not be written to {directory}: {error.strerror}"
        raise ServiceError("transcription", reason) from error
    paths, missing = [], []
    for kind, suffix in (("transcript", ".json"), ("audio", ".wav")):
        path = directory / f"{export_id}{suffix}"
        if _download_file(f"{base}/export/{kind}/{export_id}", headers, path):
            paths.append(path)
        else:
            missing.append(kind)
    return ExportResult(tuple(paths), tuple(missing))


def _download_file(url: str, headers: dict[str, str], path: Path) -> bool:
    """Download one file; return ``False`` if the service does not keep it."""
    import requests  # slow to import, and needed for exports only

    from agent.services.connection.http import CancellableSession

    exchange = CancellableSession()
    try:
        exchange.cancel_after(MAX_DOWNLOAD_SECONDS)
        with exchange.session() as session:
            session.headers.update(headers)
            with session.get(url, timeout=IO_TIMEOUT_SECONDS, allow_redirects=False, stream=True) as response:
                status = response.status_code
                if status == 404:
                    return False
                if status != 200:
                    raise ServiceError("transcription", f"export not downloaded: HTTP {status}", status=status)
                size = 0
                with AtomicFile(path) as target:
                    for chunk in response.iter_content(65536):
                        size += len(chunk)
                        if size > MAX_EXPORT_BYTES:
                            raise ServiceError("transcription", "export discarded: it is larger than 512 MiB")
                        target.file.write(chunk)
                    # Without Content-Length a cancelled download looks complete.
                    if exchange.is_cancelled:
                        raise _too_slow()
                    # urllib3 1.26 (Debian 12) does not report a body that is shorter than its Content-Length.
                    if response.raw.length_remaining:
                        raise ServiceError("transcription", "export discarded: the download is incomplete")
                    target.commit(durable=True)
    except requests.RequestException as error:
        if exchange.is_cancelled:
            raise _too_slow() from error
        reason = f"export could not be fetched: {type(error).__name__}"
        raise ServiceError("transcription", reason) from error
    except OSError as error:
        reason = f"export could not be written to {path}: {error.strerror}"
        raise ServiceError("transcription", reason) from error
    except RuntimeError as error:  # the system has no more threads
        raise ServiceError("transcription", f"export not downloaded: {error}") from error
    finally:
        exchange.close()
    return True


def _too_slow() -> ServiceError:
    return ServiceError("transcription", f"export discarded: the download took longer than {MAX_DOWNLOAD_SECONDS:g} s")
