"""The errors and warnings of the running daemon, for the user of a command."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agent.cli.notice import notice
from agent.client import ClientError, NotRunning, Refused
from agent.errors import ServiceError, UsageError

_TROUBLE = "no speaker"


class DaemonUnreachable(ServiceError):
    """No daemon listens at the control socket, or this user may not connect to it."""


@contextlib.contextmanager
def service_errors() -> Iterator[None]:
    """Raise each error of the client in the block as ``ServiceError``, and invalid parameters as ``UsageError``."""
    try:
        yield
    except NotRunning as error:
        raise DaemonUnreachable("control", str(error)) from error
    except ClientError as error:
        from agent.frontends.api.json_rpc import INVALID_PARAMS  # not before an error

        if isinstance(error, Refused) and error.code == INVALID_PARAMS:
            raise UsageError(str(error)) from error
        raise ServiceError("control", str(error)) from error


def print_warnings(troubles: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    """Print why an utterance waits, if the daemon has no speaker, and why it is not heard."""
    for trouble in troubles:
        if trouble.startswith(_TROUBLE):
            notice(f"{trouble} (sudo voice-agent doctor shows the reason)")
    for warning in warnings:
        notice(warning)
