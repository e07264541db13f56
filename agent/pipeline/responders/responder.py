"""The interface that every responder implements."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

from agent.config.errors import Finding
from agent.system.named_tuple import NamedTuple


class Shortfall(NamedTuple):
    """The reason why an answer is empty or incomplete although the request succeeded. Immutable.

    Attributes:
        kind: As in ``ReplyEnded.shortfall``.
        reason: The cause, and the remedy if there is one.
    """

    kind: str
    reason: str


ReplyPieces = Generator[str, None, Shortfall | None]
"""Pieces of a reply. An empty piece means that the reply is still awaited. Closing the generator cancels the reply."""

MAX_SILENCE_SECONDS = 0.25
"""The longest time between two pieces; it bounds how late the worker sees a cancel."""


class Responder(Protocol):
    """A source of replies. Not thread-safe; owned by the responder thread."""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        """Yield the text of the reply to a transcript as it arrives, one reply at a time.

        Yields an empty piece at least every ``MAX_SILENCE_SECONDS`` while more is awaited. Returns the shortfall of the
        answer, if it has one.

        Raises:
            AgentError: There is no reply, or it is incomplete.
        """

    def warm_up(self) -> None:
        """Load what the first reply needs; called once, after READY."""

    def forget(self, turn: int) -> None:
        """Remove the reply of a turn, if it was the last one, from the history: its question was not asked."""

    def correct(self, turn: int, heard: str) -> None:
        """Replace the reply of a turn in the history by the part of it that the user has heard."""

    def close(self) -> None:
        """Release all resources. Idempotent."""


class StatelessResponder:
    """Base of the responders that keep nothing between two replies."""

    def warm_up(self) -> None:
        """Do nothing: a reply needs nothing that takes long to load."""

    def forget(self, turn: int) -> None:
        """Do nothing: there is no history."""

    def correct(self, turn: int, heard: str) -> None:
        """Do nothing: there is no history."""

    def close(self) -> None:
        """Do nothing: no resource is held between replies."""


def no_findings(settings: Any) -> Iterator[Finding]:
    """The check of a responder without rules between its keys."""
    yield from ()


def knows_no_request(settings: Any) -> Callable[[str], bool]:
    """The request matcher of a responder that accepts every text."""
    return lambda text: False


class ResponderKind(NamedTuple):
    """The description of one kind of responder. Immutable.

    Attributes:
        make: Makes the responder from a ``ResponderSettings``. Raises ``ConfigError`` if a required key is missing.
        settings: The class of its section ``responder.NAME``, if it has one; its docstring describes the section.
        check_used: Yields the errors in the section if ``responder.kind`` names it, with keys relative to it.
        url_key: The key of the section that holds a URL.
        url_schemes: The URL schemes that key may have.
        has_effects: Whether the start of a reply may have an effect of its own. Then it starts before the end of the
            question only if the configuration asks for that.
        is_key_optional: Whether it may work without an API key at a URL outside.
        request_matcher: Makes a thread-safe function that tells whether a text is a complete request that the responder
            knows.
    """

    make: Callable[[Any], Responder]
    settings: Any = None
    check_used: Callable[[Any], Iterator[Finding]] = no_findings
    url_key: str | None = None
    url_schemes: tuple[str, ...] = ("https", "http")
    is_key_optional: bool = False
    has_effects: bool = False
    request_matcher: Callable[[Any], Callable[[str], bool]] = knows_no_request
