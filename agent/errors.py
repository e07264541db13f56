"""Defines the exception classes and the exit code of each one.

A message states what failed, why, and how to fix it. The module that calls a library translates the library's
exceptions (``raise ... from error``), so the packages above it handle only these classes.
"""

from __future__ import annotations

import enum

CANCELLED_EXIT_CODE = 3
"""The exit code of a ``say`` whose utterance was cancelled: by a signal, ``hush`` or the end of the daemon."""


class AgentError(Exception):
    """An internal failure, and the base class of all errors of voice-agent."""

    exit_code = 70


class UsageError(AgentError):
    """An invalid command line, or an unusable input file or stream."""

    exit_code = 2


class ConfigError(AgentError):
    """An invalid configuration, a missing key, or a configured device that does not exist."""

    exit_code = 78


class DeviceProblem(enum.Enum):
    """Causes of a ``DeviceError`` that have a remedy of their own. Immutable."""

    NO_LIBRARY = "PyAudio cannot be loaded"
    NO_FORMAT = "the device supports none of the requested formats"
    ABSENT = "the device is not present"
    SERVER = "the sound server of the device cannot be reached"
    CONFIGURATION = "a file of ALSA's configuration is invalid"


class DeviceError(AgentError):
    """A sound device cannot be opened, was lost, or does not support the format.

    Args:
        message: What failed and why, and how to fix it unless ``cure`` says so.
        cure: How to fix it; appended to ``message``.
        lost: The device is known and may come back.
        unknown: The name matches no present device: the name is wrong, or the card is not detected yet.
            If ``lost`` and ``unknown`` are both false, a retry does not help.
        problem: The cause, if it has a remedy of its own.
    """

    exit_code = 78

    def __init__(
        self,
        message: str,
        *,
        cure: str = "",
        lost: bool = False,
        unknown: bool = False,
        problem: DeviceProblem | None = None,
    ) -> None:
        super().__init__(f"{message} {cure}" if cure else message)
        self.reason = message
        self.cure = cure
        self.lost = lost
        self.unknown = unknown
        self.problem = problem


class AudioError(UsageError):
    """Invalid audio data, or a missing decoder (the message names the package to install)."""


TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""The HTTP statuses after which a retry with the same request may help.

RFC 9110 defines them, except 425 (RFC 8470) and 429 (RFC 6585). The values from 520 are not standardized; services and
their proxies send them.
"""


class ServiceError(AgentError):
    """A service is unreachable, refused the request, or closed the connection.

    Args:
        service: Name of the service in the configuration; becomes the prefix of the message.
        message: What failed, why, and how to fix it.
        permanent: A retry does not help (for example a refused key).
        retry_after_seconds: Delay that the service requested, if any.
        status: HTTP status or WebSocket close code, if any.
        transient: The cause often passes within seconds, although it has no HTTP status (for example a reset).
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
        transient: bool = False,
    ) -> None:
        super().__init__(f"{service}: {message}")
        self.service = service
        self.permanent = permanent
        self.retry_after_seconds = retry_after_seconds
        self.status = status
        self._is_transient = transient or status in TRANSIENT_STATUSES

    @property
    def is_transient(self) -> bool:
        """Whether a retry within seconds may help: one of ``TRANSIENT_STATUSES``, a reset, a failed name lookup."""
        return self._is_transient and not self.permanent

    @property
    def is_refused_request(self) -> bool:
        """Whether the service works but refused this request: HTTP 400 (invalid) or 413 (too large)."""
        return self.status in (400, 413)

    @property
    def is_busy(self) -> bool:
        """Whether the service asks for a retry later: HTTP 429, or 503 with Retry-After."""
        return self.status == 429 or (self.status == 503 and self.retry_after_seconds is not None)


class MissingKeyError(ServiceError):
    """A service needs an API key, and none is configured."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(service, message, permanent=True)


class NameLookupError(ServiceError):
    """The host name of a service does not exist, or was not resolved before the deadline."""

    def __init__(self, service: str, message: str) -> None:
        super().__init__(service, message, transient=True)
