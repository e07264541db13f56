from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from agent.errors import ServiceError
from agent.pipeline.events import Event, Reply, ReplyEnded, WorkerCrashed
from agent.pipeline.responders import command
from agent.pipeline.responders.command import CommandResponder
from agent.pipeline.responders.echo import EchoResponder
from agent.pipeline.responders.responder import ReplyPieces, Responder
from agent.pipeline.responders.worker import MAX_REPLY_CHARACTERS, ResponderWorker
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0


class Scripted:
    """Answers that wait for the test: each piece is given when the test puts it, an exception is raised."""

    def __init__(self) -> None:
        self.pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        self.asked = threading.Event()
        self.broken_off = threading.Event()
        self.closed = 0

    def reply(self, text: str, turn: int) -> ReplyPieces:
        self.asked.set()
        try:
            yield from self._pieces()
        except GeneratorExit:
            self.broken_off.set()
            raise

    def _pieces(self) -> Generator[str, None, None]:
        while True:
            try:
                piece = self.pieces.get(timeout=0.05)
            except queue.Empty:
                yield ""
                continue
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def close(self) -> None:
        self.closed += 1


class Inbox:
    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.put = self._events.put

    def next(self) -> Event:
        return self._events.get(timeout=TIMEOUT_SECONDS)

    def rest(self) -> list[Event]:
        found = []
        while not self._events.empty():
            found.append(self._events.get())
        return found


@contextmanager
def running(answers: Responder, first_word_seconds: float | None = None) -> Iterator[tuple[ResponderWorker, Inbox]]:
    inbox = Inbox()
    responder = ResponderWorker(answers, inbox.put, first_word_seconds=first_word_seconds)
    responder.start()
    try:
        yield responder, inbox
    finally:
        responder.abort()
        assert responder.join(Deadline(TIMEOUT_SECONDS))


def test_every_question_gets_its_pieces_and_one_end() -> None:
    with running(EchoResponder()) as (responder, inbox):
        responder.ask(1, "One. Two.")
        responder.ask(2, "Three")
        assert [inbox.next() for _ in range(5)] == [
            Reply(1, "One."), Reply(1, "Two."), ReplyEnded(1), Reply(2, "Three"), ReplyEnded(2),
        ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "   \n\t"])
def test_nothing_heard_is_nothing_asked(text: str) -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, text)
        assert inbox.next() == ReplyEnded(1)
        assert not answers.asked.is_set()


def test_a_foreseen_error_ends_the_answer_with_its_sentence_and_the_next_is_answered() -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, "x")
        answers.pieces.put("Half.")
        answers.pieces.put(ServiceError("openai", "it broke off"))
        assert [inbox.next(), inbox.next()] == [Reply(1, "Half."), ReplyEnded(1, "openai: it broke off")]
        responder.ask(2, "y")
        answers.pieces.put(None)
        assert inbox.next() == ReplyEnded(2)


def test_an_answer_whose_first_word_does_not_come_is_given_up() -> None:
    """The configuration had a time for it that nobody looked at."""
    answers = Scripted()
    with running(answers, first_word_seconds=0.2) as (responder, inbox):
        responder.ask(1, "x")
        answers.pieces.put(" \n")  # no word
        assert inbox.next() == ReplyEnded(1, "the first word of the answer did not come within 0.2 s")
        assert answers.broken_off.wait(TIMEOUT_SECONDS)


def test_once_the_first_word_is_there_the_rest_has_its_time() -> None:
    class Slow(Scripted):
        def reply(self, text: str, turn: int) -> ReplyPieces:
            yield "One."
            for _ in range(10):
                yield from [""]
                self.asked.wait(0.1)
            yield "Two."

    with running(Slow(), first_word_seconds=0.3) as (responder, inbox):
        responder.ask(1, "x")
        assert [inbox.next(), inbox.next(), inbox.next()] == [Reply(1, "One."), Reply(1, "Two."), ReplyEnded(1)]


def test_an_error_that_nobody_foresaw_ends_the_thread_and_is_told() -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, "x")
        answers.pieces.put(ZeroDivisionError())
        died = inbox.next()
        assert isinstance(died, WorkerCrashed) and died.worker == "responder"
    assert answers.closed == 1


