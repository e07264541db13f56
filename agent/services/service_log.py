"""What a service sends besides its business: messages that make no sense, and lines about itself. Neither floods the
log."""

from __future__ import annotations

import logging

from agent.services.protocols.codec import Failure
from agent.system.text import escape

log = logging.getLogger(__name__)

MAX_REFUSED_MESSAGES = 100
"""Messages of a session that may be passed over before it counts as broken."""

MAX_LOG_LINES = 20
"""Lines that a service may have in the log for one session, about itself."""


class ServiceLog:
    """Those of one session with ``service``. Owned by the thread that has the session."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._refused = self._told = 0

    def log_refused(self, failure: Failure) -> str | None:
        """One message that made no sense; why the session is broken, once there have been too many."""
        self._refused += 1
        if self._refused == 1:
            log.warning("%s: passed over %s; expected %s", self._service, failure.received, failure.expected)
        if self._refused <= MAX_REFUSED_MESSAGES:
            return None
        return f"{self._refused} of its messages made no sense, the last {failure.received}"

    def log_message(self, message: str) -> None:
        """One line of the service about itself."""
        self._told += 1
        if self._told <= MAX_LOG_LINES:
            log.info("%s says: %s", self._service, escape(message, 200))

    def close(self) -> None:
        """Sums up what was passed over."""
        if self._refused > 1:
            log.warning("%s: %d messages of a session were passed over", self._service, self._refused)
