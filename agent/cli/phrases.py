"""The command ``voice-agent phrases``: prepare, list, remove and check the speech that is kept on disk."""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.cli.local_server import local_server
from agent.cli.notice import notice
from agent.cli.phrase_list import ListedText, read_phrase_list
from agent.cli.say import with_announce_mode
from agent.daemon.builder import require_keys
from agent.daemon.phrase_warmer import FAILED, KEPT, PRESENT, PhraseWarmer, Warmed, warmed_service
from agent.daemon.speech_builder import phrase_cache
from agent.errors import ConfigError, ServiceError, UsageError
from agent.pipeline.tts.phrase_cache import UNREADABLE, CacheEntry, PhraseCache
from agent.settings.model import Config
from agent.system.text import escape

MAX_FILE_BYTES = 16 * 1024 * 1024
BAR_COLUMNS = 24
SERVICE_CACHE = Path("/var/cache/voice-agent")
"""A link to a directory that only the service and root may enter (``DynamicUser=`` in systemd.exec(5))."""


def phrases(
    config: Config, what: str, arguments: Sequence[str], *, service: str | None = None, as_json: bool = False
) -> int:
    """Run one of ``warm``, ``list``, ``remove``, ``clear`` and ``verify``.

    Returns:
        The exit code: 0. Of ``warm`` also 69 if a text could not be spoken, 2 if a line of the file is invalid, and 78
        if phrases were deleted again because ``synthesis.phrases.megabytes`` is too small.

    Raises:
        UsageError: The arguments are invalid, no phrase matches them, or the phrases cannot be read or deleted.
        ServiceError: ``synthesis.phrases`` keeps the speech of no configured service.
    """
    if what == "warm":
        if len(arguments) != 1:
            raise UsageError("phrases warm needs one FILE with a text in each line, or - for stdin")
        return _warm(config, arguments[0], service, as_json)
    if what != "remove" and arguments:
        raise UsageError(f"phrases {what} takes no further word, not {arguments[0]!r}")
    cache = phrase_cache(config)
    if os.geteuid() and SERVICE_CACHE.is_symlink() and not os.access(SERVICE_CACHE, os.W_OK):
        notice("these are the phrases of this user; for those of the service use sudo")
    try:
        if what == "list":
            return _list(cache, as_json)
        if what == "remove":
            return _remove(cache, arguments, as_json)
        return _clear(cache, as_json) if what == "clear" else _verify(cache, as_json)
    except OSError as error:
        if error.filename is None:  # an error of stdout
            raise
        cure = ". Use sudo" if isinstance(error, PermissionError) else ""
        raise UsageError(
            f"the phrases in {cache.directory} cannot be read or deleted: {error.strerror}{cure}"
        ) from error


# --- warm


def _warm(config: Config, source: str, service: str | None, as_json: bool) -> int:
    texts = list(read_phrase_list(_read_lines(source)))
    if not texts:
        raise UsageError(f"{source} has no text: write one text in each line")
    if not config.synthesis.phrases.enabled:
        notice("synthesis.phrases.enabled is false: the phrases are prepared, and the daemon does not use them")
    service = service or warmed_service(config)
    config = with_announce_mode(config._replace(synthesis=config.synthesis._replace(services=(service,))))
    require_keys(config)
    progress = _Progress(len(texts))
    results: list[tuple[ListedText, Warmed]] = []
    with local_server(config) as local, PhraseWarmer(config, local, service) as warmer, progress:
        for listed in texts:
            warmed = Warmed(FAILED, reason=listed.problem) if listed.problem else warmer.warm(listed.text)
            results.append((listed, warmed))
            progress.show(listed, warmed)
        deleted = sum(warmed.state != FAILED and not warmer.is_kept(listed.text) for listed, warmed in results)
    code = _summarize(service, results, deleted, as_json)
    if deleted:
        megabytes = config.synthesis.phrases.megabytes
        notice(
            f"{deleted} phrases were deleted again, because all need more than {megabytes} MB."
            " Increase synthesis.phrases.megabytes"
        )
    return code or (ConfigError.exit_code if deleted else 0)


def _read_lines(source: str) -> list[str]:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{source} is larger than {MAX_FILE_BYTES} bytes: divide it")
        return data.decode().splitlines()
    except OSError as error:
        raise UsageError(f"{source} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is not UTF-8 at byte {error.start}: convert it first") from error


