"""The responder that answers requests about the device itself, and passes other texts to another responder."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.responders.intents.commands import Commands
from agent.pipeline.responders.intents.device_sentences import device_sentences
from agent.pipeline.responders.intents.language import Language, find_language
from agent.pipeline.responders.intents.recognizer import recognizer_for
from agent.pipeline.responders.responder import ReplyPieces, Responder

if TYPE_CHECKING:
    from agent.pipeline.responders.intents.home_assistant import HomeAssistant

MAX_REPEATED_CHARACTERS = 4000


class IntentsResponder:
    """Carries out the requests that it recognizes, and passes every other text to another responder.

    Not thread-safe; owned by the responder thread.

    Args:
        other: The responder for every other text.
        control: The device.
        code: The language, ISO 639-1.
        home: Answers the requests for devices of the house; ``None``: the other responder gets these requests.
    """

    def __init__(self, other: Responder, control: DeviceControl, code: str, home: HomeAssistant | None = None) -> None:
        self._other, self._code, self._control = other, code, control
        self._recognizer = recognizer_for(code)
        self._last_reply = ""
        self._home, self._sentences = home, None if home is None else device_sentences(code)

    def reply(self, text: str, turn: int) -> ReplyPieces:
        intent = self._recognizer.recognize(text)
        language = find_language(self._code)
        if intent is None:
            if (yield from self._ask_home(text, language)):
                return None
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

    def correct(self, turn: int, played_text: str | None) -> None:
        self._other.correct(turn, played_text)

    def warm_up(self) -> None:
        self._recognizer.load()
        if self._sentences is not None:
            self._sentences.load()
        self._other.warm_up()

    def close(self) -> None:
        self._other.close()

    def _ask_home(self, text: str, language: Language) -> Generator[str, None, bool]:
        """Yield the answer of Home Assistant to a request for a device; return whether no other reply is needed."""
        if self._home is None or self._sentences is None or not self._sentences.matches(text):
            return False
        answer = yield from self._home.ask(text)
        if answer.problem:
            yield f"{language.reply(answer.problem)}\n\n"
        elif answer.is_known and answer.speech:
            self._last_reply = answer.speech
            yield answer.speech
        return answer.is_known and not answer.problem

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
