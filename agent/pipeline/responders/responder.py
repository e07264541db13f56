"""The shape that all kinds of responder share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from agent.config.errors import Finding

# Pieces of an answer. An empty piece says only that the answer is still awaited; closing breaks the answer off.
ReplyPieces = Generator[str, None, None]

# How long a responder may be silent before it gives an empty piece, so that its owner can look round.
MAX_SILENCE_SECONDS = 0.25


class Responder(Protocol):
    """Answers one heard text at a time, in the thread that asks.

    ``answer`` gives the answer in pieces that can be spoken as they are (whole sentences), and an empty piece at least
    every ``SLICE_SECONDS`` while it waits for more. Closing the pieces breaks the answer off and releases what it
    holds. It raises ``AgentError`` with a sentence where there is no answer or it breaks off.
    ``close`` releases what is kept between answers; twice is safe.
    """

    def reply(self, text: str, turn: int) -> ReplyPieces: ...

    def close(self) -> None: ...


def no_findings(settings: Any) -> Iterator[Finding]:
    """The check of a responder without rules between its keys."""
    yield from ()


@dataclass(frozen=True)
class ResponderKind:
    """Everything that the package knows about one kind of responder. Immutable.

    Attributes:
        make: Makes the responder from a ``ResponderSettings``. Raises ``ConfigError`` if a required key is missing.
        settings: The dataclass of its section ``responder.NAME``, if it has one; its docstring describes the section.
        check_used: Yields what is wrong with the section if ``responder.kind`` names it, with keys relative to it.
        url_key: The key of the section that holds a URL.
        is_key_optional: Whether it may work without an API key at a URL outside.
    """

    make: Callable[[Any], Responder]
    settings: Any = None
    check_used: Callable[[Any], Iterator[Finding]] = no_findings
    url_key: str | None = None
    is_key_optional: bool = False
