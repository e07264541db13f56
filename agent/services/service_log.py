"""Logs the refused messages and the log lines of one session with a service, within limits."""

from __future__ import annotations

import logging

from agent.services.protocols.codec import Failure
from agent.system.text import escape

log = logging.getLogger(__name__)

MAX_REFUSED_MESSAGES = 100
"""The session ends after more refused messages than this. Messages of an unknown type and messages of other requests do
not count."""

MAX_LOG_LINES = 20
"""The most log lines of the service that one session logs; further ones are dropped."""


class ServiceLog:
    """Logs refused messages and the service's own log lines of one session, within limits.

    Not thread-safe; owned by the thread that owns the session.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._refused = self._invalid = self._foreign = self._lines = 0

    def count_refused(self, failure: Failure) -> str | None:
        """Count a refused message and log the first one of its kind.

        Returns:
            The reason to end the session after more than ``MAX_REFUSED_MESSAGES``, else ``None``. Messages of other
            requests do not count, because a service may serve several requests on one connection. Messages of an
            unknown type do not count, because a later version of a service may send one for each word.
        """
        if failure.is_foreign:
            self._foreign += 1
            if self._foreign == 1:
                log.warning("%s: message of another request ignored, received %s", self._service, failure.received)
            return None
        self._refused += 1
        if self._refused == 1:
            log.warning(
                "%s: message refused, received %s; expected %s", self._service, failure.received, failure.expected
            )
        self._invalid += not failure.is_unknown
        if failure.is_unknown or self._invalid <= MAX_REFUSED_MESSAGES:
            return None
        return f"{self._invalid} invalid messages, the last {failure.received}"

    def log_message(self, message: str) -> None:
        """Log a line that the service reports about itself; at most 200 characters, escaped."""
        self._lines += 1
        if self._lines <= MAX_LOG_LINES:
            log.info("%s: message from the service: %s", self._service, escape(message, 200))

    def close(self) -> None:
        """Log the number of refused messages and of messages of other requests, each if it is greater than 1."""
        if self._refused > 1:
            log.warning("%s: session ended, refused_messages=%d", self._service, self._refused)
        if self._foreign > 1:
            log.warning("%s: session ended, messages_of_other_requests=%d", self._service, self._foreign)
