"""The shape that all kinds of responder share."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

# Pieces of an answer. An empty piece says only that the answer is still awaited; closing breaks the answer off.
Pieces = Generator[str, None, None]

# How long a responder may be silent before it gives an empty piece, so that its owner can look round.
SLICE_SECONDS = 0.25


class Answers(Protocol):
    """Answers one heard text at a time, in the thread that asks.

    ``answer`` gives the answer in pieces that can be spoken as they are (whole sentences), and an empty piece at least
    every ``SLICE_SECONDS`` while it waits for more. Closing the pieces breaks the answer off and releases what it
    holds. It raises ``AgentError`` with a sentence where there is no answer or it breaks off.
    ``close`` releases what is kept between answers; twice is safe.
    """

    def answer(self, text: str, turn: int) -> Pieces: ...

    def close(self) -> None: ...
