"""The exception tree: what can go wrong, and the exit code that says so to a shell.

A message says what happened, why, and what to do, in one sentence a user understands. A library's exception is
translated where it enters (``raise ... from error``), so nothing above floor 1 knows a library's exceptions.
"""

from __future__ import annotations


class AgentError(Exception):
    """An internal failure; every other error of voice-agent descends from it."""

    exit_code = 70


class UsageError(AgentError):
    """The command line, or an input file or stream it names, cannot be used."""

    exit_code = 2


class ConfigError(AgentError):
    """The configuration has a mistake, a key is missing, or a device it names is not there."""

    exit_code = 78


class DeviceError(AgentError):
    """A sound device cannot be opened, was lost, or refuses the format.

    ``lost`` tells a device that is known and may come back; ``unknown`` a name that fits nothing there is now: a
    mistake, or a card that has not been found yet. Where neither holds, waiting changes nothing.
    """

    exit_code = 78

    def __init__(self, message: str, *, lost: bool = False, unknown: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        self.unknown = unknown


class AudioError(UsageError):
    """Audio data is not what it claims to be, or a decoder for it is missing (the message names the package)."""


class ServiceError(AgentError):
    """A service could not be reached, refused, or broke off.

    ``service``: its name in the configuration. ``permanent``: trying again changes nothing (a refused key).
    ``retry_after_seconds``: what the service asked for, if it asked. ``status``: the HTTP status or close code.
    """

    exit_code = 69

    def __init__(
        self,
        service: str,
        message: str,
        *,
        permanent: bool = False,
        retry_after_seconds: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{service}: {message}")
        self.service = service
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds
        self.status = status

    @property
    def is_busy(self) -> bool:
        """Whether it asks for patience, which ends: HTTP 429, or 503 with a Retry-After."""
        return self.status == 429 or (self.status == 503 and self.retry_after_seconds is not None)