def test_a_cancelled_turn_is_silent_from_then_on_and_still_ends_once() -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, "x")
        answers.pieces.put("Heard.")
        assert inbox.next() == Reply(1, "Heard.")
        responder.cancel(1)
        answers.pieces.put("Not heard.")
        assert inbox.next() == ReplyEnded(1)
        assert answers.broken_off.wait(TIMEOUT_SECONDS)
        assert inbox.rest() == []


def test_a_turn_that_is_cancelled_while_it_waits_is_never_asked() -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, "x")
        responder.ask(2, "y")
        responder.cancel(2)
        assert answers.asked.wait(TIMEOUT_SECONDS)
        answers.asked.clear()
        answers.pieces.put(None)
        assert [inbox.next(), inbox.next()] == [ReplyEnded(1), ReplyEnded(2)]
        assert not answers.asked.is_set()


def test_cancelling_what_has_ended_or_was_never_asked_changes_nothing() -> None:
    with running(EchoResponder()) as (responder, inbox):
        responder.cancel(1)
        responder.ask(1, "One")
        assert [inbox.next(), inbox.next()] == [Reply(1, "One"), ReplyEnded(1)]
        responder.cancel(1)
        responder.ask(2, "Two")
        assert [inbox.next(), inbox.next()] == [Reply(2, "Two"), ReplyEnded(2)]


def test_stop_lets_what_was_asked_be_answered() -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, "x")
        responder.ask(2, "y")
        responder.stop()
        responder.stop()
        for piece in ("One", None, "Two", None):
            answers.pieces.put(piece)
        assert [inbox.next() for _ in range(4)] == [
            Reply(1, "One"), ReplyEnded(1), Reply(2, "Two"), ReplyEnded(2),
        ]  # fmt: skip
        assert responder.join(Deadline(TIMEOUT_SECONDS))
        responder.ask(3, "too late")
        late = inbox.next()
        assert isinstance(late, ReplyEnded) and late.turn == 3 and late.error
    assert answers.closed == 1


def test_abort_breaks_off_and_every_question_still_ends_once() -> None:
    answers = Scripted()
    with running(answers) as (responder, inbox):
        responder.ask(1, "x")
        responder.ask(2, "y")
        assert answers.asked.wait(TIMEOUT_SECONDS)
        responder.abort()
        responder.abort()
        assert responder.join(Deadline(TIMEOUT_SECONDS))
        ended = inbox.rest()
    assert [event.turn for event in ended if isinstance(event, ReplyEnded) and event.error] == [1, 2]


def test_a_hanging_program_is_ended_by_a_cancel_within_a_second_or_so() -> None:
    """On a machine that has nothing else to do; on any, long before the program ends or its time is over."""
    with running(CommandResponder(command.Settings(("sleep", "600")), 600.0)) as (responder, inbox):
        responder.ask(1, "x")
        responder.cancel(1)
        began = time.monotonic()
        assert inbox.next() == ReplyEnded(1)
        assert time.monotonic() - began < 30


def test_it_goes_round_its_loop_while_a_slow_answer_is_awaited() -> None:
    answers = Scripted()
    with running(answers) as (responder, _):
        responder.ask(1, "x")
        assert answers.asked.wait(TIMEOUT_SECONDS)
        deadline = Deadline(TIMEOUT_SECONDS)
        before = responder.heartbeats
        while responder.heartbeats < before + 3 and not deadline.is_expired:
            assert not answers.broken_off.wait(0.02)
        assert responder.heartbeats >= before + 3


def test_control_characters_are_not_spoken() -> None:
    with running(EchoResponder()) as (responder, inbox):
        responder.ask(1, "\x1b]0;fake\x07\0 a\tb \x9b")
        assert inbox.next() == Reply(1, "]0;fake a b ")


def test_an_endless_answer_is_cut_off() -> None:
    program = f"print('word ' * {MAX_REPLY_CHARACTERS})"
    endless = CommandResponder(command.Settings((sys.executable, "-c", program), 1_048_576), TIMEOUT_SECONDS)
    with running(endless) as (responder, inbox):
        responder.ask(1, "x")
        length = 0
        while isinstance(event := inbox.next(), Reply):
            length += len(event.text)
        assert length <= MAX_REPLY_CHARACTERS
        assert isinstance(event, ReplyEnded) and event.error is not None and "65536 characters" in event.error
