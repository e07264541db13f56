"""The error of a request that is refused."""

from __future__ import annotations

from collections.abc import Mapping


class HttpError(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status.
        sentence: The reason, for the client.
        headers: More header fields of the response.
    """

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, headers or {}
