"""Decides when a received message is acknowledged to the broker."""

from __future__ import annotations


class PendingAcknowledgments:
    """The received messages that are not acknowledged yet. Not thread-safe; owned by the MQTT thread.

    A message with a text is acknowledged when the text is on the disk, or when its utterance has ended. Until then the
    broker would send the message again after a crash of the daemon. Messages are acknowledged in the order in which
    they arrived (MQTT 5.0, 4.6).

    ``accept``, ``end`` and ``finish`` return the tokens to acknowledge now (see ``Message.token``).
    """

    def __init__(self) -> None:
        self._waiting: dict[int, int] = {}  # by message number, in order of arrival: the tokens not returned yet
        self._done: set[int] = set()  # numbers of messages that may be acknowledged after all earlier messages
        self._volatile: dict[str, list[int]] = {}  # by utterance id: the messages whose text is in memory only
        self._next = 1

    def add(self, token: int) -> int:
        """Add a message and return its number."""
        number, self._next = self._next, self._next + 1
        self._waiting[number] = token
        return number

    def accept(self, number: int, utterance: str, *, is_durable: bool) -> list[int]:
        """Record that the text of a message was accepted as an utterance. ``is_durable``: the text is on the disk."""
        if is_durable and utterance not in self._volatile:
            return self.finish(number)
        self._volatile.setdefault(utterance, []).append(number)
        return []

    def end(self, utterance: str) -> list[int]:
        """Record the end of an utterance."""
        self._done.update(self._volatile.pop(utterance, []))
        return self._take()

    def finish(self, number: int) -> list[int]:
        """Record that a message is processed completely."""
        self._done.add(number)
        return self._take()

    def forget_connection(self) -> None:
        """Drop the messages of a lost connection, because the broker sends them again."""
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
