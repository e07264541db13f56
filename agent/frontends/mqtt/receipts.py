"""Decides when a stored text is acknowledged to the broker."""

from __future__ import annotations


class Receipts:
    """The texts that are not acknowledged yet. Not thread-safe; owned by the MQTT thread.

    A text is acknowledged when it is on the disk, or when it has ended: until then the broker sends it again after a
    crash. The acknowledgments have the order of the messages (MQTT 5.0, 4.6). ``accept``, ``end`` and ``finish`` return
    the tokens to acknowledge now.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, int] = {}  # the token of each message that waits, in order of arrival
        self._done: set[int] = set()
        self._volatile: dict[str, list[int]] = {}  # by utterance: the messages of texts that are in memory only
        self._next = 1

    def add(self, token: int) -> int:
        """Note a message and return its number."""
        number, self._next = self._next, self._next + 1
        self._waiting[number] = token
        return number

    def accept(self, number: int, utterance: str, *, is_durable: bool) -> list[int]:
        """Note that the text of a message was accepted as an utterance."""
        if is_durable and utterance not in self._volatile:
            return self.finish(number)
        self._volatile.setdefault(utterance, []).append(number)
        return []

    def end(self, utterance: str) -> list[int]:
        """Note the recorded end of an utterance."""
        self._done.update(self._volatile.pop(utterance, []))
        return self._take()

    def finish(self, number: int) -> list[int]:
        """Note that nothing remains to be done for a message."""
        self._done.add(number)
        return self._take()

    def forget_connection(self) -> None:
        """Forget the messages of a lost connection: the broker sends again what is not acknowledged."""
        self._waiting.clear()
        self._done.clear()
        self._volatile = {utterance: [] for utterance in self._volatile}

    def _take(self) -> list[int]:
        tokens = []
        self._done &= self._waiting.keys()
        for number in list(self._waiting):
            if number not in self._done:
                break
            self._done.discard(number)
            tokens.append(self._waiting.pop(number))
        return [token for token in tokens if token]
