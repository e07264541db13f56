"""Looks up the secrets of the configuration, and hides them in the log."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from agent.errors import ConfigError
from agent.system.log import hide_secret

SYSTEM_CREDENTIALS = Path("/etc/voice-agent/credentials")
UNIT_PREFIX = "key_"
"""Prefix of the files in $CREDENTIALS_DIRECTORY. The unit loads SYSTEM_CREDENTIALS as one directory, and systemd then
puts the ID of the LoadCredential= line and ``_`` before each file name (systemd.exec(5))."""

MAX_SECRET_BYTES = 65536


class Secret:
    """A secret that is looked up when it is used and never shown. Immutable.

    Exactly one attribute is set: ``credential`` (the name of a systemd credential), ``file`` (a path), ``env`` (the
    name of an environment variable) or ``value`` (the secret itself).
    """

    # Not a named tuple: a function that formats tuples would show its items.
    __slots__ = ("credential", "env", "file", "value")

    def __init__(
        self, credential: str | None = None, file: str | None = None, env: str | None = None, value: str | None = None
    ) -> None:
        self.credential, self.file, self.env, self.value = credential, file, env, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._place() == other._place()

    def __hash__(self) -> int:
        return hash(self._place())

    def __repr__(self) -> str:
        return f"Secret(credential={self.credential!r}, file={self.file!r}, env={self.env!r})"

    def _place(self) -> tuple[str | None, ...]:
        return self.credential, self.file, self.env, self.value

    def reveal(self) -> str | None:
        """Look up the secret. Call it as late as possible.

        Returns:
            The secret without surrounding white space; ``None`` if none is stored.

        Raises:
            ConfigError: The file cannot be read, the variable is not set, or the secret has a character that is not
                allowed in an HTTP header (a line break would end the header).
        """
        text = self._look_up()
        text = text.strip() if text else None
        if text and not (text.isascii() and text.isprintable()):
            raise ConfigError(
                f"the key from {self.origin} has a line break, a control character or a non-ASCII character:"
                " store one line with the key alone there"
            )
        return text or None

    @property
    def origin(self) -> str:
        """Where the secret is looked up, in words; safe to print."""
        if self.credential is not None:
            return f"the credential {self.credential!r}"
        if self.file is not None:
            return f"the file {self.file}"
        if self.env is not None:
            return f"the environment variable {self.env}"
        return "the configuration"

    @property
    def storage_hint(self) -> str:
        """Where to store a missing secret, in words; safe to print."""
        if self.credential is None:
            return self.origin
        place = SYSTEM_CREDENTIALS / self.credential
        return f"the file {place}, which only root can read, or set its api_key to {{file: PATH}} or {{env: NAME}}"

    def places(self) -> tuple[Path, ...]:
        """Return the files that may hold a credential; the first readable one is used."""
        if self.credential is None:
            return ()
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        name = self.credential
        unit = [Path(directory) / name, Path(directory) / f"{UNIT_PREFIX}{name}"] if directory else []
        return (*unit, SYSTEM_CREDENTIALS / name)

    def _look_up(self) -> str | None:
        if self.credential is not None:
            return self._look_up_credential()
        if self.file is not None:
            try:
                return _read(Path(self.file))
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"the key file {self.file} {_unreadable(error)}") from error
        if self.env is not None:
            if self.env not in os.environ:
                raise ConfigError(unset(self.env))
            return os.environ[self.env]
        return self.value

    def _look_up_credential(self) -> str | None:
        for place in self.places():
            try:
                return _read(place)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # a missing credential is not an error: a local service needs none
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"the credential {place} {_unreadable(error)}") from error
        return None


def unset(name: str) -> str:
    """Return the message for a secret whose environment variable ``name`` is not set."""
    return f"the environment variable {name}, which holds the key, is not set"


def hide_keys(secrets: Iterable[Secret]) -> None:
    """Make the log show ``***`` instead of each of these secrets."""
    for secret in secrets:
        try:
            hide_secret(secret.reveal())
        except ConfigError:
            continue  # the code that uses the secret reports that it cannot be read


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_SECRET_BYTES).decode("utf-8")


def _unreadable(error: OSError | UnicodeDecodeError) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}. Check the path, and that this user may read it"
    return "cannot be read: it is not text. Write only the key into it"
