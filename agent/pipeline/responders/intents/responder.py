"""The responder that answers requests about the device itself, and passes everything else on."""

from __future__ import annotations

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.responders.intents.commands import Commands
from agent.pipeline.responders.intents.language import find_language
from agent.pipeline.responders.intents.recognizer import recognizer_for
from agent.pipeline.responders.responder import ReplyPieces, Responder

MAX_REPEATED_CHARACTERS = 4000


class IntentsResponder:
    """Carries out requests that it recognizes, and asks another responder about everything else.

    Not thread-safe; owned by the responder thread.

    Args:
        other: Replies to what is no request about the device.
        control: The device.
        code: The language, ISO 639-1.
    """

    def __init__(self, other: Responder, control: DeviceControl, code: str) -> None:
        self._other, self._code, self._control = other, code, control
        self._recognizer = recognizer_for(code)
        self._last_reply = ""

    def reply(self, text: str, turn: int) -> ReplyPieces:
        intent = self._recognizer.recognize(text)
        language = find_language(self._code)
        if intent is None:
            return (yield from self._pass_on(text, turn))
        if intent.name == "Repeat":
            reply = self._last_reply or language.reply("nothing_to_repeat")
        else:
            reply = self._last_reply = Commands(self._control, language, self._code).run(intent)
        if reply:
            yield reply
        return None

    def forget(self, turn: int) -> None:
        self._other.forget(turn)

    def correct(self, turn: int, heard: str | None) -> None:
        self._other.correct(turn, heard)

    def warm_up(self) -> None:
        self._recognizer.load()

    def close(self) -> None:
        self._other.close()

    def _pass_on(self, text: str, turn: int) -> ReplyPieces:
        pieces = self._other.reply(text, turn)
        spoken = ""
        try:
            while True:
                try:
                    piece = next(pieces)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
                spoken = (spoken + piece)[:MAX_REPEATED_CHARACTERS]
                yield piece
        finally:
            pieces.close()
            if spoken.strip():
                self._last_reply = spoken
