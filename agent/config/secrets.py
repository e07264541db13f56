"""Keys: where they come from, and that they never show."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path

from agent.errors import ConfigError
from agent.system.log import hide_secret

SYSTEM_CREDENTIALS = Path("/etc/voice-agent/credentials")
UNIT_PREFIX = "key_"
"""The unit hands over that directory as a whole; systemd then puts the unit's word for it before each name."""


@dataclass(frozen=True)
class Secret:
    """A key that is looked up when it is needed and never shown: from a systemd credential, a file, the environment,
    or the configuration itself. Exactly one of the four is set."""

    credential: str | None = None
    file: str | None = None
    env: str | None = None
    value: str | None = field(default=None, repr=False)

    def reveal(self) -> str | None:
        """The key without the white space around it, or ``None`` where there is none. Call it at the last moment.

        Raises ``ConfigError`` where a file is named that cannot be read or a variable that is not set, or where the key
        holds a character that no HTTP header may carry (a line break would end the header early).
        """
        found = self._look_up()
        found = found.strip() if found else None
        if found and not (found.isascii() and found.isprintable()):
            raise ConfigError(
                f"the key from {self.origin} holds a line break, a control character or a letter outside ASCII:"
                " put one line with the key alone into it"
            )
        return found or None

    @property
    def origin(self) -> str:
        """Where the key is looked for, in words; safe to print."""
        if self.credential is not None:
            return f"the credential {self.credential!r}"
        if self.file is not None:
            return f"the file {self.file}"
        if self.env is not None:
            return f"the environment variable {self.env}"
        return "the configuration"

    @property
    def home(self) -> str:
        """Where a key that is missing belongs, in words; safe to print."""
        if self.credential is None:
            return self.origin
        place = SYSTEM_CREDENTIALS / self.credential
        return f"the file {place}, which only root can read, or give its api_key as {{file: PATH}} or {{env: NAME}}"

    def _look_up(self) -> str | None:
        if self.credential is not None:
            return self._look_up_credential()
        if self.file is not None:
            try:
                return _read(Path(self.file))
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ConfigError(f"the key file {self.file} cannot be read: {reason}") from error
        if self.env is not None:
            if self.env not in os.environ:
                raise ConfigError(unset(self.env))
            return os.environ[self.env]
        return self.value

    def places(self) -> tuple[Path, ...]:
        """The files that a credential is looked for in; the first that can be read counts."""
        if self.credential is None:
            return ()
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        name = self.credential
        given = [Path(directory) / name, Path(directory) / f"{UNIT_PREFIX}{name}"] if directory else []
        return (*given, SYSTEM_CREDENTIALS / name)

    def _look_up_credential(self) -> str | None:
        for place in self.places():
            try:
                return _read(place)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # a credential that is not there is no mistake: a local service needs none
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is not text"
                raise ConfigError(f"the credential {place} cannot be read: {reason}") from error
        return None


def unset(name: str) -> str:
    """What is wrong where a key is to come from the variable ``name`` and that is not there."""
    return f"the environment variable {name}, which is to hold the key, is not set"


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(65536).decode("utf-8")


def iter_secrets(config: object) -> Iterator[tuple[str, Secret]]:
    """The dotted name and the place of every key, whether it is used or not. Nothing is looked up."""
    sections: list[tuple[str, object]] = [("", config)]
    while sections:
        path, section = sections.pop(0)
        if not is_dataclass(section):
            continue
        for entry in fields(section):
            value = getattr(section, entry.name)
            dotted = f"{path}.{entry.name}" if path else entry.name
            if isinstance(value, Secret):
                yield dotted, value
            elif is_dataclass(value):
                sections.append((dotted, value))


def hide_keys(secrets: Iterable[Secret]) -> None:
    """Make the log show ``***`` instead of each of these keys."""
    for secret in secrets:
        try:
            hide_secret(secret.reveal())
        except ConfigError:
            continue  # whoever needs it will say that it cannot be read
