"""What the conversation decides is done: its actions, on the parts."""

from __future__ import annotations

from collections.abc import Callable

from agent import journal
from agent.absence import Absence
from agent.assembly import Parts
from agent.conversation import Action, Ask, Finish, Forget, Listen, Record, Say, Silence, Speak
from agent.events import Cancelled, Event


def begin_anew(parts: Parts, by: str) -> None:
    """Nothing from before ``by`` is said or sent any more, and no connection of then is trusted. From any thread."""
    if parts.microphone is not None:
        parts.microphone.begin_anew(by)
    if parts.recognizer is not None:
        parts.recognizer.begin_anew(by)
    if parts.synthesizer is not None:
        parts.synthesizer.hush(by, renew=True)


def do(
    action: Action, parts: Parts, absence: Absence, report: Callable[[Event], None], *, transcripts: bool = False
) -> None:
    """A ``Record`` is nothing that a part could do: it means nothing here. ``transcripts``: what is said is written
    into the log."""
    match action:
        case Ask(turn, text):
            assert parts.responder is not None
            parts.responder.ask(turn, text)
        case Forget(turn):
            assert parts.responder is not None
            parts.responder.cancel(turn)
        case Speak(utterance):
            absence.begin()
            if parts.synthesizer is None:
                report(Cancelled(utterance.id, "the mode, which only listens"))
            else:
                parts.synthesizer.begin(utterance)
                if transcripts and utterance.text is not None:
                    journal.tell_text(utterance.id, utterance.text)
        case Say(utterance, text):
            if parts.synthesizer is not None:
                parts.synthesizer.say(utterance, text)
                if transcripts:
                    journal.tell_text(utterance, text)
        case Finish(utterance):
            if parts.synthesizer is not None:
                parts.synthesizer.complete(utterance)
        case Silence(by):
            if parts.synthesizer is not None:
                parts.synthesizer.hush(by)
        case Listen(open):
            if parts.recognizer is not None:
                parts.recognizer.listen(open)
        case Record():
            return
