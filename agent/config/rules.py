"""Rules for values, shared by several sections; each returns the error in a value and what is expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.config.errors import Finding
from agent.system.hosts import find_url_problem, unencrypted_public_url
from agent.system.named_tuple import NamedTuple


class Url(NamedTuple):
    """A URL of a section. Immutable.

    ``key`` and ``cause`` are relative to the section; ``cause`` is the key that makes the URL necessary.
    """

    key: str
    url: str
    schemes: tuple[str, ...]
    cause: str | None = None


_SECURE = {"ws": "wss://", "http": "https://", "mqtt": "mqtts://"}


def url_findings(urls: Iterable[Url], section: str, *, allow_plaintext: bool) -> Iterator[Finding]:
    """Yield the URLs that cannot be used, or that would send keys and speech to a public host without encryption."""
    for key, url, schemes, cause in urls:
        problem = find_url_problem(url, schemes)
        if problem is not None:
            yield Finding(key, problem, None, cause)
        elif not allow_plaintext and (parts := unencrypted_public_url(url)) is not None:
            secure = _SECURE.get(parts.scheme, "a host of the local network")
            sent = "speech" if parts.scheme == "tcp" else "the key and speech"
            what = f"{parts.scheme}:// to {parts.hostname} would send {sent} without encryption"
            yield Finding(key, f"{what}, expected {secure}, or {section}.allow_plaintext: true", None, cause)


def plaintext_warnings(urls: Iterable[Url]) -> Iterator[Finding]:
    """Yield the usable URLs that send keys and speech to a public host without encryption."""
    for key, url, schemes, _ in urls:
        if find_url_problem(url, schemes) is None and unencrypted_public_url(url) is not None:
            yield Finding(key, "audio, text and the key are sent to a public host without encryption (allow_plaintext)")


def header_problem(value: str, *, may_be_empty: bool = False) -> str | None:
    """Return why a value cannot be sent in an HTTP header, or ``None``."""
    if not value and not may_be_empty:
        return "the value is missing, expected a text"
    if value and not (value.isascii() and value.isprintable()):
        return "the value is sent in an HTTP header, expected ASCII letters, digits and signs on one line"
    return None


def input_file_problem(path: str) -> str | None:
    """Return the problem of the path of an input file, or ``None``; a file in an inaccessible directory passes."""
    missing = f"the file {path} does not exist, expected a file that can be read"
    return _file_problem(path, lambda place: None if place.exists() else missing)


def input_recording_problem(path: str) -> str | None:
    """Return the problem of the path of a recording to play, or ``None``. Opening a pipe without a writer blocks."""
    return input_file_problem(path) or _file_problem(path, _special_file_problem)


def output_file_problem(path: str) -> str | None:
    """Return the problem of the path of an output file, or ``None``; an inaccessible directory passes."""

    def find_problem(place: Path) -> str | None:
        if not place.parent.is_dir():
            return f"there is no directory {place.parent} to write into, expected one"
        return _special_file_problem(place)

    return _file_problem(path, find_problem)


def _special_file_problem(place: Path) -> str | None:
    return f"{place} is a device or a pipe, expected a file" if place.exists() and not place.is_file() else None


def _file_problem(path: str, find_problem: Callable[[Path], str | None]) -> str | None:
    if not path.strip():
        return "the path is empty, expected the path of a file"
    try:
        return f"{path} is a directory, expected a file" if Path(path).is_dir() else find_problem(Path(path))
    except PermissionError:
        return None
    except OSError as error:  # such as a name that is too long, or a network file system that is gone
        return f"{path} cannot be used: {error.strerror}, expected the path of a file"
    except ValueError:
        return "this cannot be a path"


def directory_problem(path: str, kind: str) -> str | None:
    """Return the problem of the path of a directory of this ``kind``, for example ``a vosk model``, or ``None``."""
    try:
        if Path(path).is_dir():
            return None
    except PermissionError:
        return None
    except (OSError, ValueError):
        pass
    return f"{path} is not a directory, expected that of {kind}"
