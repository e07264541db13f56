"""Reads text from standard input while it arrives, and passes each piece to a consumer."""

from __future__ import annotations

import codecs
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from agent.errors import AgentError, UsageError
from agent.pipeline.events import Event, UtterancePlayed
from agent.pipeline.utterance import Utterance
from agent.system.text import MAX_TEXT_CHARACTERS, has_words, remove_control_characters

_READ_BYTES = 65536


class TextConsumer(Protocol):
    """Speaks a text that arrives piece by piece: a synthesizer, or a client of the daemon. Thread-safe."""

    def begin(self, utterance: Utterance) -> None: ...

    def append_text(self, utterance: str, text: str) -> None: ...

    def complete(self, utterance: str) -> None: ...

    def cancel_all(self, by: str) -> None: ...


class TextReader(threading.Thread):
    """Reads standard input and passes the text to a consumer. Thread-safe: any thread may call ``stop``.

    The first word begins the utterance, and the end of the input completes it. If the input has no words, the utterance
    never begins, and ``UtterancePlayed`` is reported.

    ``has_begun``: whether the utterance has begun. ``error``: the reason why the input cannot be used completely.

    Args:
        consumer: Receives the text.
        utterance: The id of the utterance.
        report: Receives ``UtterancePlayed``; called by this thread.
        max_chars: Maximum length of the text in characters; a longer text cancels the utterance.
        keeps_partial: Whether the valid text before an error is spoken; used in the error message.
    """

    def __init__(
        self,
        consumer: TextConsumer,
        utterance: str,
        report: Callable[[Event], None],
        *,
        max_chars: int = MAX_TEXT_CHARACTERS,
        keeps_partial: bool = True,
    ) -> None:
        super().__init__(name="stdin")
        self.has_begun = False
        self.error: AgentError | None = None
        self._consumer, self._utterance, self._report = consumer, utterance, report
        self._max_chars, self._keeps_partial = max_chars, keeps_partial
        self._wake_read, self._wake_write = os.pipe()

    def run(self) -> None:
        self._read()
        if self.has_begun:
            self._consumer.complete(self._utterance)
        else:
            self.error = self.error or UsageError("there is nothing to say: stdin contained no words")
            self._report(UtterancePlayed(self._utterance, 0.0))

    def stop(self) -> None:
        """Stop reading immediately and wait for the thread, which may have ended already. Call it once."""
        os.write(self._wake_write, b".")
        self.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _read(self) -> None:
        """Pass on the input until its end or ``stop``; set ``error`` if it cannot be used."""
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        stdin = sys.stdin.fileno()
        chars = 0
        try:
            while self._wake_read not in select.select([stdin, self._wake_read], [], [])[0]:
                chunk = os.read(stdin, _READ_BYTES)
                text = decoder.decode(chunk, final=not chunk)
                chars += len(text)
                if chars > self._max_chars:
                    self.error = UsageError(
                        f"stdin holds more than {self._max_chars} characters, the maximum for one text. "
                        "Split it into parts."
                    )
                    # After ``error`` is set: the cancellation ends the command, which then reads ``error``.
                    self._consumer.cancel_all("the length of the text")
                    break
                self._pass_on(text)
                if not chunk:
                    break
        except UnicodeDecodeError as error:
            valid = str(error.object[: error.start], "utf-8")  # the part of this chunk before the invalid byte
            chars += len(valid)
            self._pass_on(valid)
            self.error = UsageError(
                f"stdin is not UTF-8 after {chars} characters ({error.reason}): {self._outcome()}. Convert it first."
            )
        except OSError as error:  # stdin is a directory, or a terminal that was closed
            self.error = UsageError(f"stdin cannot be read: {error.strerror}")

    def _outcome(self) -> str:
        if not self.has_begun:
            return "nothing was spoken"
        return "the text before it was spoken" if self._keeps_partial else "no file was written"

    def _pass_on(self, text: str) -> None:
        text = remove_control_characters(text)
        if not self.has_begun and has_words(text):
            self.has_begun = True
            self._consumer.begin(Utterance(self._utterance, None, source="say"))
        if self.has_begun and text:
            self._consumer.append_text(self._utterance, text)
