"""Text from stdin as it is written, on its way to whoever says it."""

from __future__ import annotations

import codecs
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from agent.errors import AgentError, UsageError
from agent.pipeline.events import Event, Utterance, UtterancePlayed
from agent.system.text import without_controls


class Says(Protocol):
    """Whoever says a text that comes piece by piece: a synthesizer, or a daemon that has one."""

    def begin(self, utterance: Utterance) -> None: ...

    def append_text(self, utterance: str, text: str) -> None: ...

    def complete(self, utterance: str) -> None: ...

    def hush(self, by: str) -> None: ...


class TextReader(threading.Thread):
    """Reads stdin as it comes and hands it on: the first words begin the utterance, the end of the file
    completes it. Where no words come, or what comes is no text, ``error`` says so, and ``Spoken`` is reported for an
    utterance that never began. ``kept``: what has been handed on stays said where the rest is no text. ``stop`` ends
    the reading at once; safe after its end."""

    def __init__(
        self, says: Says, utterance: str, longest: int, report: Callable[[Event], None], *, kept: bool = True
    ) -> None:
        super().__init__(name="stdin")
        self.begun = False
        self.error: AgentError | None = None
        self._says, self._utterance, self._longest = says, utterance, longest
        self._report = report
        self._kept = kept
        self._wake, self._stopped = os.pipe()

    def run(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("strict")
        stdin = sys.stdin.fileno()
        total = 0
        try:
            while True:
                ready = select.select([stdin, self._wake], [], [])[0]
                if self._wake in ready:
                    break
                chunk = os.read(stdin, 65536)
                text = decoder.decode(chunk, final=not chunk)
                total += len(text)
                if total > self._longest:
                    raise UsageError(
                        f"more than {self._longest} characters came on stdin, and no more are spoken at once: "
                        "say it in parts"
                    )
                self._hand_on(text)
                if not chunk:
                    break
        except UnicodeDecodeError as error:
            good = str(error.object[: error.start], "utf-8")  # what came in one piece with the bad byte
            total += len(good)
            self._hand_on(good)
            fate = "what came before was said" if self.begun and self._kept else "nothing was kept"
            self.error = UsageError(
                f"stdin is not UTF-8 after {total} characters ({error.reason}): "
                f"{fate if self.begun else 'nothing was said'}; convert it"
            )
        except OSError as error:  # a directory, or a terminal that has gone
            self.error = UsageError(f"stdin cannot be read: {error.strerror}")
        except UsageError as error:
            self.error = error
            self._says.hush("the length of the text")
        if self.begun:
            self._says.complete(self._utterance)
        else:
            self.error = self.error or UsageError("there is nothing to say: stdin held no words")
            self._report(UtterancePlayed(self._utterance, 0.0))

    def _hand_on(self, text: str) -> None:
        text = without_controls(text)
        if not self.begun and text.strip():
            self.begun = True
            self._says.begin(Utterance(self._utterance, None, source="say"))
        if self.begun and text:
            self._says.append_text(self._utterance, text)

    def stop(self) -> None:
        os.write(self._stopped, b".")
        self.join()
        os.close(self._wake)
        os.close(self._stopped)
