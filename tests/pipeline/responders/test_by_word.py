"""Each wake word has its responder."""

from __future__ import annotations

from agent.pipeline.responders.by_word import WordResponder
from agent.pipeline.responders.responder import ReplyPieces


class Named:
    """Replies with its name, and notes its requests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[object] = []

    def reply(self, text: str, turn: int) -> ReplyPieces:
        yield self.name
        return None

    def warm_up(self) -> None: ...

    def forget(self, turn: int) -> None:
        self.calls.append(("forget", turn))

    def correct(self, turn: int, heard: str) -> None:
        self.calls.append(("correct", turn, heard))

    def close(self) -> None:
        self.calls.append("close")


def test_word_chooses_the_responder_of_a_turn_and_of_its_corrections() -> None:
    default, other = Named("default"), Named("other")
    words = ["alexa", "hey_jarvis", ""]
    responder = WordResponder(default, {"hey_jarvis": other}, lambda: words[0])
    assert [*responder.reply("hello", 1)] == ["default"]
    words.pop(0)
    assert [*responder.reply("hello", 2)] == ["other"]
    words.pop(0)
    assert [*responder.reply("hello", 3)] == ["default"]
    responder.correct(2, "oth")
    responder.forget(1)
    responder.close()
    assert other.calls == [("correct", 2, "oth"), "close"] and default.calls == [("forget", 1), "close"]