class _Progress:
    """A bar on a terminal, else a line for each text, on standard error. Not thread-safe; owned by the main thread."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._is_terminal = sys.stderr.isatty()

    def show(self, listed: ListedText, warmed: Warmed) -> None:
        self._done += 1
        if not self._is_terminal or warmed.state == FAILED:
            self._clear_bar()
            where = f"line {listed.line}: " if warmed.state == FAILED else ""
            reason = f" ({warmed.reason})" if warmed.reason else ""
            words = escape(f"{where}{warmed.state}: {listed.text}", 200)
            print(f"{self._done}/{self._total} {words}{escape(reason, 400)}", file=sys.stderr, flush=True)
        if self._is_terminal:
            filled = BAR_COLUMNS * self._done // self._total
            bar = "#" * filled + "." * (BAR_COLUMNS - filled)
            line = f"[{bar}] {self._done}/{self._total} {escape(listed.text)}"
            print(f"\r\x1b[K{line[:78]}", end="", file=sys.stderr, flush=True)

    def _clear_bar(self) -> None:
        if self._is_terminal:
            print("\r\x1b[K", end="", file=sys.stderr)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear_bar()


def _summarize(service: str, results: list[tuple[ListedText, Warmed]], deleted: int, as_json: bool) -> int:
    counts = {state: sum(warmed.state == state for _, warmed in results) for state in (KEPT, PRESENT, FAILED)}
    seconds = sum(warmed.seconds for _, warmed in results)
    failures = [(listed, warmed) for listed, warmed in results if warmed.state == FAILED]
    if as_json:
        errors = [{"line": listed.line, "text": listed.text, "reason": warmed.reason} for listed, warmed in failures]
        _print_json({"service": service, **counts, "deleted": deleted, "seconds": round(seconds, 3), "errors": errors})
    else:
        print(
            f"{service}: {counts[KEPT]} phrases kept, {counts[PRESENT]} were there before, {counts[FAILED]} failed; "
            f"{seconds:.1f} s of audio"
        )
    if any(not listed.problem for listed, _ in failures):
        return ServiceError.exit_code
    return UsageError.exit_code if failures else 0


# --- the directory


def _list(cache: PhraseCache, as_json: bool) -> int:
    entries = list(cache.entries(checks=True))
    if as_json:
        _print_json([entry.as_json() for entry in entries])
        return 0
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.used_at).strftime("%Y-%m-%d %H:%M")
        if entry.key is None:
            damaged = "" if entry.problem.startswith(UNREADABLE) else "damaged: "
            print(f"{entry.id[:8]}  {used}  {damaged}{entry.problem}")
            continue
        text = escape(" ".join(entry.key.text.split()), 100)
        voice = escape(f"{entry.key.service}/{entry.voice}", 40).rstrip("/")
        print(f"{entry.id[:8]}  {used}  {entry.seconds:6.1f} s  {voice}  {text}")
    print(f"{len(entries)} phrases, {_megabytes(entries):.1f} of {cache.capacity_bytes / 1e6:.0f} MB", file=sys.stderr)
    return 0


def _remove(cache: PhraseCache, words: Sequence[str], as_json: bool) -> int:
    if not words:
        raise UsageError("phrases remove needs the TEXT of a phrase, or its ID from phrases list")
    return _delete(cache, cache.matching(words), as_json)


def _clear(cache: PhraseCache, as_json: bool) -> int:
    return _delete(cache, list(cache.entries()), as_json)


def _delete(cache: PhraseCache, entries: list[CacheEntry], as_json: bool) -> int:
    cache.remove(*entries)
    if as_json:
        _print_json({"removed": len(entries)})
    else:
        print(f"{len(entries)} phrases removed")
    return 0


def _verify(cache: PhraseCache, as_json: bool) -> int:
    checked, damaged = cache.verify()
    if as_json:
        _print_json({"checked": checked, "removed": [{"id": each.id, "reason": each.problem} for each in damaged]})
        return 0
    for entry in damaged:
        print(f"{entry.id[:8]}  removed: {entry.problem}")
    print(f"{checked} phrases checked, {len(damaged)} damaged ones removed")
    return 0


def _megabytes(entries: list[CacheEntry]) -> float:
    return sum(entry.size for entry in entries) / 1e6


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
