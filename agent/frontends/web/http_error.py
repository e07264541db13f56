"""The exception that becomes an HTTP error response."""

from __future__ import annotations

from collections.abc import Mapping


class HttpError(Exception):
    """The server refuses a request.

    Args:
        status: The HTTP status code.
        sentence: The reason, which the client receives.
        headers: Additional header fields of the response.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers or {}
