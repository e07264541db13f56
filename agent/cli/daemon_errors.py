"""Translates errors of the client to errors of a command, and prints warnings of the daemon."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from agent.cli.notice import notice
from agent.client import ClientError, NotRunning, Refused
from agent.errors import ServiceError, UsageError

_NO_SPEAKER_TROUBLE = "no speaker"
"""The beginning of the trouble that the daemon reports while it has no speaker."""


class DaemonUnreachable(ServiceError):
    """No daemon listens at the control socket, or this user may not connect to it."""


@contextlib.contextmanager
def service_errors() -> Iterator[None]:
    """Translate each ``ClientError`` of the block to ``ServiceError``, or to ``UsageError`` for invalid parameters."""
    try:
        yield
    except NotRunning as error:
        raise DaemonUnreachable("control", str(error)) from error
    except ClientError as error:
        from agent.frontends.api.json_rpc import INVALID_PARAMS  # needed only after an error

        if isinstance(error, Refused) and error.code == INVALID_PARAMS:
            raise UsageError(str(error)) from error
        raise ServiceError("control", str(error)) from error


def print_warnings(troubles: tuple[str, ...], warnings: tuple[str, ...]) -> None:
    """Print the warnings for an utterance. Of its troubles, print only that of a missing speaker.

    Args:
        troubles: Sentences that say why the utterance is delayed.
        warnings: Sentences that say why the utterance cannot be heard.
    """
    for trouble in troubles:
        if trouble.startswith(_NO_SPEAKER_TROUBLE):
            notice(f"{trouble} (sudo voice-agent doctor shows the reason)")
    for warning in warnings:
        notice(warning)
