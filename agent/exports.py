"""What the transcription service keeps of a session, fetched over REST and written next to the transcript."""

from __future__ import annotations

import os
import re
from pathlib import Path

from agent.config.model import Transcription
from agent.errors import ServiceError

LARGEST_BYTES = 512 * 1024 * 1024
TIMEOUT_SECONDS = 30.0
_ID = re.compile(r"[0-9A-Za-z-]{1,64}\Z")


def fetch_export(settings: Transcription, export_id: str, directory: Path) -> list[Path]:
    """Writes ``ID.json`` (the transcript) and ``ID.wav`` (the sound) into ``directory`` and returns their paths.

    A file is there whole or not at all. Raises ``ServiceError`` where the service does not give them.
    """
    if settings.export_url is None:
        return []
    if not _ID.match(export_id):
        raise ServiceError("transcription", "the export was not fetched: its ID is no ID")
    base = settings.export_url.rstrip("/")
    key = settings.api_key.reveal()
    # The server of the document's date wants the first of the two headers, today's the second.
    headers = {"key": key, "Authorization": key} if key else {}
    directory.mkdir(parents=True, exist_ok=True)
    return [
        _fetch(f"{base}/export/{kind}/{export_id}", headers, directory / f"{export_id}{ending}")
        for kind, ending in (("transcript", ".json"), ("audio", ".wav"))
    ]


def _fetch(url: str, headers: dict[str, str], path: Path) -> Path:
    import requests  # only who wants exports pays for it

    part = path.with_name(f".{path.name}.part")
    try:
        with requests.Session() as session:
            session.trust_env = False
            session.headers.update(headers)
            with session.get(url, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True) as answer:
                status = answer.status_code
                if status != 200:
                    raise ServiceError("transcription", f"the export was answered with HTTP {status}", status=status)
                size = 0
                with part.open("wb") as file:
                    for chunk in answer.iter_content(65536):
                        size += len(chunk)
                        if size > LARGEST_BYTES:
                            raise ServiceError("transcription", "the export is larger than 512 MiB and was not kept")
                        file.write(chunk)
        os.replace(part, path)
    except requests.RequestException as error:
        raise ServiceError("transcription", f"the export could not be fetched ({type(error).__name__})") from error
    except OSError as error:
        raise ServiceError("transcription", f"the export could not be written to {path}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return path
