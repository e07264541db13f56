from __future__ import annotations

from agent.pipeline.device_control import DeviceControl
from agent.pipeline.events import Event, Volume
from agent.pipeline.responders.echo import EchoResponder
from agent.pipeline.responders.intents.responder import IntentsResponder
from agent.pipeline.responders.responder import Responder
from agent.pipeline.timers import Clock, Timers


def responder(events: list[Event], other: Responder | None = None) -> Responder:
    timers = Timers(Clock(lambda: 0.0))
    control = DeviceControl(events.append, timers, lambda saved, done: done(True), lambda: 50)
    return IntentsResponder(other or EchoResponder(), control, "en")


def test_request_is_answered_here_and_other_text_by_the_other_responder() -> None:
    events: list[Event] = []
    made = responder(events)
    made.warm_up()
    assert [*made.reply("louder", 1)] == ["The volume is 60 percent."]
    assert [type(event) for event in events] == [Volume]
    assert "".join(made.reply("the moon is far away", 2)).strip() == "the moon is far away"


def test_warm_up_reaches_the_other_responder() -> None:
    class Other(EchoResponder):
        is_warm = False

        def warm_up(self) -> None:
            self.is_warm = True

    other = Other()
    responder([], other).warm_up()
    assert other.is_warm


def test_repeat_says_the_last_reply_again() -> None:
    made = responder([])
    assert [*made.reply("repeat that", 1)] == ["I have not said anything yet."]
    [*made.reply("the moon is far away", 2)]
    assert "".join(made.reply("repeat that", 3)).strip() == "the moon is far away"
    [*made.reply("louder", 4)]
    assert [*made.reply("say that again", 5)] == ["The volume is 60 percent."]
