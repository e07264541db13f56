"""The responder that chooses another responder by the wake word of the conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from agent.pipeline.responders.responder import ReplyPieces, Responder

_MAX_TURNS = 32


class WordResponder:
    """Passes each turn to the responder of the wake word.

    Not thread-safe; owned by the responder thread.

    Args:
        default: Replies if the wake word has no responder of its own.
        by_word: The responders by wake word.
        word: Returns the last wake word; empty if the conversation began without a wake word.
    """

    def __init__(self, default: Responder, by_word: Mapping[str, Responder], word: Callable[[], str]) -> None:
        self._default, self._by_word, self._word = default, by_word, word
        # Each responder once, although several words may have the same responder.
        self._all = [*{id(each): each for each in (default, *by_word.values())}.values()]
        self._turns: dict[int, Responder] = {}  # by turn, the oldest turn first

    def reply(self, text: str, turn: int) -> ReplyPieces:
        self._turns[turn] = responder = self._by_word.get(self._word(), self._default)
        while len(self._turns) > _MAX_TURNS:
            del self._turns[next(iter(self._turns))]
        return responder.reply(text, turn)

    def warm_up(self) -> None:
        for responder in self._all:
            responder.warm_up()

    def forget(self, turn: int) -> None:
        self._turns.get(turn, self._default).forget(turn)

    def correct(self, turn: int, played_text: str | None) -> None:
        self._turns.get(turn, self._default).correct(turn, played_text)

    def close(self) -> None:
        for responder in self._all:
            responder.close()
