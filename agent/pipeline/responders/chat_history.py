"""The earlier turns that are sent to a language model, limited by number and age and optionally kept on disk."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.system.files import AtomicFile
from agent.system.json_text import MAX_MESSAGE_BYTES, parse_json
from agent.system.log import RepeatedWarning
from agent.system.named_tuple import NamedTuple

log = logging.getLogger(__name__)

_FROM_DISK = -1
"""The turn number of the turns that were read from the file."""


class ChatTurn(NamedTuple):
    """One turn. Immutable.

    Attributes:
        turn: The number of the turn.
        at: When the reply was complete, in seconds since 1970.
        question: The words of the user.
        reply: The words of the device.
        is_played: Whether the playback of the reply has ended.
    """

    turn: int
    at: float
    question: str
    reply: str
    is_played: bool = False


class ChatHistory:
    """The last turns of a conversation. Not thread-safe; owned by the responder thread.

    The file (JSON, readable only by its owner) contains only turns whose playback has ended. Otherwise, after a restart
    during a reply, the file would contain text that was not heard.

    Args:
        turns: The number of turns in a request.
        forget_after_seconds: The age at which a turn is forgotten.
        path: The file; ``None``: the turns are kept only in memory.
        now: Returns the time in seconds since 1970.
    """

    def __init__(
        self, turns: int, forget_after_seconds: float, path: Path | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self._count, self._forget_after_seconds = turns, forget_after_seconds
        self._path, self._now = path, now
        # One more turn than is sent, so that enough turns remain after forget() has removed the last turn.
        self._turns: deque[ChatTurn] = deque(maxlen=turns + 1)
        self._failure = RepeatedWarning(log)

    def load(self) -> None:
        """Read the turns from the file. A missing file is ignored; an unusable file causes a warning."""
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                document = parse_json(file.read(MAX_MESSAGE_BYTES))
            items: Any = document.get("turns") if isinstance(document, dict) else None
            turns = [
                ChatTurn(_FROM_DISK, float(item["at"]), str(item["question"]), str(item["reply"]), is_played=True)
                for item in items or ()
            ]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("history: not read, path=%s, %s", self._path, type(error).__name__)
            return
        self._turns.extendleft(reversed(turns[-self._count :] if self._count else []))

    def messages(self) -> list[dict[str, object]]:
        """Return the turns as messages of a chat request, and forget turns that are too old."""
        oldest = self._now() - self._forget_after_seconds
        if any(each.at < oldest for each in self._turns):
            self._replace([each for each in self._turns if each.at >= oldest])
        messages: list[dict[str, object]] = []
        for each in [*self._turns][-self._count :] if self._count else []:
            messages += [{"role": "user", "content": each.question}, {"role": "assistant", "content": each.reply}]
        return messages

    def append(self, turn: int, question: str, reply: str) -> None:
        """Add a turn whose reply has ended. Its playback may still be in progress."""
        self._turns.append(ChatTurn(turn, self._now(), question, reply))

    def forget(self, turn: int) -> None:
        """Remove a turn if it is the last one."""
        if self._turns and self._turns[-1].turn == turn:
            self._turns.pop()

    def correct(self, turn: int, played_text: str | None) -> None:
        """Replace the reply of a turn by the part that was heard, and write the file.

        Args:
            turn: The number of the turn.
            played_text: The text that was heard; ``None``: the whole reply. An empty text removes the turn.
        """
        turns = [
            each._replace(reply=each.reply if played_text is None else played_text, is_played=True)
            if each.turn == turn
            else each
            for each in self._turns
        ]
        if turns != [*self._turns]:
            self._replace([each for each in turns if each.reply])

    def clear(self) -> None:
        """Forget all turns. Keeps the file."""
        self._turns.clear()

    def _replace(self, turns: list[ChatTurn]) -> None:
        self._turns.clear()
        self._turns.extend(turns)
        if self._path is None:
            return
        items = [
            {"at": each.at, "question": each.question, "reply": each.reply} for each in self._turns if each.is_played
        ]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with AtomicFile(self._path) as file:
                os.fchmod(file.file.fileno(), 0o600)
                file.file.write(json.dumps({"turns": items}).encode("ascii"))
                file.commit()
        except OSError as error:
            self._failure.warn("history: lost at the next restart, path=%s, %s", self._path, error.strerror)
        else:
            self._failure.resolved("history: written again, path=%s", self._path)


def delete_history(path: Path | None) -> None:
    """Delete the file of an earlier history. A failure causes a warning."""
    if path is None:
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("history: not deleted, path=%s, %s", path, error.strerror)
