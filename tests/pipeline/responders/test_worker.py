from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from agent.errors import ServiceError
from agent.pipeline.events import Event, Reply, ReplyDelayed, ReplyEnded, WorkerCrashed
from agent.pipeline.responders import command
from agent.pipeline.responders.command import CommandResponder
from agent.pipeline.responders.echo import EchoResponder
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS, WORKING, ReplyPieces, Responder, Shortfall
from agent.pipeline.responders.worker import MAX_REPLY_CHARACTERS, WARM_UP_SECONDS, ReplyOptions, ResponderWorker
from agent.system.threads import Deadline

TIMEOUT_SECONDS = 60.0


class FakeResponder:
    """Yields each piece when the test puts it, and raises an exception from the test."""

    def __init__(self, shortfall: Shortfall | None = None) -> None:
        self.shortfall = shortfall
        self.pieces: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
        self.asked = threading.Event()
        self.cancelled = threading.Event()
        self.closed = 0
        self.forgotten: queue.SimpleQueue[int] = queue.SimpleQueue()

    def reply(self, text: str, turn: int) -> ReplyPieces:
        self.asked.set()
        try:
            yield from self._pieces()
        except GeneratorExit:
            self.cancelled.set()
            raise
        return self.shortfall

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

    def warm_up(self) -> None: ...

    def forget(self, turn: int) -> None:
        self.forgotten.put(turn)

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
def running(
    fake: Responder,
    first_word_seconds: float | None = None,
    options: ReplyOptions | None = None,
    pause_seconds: float = MAX_SILENCE_SECONDS,
) -> Iterator[tuple[ResponderWorker, Inbox]]:
    inbox = Inbox()
    responder = ResponderWorker(
        fake, inbox.put, first_word_seconds=first_word_seconds, options=options, pause_seconds=pause_seconds
    )
    responder.start()
    try:
        yield responder, inbox
    finally:
        responder.abort()
        assert responder.join(Deadline(TIMEOUT_SECONDS))


def test_each_request_gets_its_pieces_and_one_end() -> None:
    with running(EchoResponder()) as (responder, inbox):
        responder.ask(1, "One. Two.")
        responder.ask(2, "Three")
        assert [inbox.next() for _ in range(5)] == [
            Reply(1, "One."), Reply(1, "Two."), ReplyEnded(1), Reply(2, "Three"), ReplyEnded(2),
        ]  # fmt: skip


def test_responder_that_replaces_another_one_at_the_start_is_warmed_up_once() -> None:
    class Counting(EchoResponder):
        def __init__(self) -> None:
            self.warm_ups: queue.SimpleQueue[str] = queue.SimpleQueue()

        def warm_up(self) -> None:
            self.warm_ups.put("warm")

    new = Counting()
    with running(EchoResponder()) as (responder, _):
        responder.replace(new, ReplyOptions())
        new.warm_ups.get(timeout=TIMEOUT_SECONDS)
        with pytest.raises(queue.Empty):
            new.warm_ups.get(timeout=2 * WARM_UP_SECONDS)


def test_delay_of_the_first_word_is_reported_once() -> None:
    fake = FakeResponder()
    with running(fake, options=ReplyOptions(filler_seconds=0.01)) as (responder, inbox):
        responder.ask(1, "hello")
        assert inbox.next() == ReplyDelayed(1)
        fake.pieces.put("Hi.")
        fake.pieces.put(None)
        assert [inbox.next(), inbox.next()] == [Reply(1, "Hi."), ReplyEnded(1)]
        assert inbox.rest() == []


def test_delay_of_a_prepared_reply_counts_from_the_question() -> None:
    fake = FakeResponder()
    options = ReplyOptions(filler_seconds=0.01, may_prepare=lambda text: True)
    with running(fake, options=options) as (responder, inbox):
        responder.prepare(1, "hello")
        assert fake.asked.wait(TIMEOUT_SECONDS)
        threading.Event().wait(0.2)  # it would be reported by now
        assert inbox.rest() == []
        responder.ask(1, "hello")
        assert inbox.next() == ReplyDelayed(1)


def test_first_word_may_be_late_while_a_tool_works() -> None:
    class Slow(EchoResponder):
        def reply(self, text: str, turn: int) -> ReplyPieces:
            for _ in range(3):
                time.sleep(0.4)
                yield WORKING
            yield "Hi."
            return None

    with running(Slow(), first_word_seconds=1.0) as (responder, inbox):
        responder.ask(1, "hello")
        assert [inbox.next(), inbox.next()] == [Reply(1, "Hi."), ReplyEnded(1)]


@pytest.mark.parametrize("text", ["", "   \n\t"])
def test_empty_text_is_not_passed_to_the_responder(text: str) -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, text)
        assert inbox.next() == ReplyEnded(1)
        assert not fake.asked.is_set()


def test_agent_error_ends_the_reply_and_the_next_one_works() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        fake.pieces.put("Half.")
        fake.pieces.put(ServiceError("openai", "it broke off"))
        assert [inbox.next(), inbox.next()] == [Reply(1, "Half."), ReplyEnded(1, "openai: it broke off")]
        responder.ask(2, "y")
        fake.pieces.put(None)
        assert inbox.next() == ReplyEnded(2)


def test_first_word_timeout_ends_the_reply() -> None:
    fake = FakeResponder()
    with running(fake, first_word_seconds=0.2) as (responder, inbox):
        responder.ask(1, "x")
        fake.pieces.put(" \n")  # no word
        assert inbox.next() == ReplyEnded(1, "the first word of the reply did not arrive within 0.2 s")
        assert fake.cancelled.wait(TIMEOUT_SECONDS)


def test_first_word_timeout_does_not_apply_to_the_rest() -> None:
    class Slow(FakeResponder):
        def reply(self, text: str, turn: int) -> ReplyPieces:
            yield "One."
            for _ in range(10):
                yield from [""]
                self.asked.wait(0.1)
            yield "Two."
            return None

    with running(Slow(), first_word_seconds=0.3) as (responder, inbox):
        responder.ask(1, "x")
        assert [inbox.next(), inbox.next(), inbox.next()] == [Reply(1, "One."), Reply(1, "Two."), ReplyEnded(1)]


def test_unexpected_exception_is_reported_as_a_crash() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        fake.pieces.put(ZeroDivisionError())
        crash = inbox.next()
        assert isinstance(crash, WorkerCrashed) and crash.worker == "responder"
    assert fake.closed == 1


def test_cancelled_turn_reports_only_its_end() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        fake.pieces.put("Heard.")
        assert inbox.next() == Reply(1, "Heard.")
        responder.cancel(1)
        fake.pieces.put("Not heard.")
        assert inbox.next() == ReplyEnded(1)
        assert fake.cancelled.wait(TIMEOUT_SECONDS)
        assert inbox.rest() == []


def test_queued_turn_that_is_cancelled_is_not_requested() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        responder.ask(2, "y")
        responder.cancel(2)
        assert fake.asked.wait(TIMEOUT_SECONDS)
        fake.asked.clear()
        fake.pieces.put(None)
        assert [inbox.next(), inbox.next()] == [ReplyEnded(1), ReplyEnded(2)]
        assert not fake.asked.is_set()


def test_cancel_of_an_unknown_turn_has_no_effect() -> None:
    with running(EchoResponder()) as (responder, inbox):
        responder.cancel(1)
        responder.ask(1, "One")
        assert [inbox.next(), inbox.next()] == [Reply(1, "One"), ReplyEnded(1)]
        responder.cancel(1)
        responder.ask(2, "Two")
        assert [inbox.next(), inbox.next()] == [Reply(2, "Two"), ReplyEnded(2)]


def test_stop_completes_the_requested_replies() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        responder.ask(2, "y")
        responder.stop()
        responder.stop()
        for piece in ("One", None, "Two", None):
            fake.pieces.put(piece)
        assert [inbox.next() for _ in range(4)] == [
            Reply(1, "One"), ReplyEnded(1), Reply(2, "Two"), ReplyEnded(2),
        ]  # fmt: skip
        assert responder.join(Deadline(TIMEOUT_SECONDS))
        responder.ask(3, "too late")
        late = inbox.next()
        assert isinstance(late, ReplyEnded) and late.turn == 3 and late.error
    assert fake.closed == 1


def test_abort_ends_each_request_once() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        responder.ask(2, "y")
        assert fake.asked.wait(TIMEOUT_SECONDS)
        responder.abort()
        responder.abort()
        assert responder.join(Deadline(TIMEOUT_SECONDS))
        ended = inbox.rest()
    assert [event.turn for event in ended if isinstance(event, ReplyEnded) and event.error] == [1, 2]


def test_cancel_ends_a_hanging_program() -> None:
    with running(CommandResponder(command.Settings(("sleep", "600")), 600.0)) as (responder, inbox):
        responder.ask(1, "x")
        responder.cancel(1)
        began = time.monotonic()
        assert inbox.next() == ReplyEnded(1)
        assert time.monotonic() - began < 30


def test_heartbeats_continue_during_a_slow_reply() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, _):
        responder.ask(1, "x")
        assert fake.asked.wait(TIMEOUT_SECONDS)
        deadline = Deadline(TIMEOUT_SECONDS)
        before = responder.heartbeats
        while responder.heartbeats < before + 3 and not deadline.is_expired:
            assert not fake.cancelled.wait(0.02)
        assert responder.heartbeats >= before + 3


def test_control_characters_are_removed() -> None:
    with running(EchoResponder()) as (responder, inbox):
        responder.ask(1, "\x1b]0;fake\x07\0 a\tb \x9b")
        assert inbox.next() == Reply(1, "]0;fake a b")


def test_endless_reply_is_cut_at_the_limit() -> None:
    program = f"print('word ' * {MAX_REPLY_CHARACTERS})"
    endless = CommandResponder(command.Settings((sys.executable, "-c", program), 1_048_576), TIMEOUT_SECONDS)
    with running(endless) as (responder, inbox):
        responder.ask(1, "x")
        length = 0
        while isinstance(event := inbox.next(), Reply):
            length += len(event.text)
        assert length <= MAX_REPLY_CHARACTERS
        assert isinstance(event, ReplyEnded) and event.error is not None and "65536 characters" in event.error


# --- replies that are prepared before the question has ended

EARLY = ReplyOptions(may_prepare=lambda text: not text.endswith("the"), failure_reply="Not now.")


def test_prepared_reply_is_reported_when_its_question_is_asked() -> None:
    fake = FakeResponder()
    with running(fake, options=EARLY) as (responder, inbox):
        responder.prepare(1, "what time is it")
        assert fake.asked.wait(TIMEOUT_SECONDS)
        for piece in ("It is late. ", "Good night.", None):
            fake.pieces.put(piece)
        responder.prepare(2, "x")
        fake.pieces.put(None)
        responder.ask(1, "what time is it")  # its reply may have ended or not
        events = [inbox.next() for _ in range(3)]
        assert events == [Reply(1, "It is late."), Reply(1, "Good night."), ReplyEnded(1)]
        assert inbox.rest() == [] and fake.forgotten.empty()


def test_rest_of_a_prepared_reply_is_reported_after_the_question() -> None:
    fake = FakeResponder()
    with running(fake, options=EARLY) as (responder, inbox):
        responder.prepare(1, "what time is it")
        fake.pieces.put("It is late. G")
        assert fake.asked.wait(TIMEOUT_SECONDS)
        responder.ask(1, "what time is it")
        assert inbox.next() == Reply(1, "It is late.")
        responder.cancel(1)
        assert inbox.next() == ReplyEnded(1)
        assert fake.cancelled.is_set() and fake.forgotten.empty()


@pytest.mark.parametrize("has_ended", [True, False])
def test_discarded_reply_leaves_no_event_and_is_forgotten(has_ended: bool) -> None:
    fake = FakeResponder()
    with running(fake, options=EARLY) as (responder, inbox):
        responder.prepare(1, "turn on")
        fake.pieces.put("What? ")
        assert fake.asked.wait(TIMEOUT_SECONDS)
        if has_ended:
            fake.pieces.put(None)
            fake.asked.clear()
            responder.prepare(2, "the next one starts when this one has ended")
            assert fake.asked.wait(TIMEOUT_SECONDS)
            fake.pieces.put(None)
        responder.cancel(1)
        assert fake.forgotten.get(timeout=TIMEOUT_SECONDS) == 1
        responder.cancel(1)
        fake.pieces = queue.SimpleQueue()
        responder.ask(1, "turn on the light")
        fake.pieces.put("Done.")
        fake.pieces.put(None)
        assert [inbox.next(), inbox.next()] == [Reply(1, "Done."), ReplyEnded(1)]
        assert inbox.rest() == [] and fake.forgotten.empty()


def test_another_question_replaces_a_prepared_one() -> None:
    with running(EchoResponder(), options=EARLY) as (responder, inbox):
        responder.prepare(1, "One.")
        responder.prepare(1, "One, two.")
        responder.ask(1, "One, two, three.")
        assert [inbox.next(), inbox.next()] == [Reply(1, "One, two, three."), ReplyEnded(1)]
        responder.ask(2, "Four.")
        assert [inbox.next(), inbox.next()] == [Reply(2, "Four."), ReplyEnded(2)]


def test_error_of_a_prepared_reply_is_reported_with_the_question() -> None:
    fake = FakeResponder()
    with running(fake, options=EARLY) as (responder, inbox):
        responder.prepare(1, "x")
        fake.pieces.put(ServiceError("openai", "it broke off"))
        responder.ask(1, "x")
        assert [inbox.next(), inbox.next()] == [Reply(1, "Not now."), ReplyEnded(1, "openai: it broke off")]


@pytest.mark.parametrize(("options", "text"), [(EARLY, "what is the"), (ReplyOptions(), "x")])
def test_nothing_is_prepared_where_the_options_forbid_it(options: ReplyOptions, text: str) -> None:
    fake = FakeResponder()
    with running(fake, options=options) as (responder, inbox):
        responder.prepare(1, text)
        fake.pieces.put("Early.")
        fake.pieces.put(None)
        responder.ask(2, "y")
        assert [inbox.next(), inbox.next()] == [Reply(2, "Early."), ReplyEnded(2)]


OPTIONS = ReplyOptions(empty_reply="No answer.", failure_reply="Not now.")
LENGTH = Shortfall("length", "cut")
ONLY_CODE = "the reply has nothing to speak besides code, tables or hidden parts"


@pytest.mark.parametrize(
    ("pieces", "shortfall", "spoken", "end"),
    [
        ([ServiceError("openai", "busy (429)")], None, ["Not now."], ("openai: busy (429)", None)),
        ([" \n", ServiceError("openai", "refused")], None, ["Not now."], ("openai: refused", None)),
        (["Half", ServiceError("openai", "broke")], None, ["Not now."], ("openai: broke", None)),
        (["Half. Of", ServiceError("openai", "broke")], None, ["Half."], ("openai: broke", None)),
        ([], LENGTH, ["No answer."], ("cut", "length")),
        (["<think>Hm. Let", None], LENGTH, ["No answer."], ("cut", "length")),
        (["Half of", None], LENGTH, ["Half of"], ("cut", "length")),
        (["I cannot.", None], Shortfall("refusal", "no"), ["I cannot."], ("no", "refusal")),
        (["```\ncode\n```\n"], None, ["No answer."], (ONLY_CODE, "empty")),
        (["\U0001f44d"], None, [], ("the reply has nothing that a voice can pronounce", "unspeakable")),
        (["---\n", "..."], None, [], ("the reply has nothing that a voice can pronounce", "unspeakable")),
        ([], None, [], (None, None)),
        (["Fine."], None, ["Fine."], (None, None)),
    ],
)  # fmt: skip
def test_missing_answer_is_reported_and_replaced_by_a_sentence(
    pieces: list[str | BaseException],
    shortfall: Shortfall | None,
    spoken: list[str],
    end: tuple[str | None, str | None],
) -> None:
    fake = FakeResponder(shortfall)
    with running(fake, options=OPTIONS) as (responder, inbox):
        responder.ask(7, "x")
        for piece in [*pieces, None]:
            fake.pieces.put(piece)
        assert [inbox.next() for _ in spoken] == [Reply(7, sentence) for sentence in spoken]
        assert inbox.next() == ReplyEnded(7, *end)


def test_first_word_timeout_is_answered_by_the_failure_reply() -> None:
    with running(FakeResponder(), first_word_seconds=0.1, options=OPTIONS) as (responder, inbox):
        responder.ask(1, "x")
        assert inbox.next() == Reply(1, "Not now.")
        assert isinstance(inbox.next(), ReplyEnded)


def test_cancelled_reply_has_no_failure_reply() -> None:
    fake = FakeResponder()
    with running(fake, options=OPTIONS) as (responder, inbox):
        responder.ask(1, "x")
        responder.cancel(1)
        fake.pieces.put(ServiceError("openai", "broke"))
        assert inbox.next() == ReplyEnded(1)
        responder.ask(2, "y")
        responder.abort()
        assert all(isinstance(event, ReplyEnded) for event in [inbox.next(), *inbox.rest()])


def test_sentence_is_reported_while_the_reply_pauses() -> None:
    fake = FakeResponder()
    with running(fake) as (responder, inbox):
        responder.ask(1, "x")
        for piece in ("One mom", "ent. ", "**Really.**"):
            fake.pieces.put(piece)
        assert [inbox.next(), inbox.next()] == [Reply(1, "One moment."), Reply(1, "Really.")]
        fake.pieces.put(" Dr.")
        fake.pieces.put(" Who?")
        assert inbox.next() == Reply(1, "Dr. Who?")


def test_empty_piece_without_a_pause_ends_no_sentence() -> None:
    fake = FakeResponder()
    with running(fake, pause_seconds=60.0) as (responder, inbox):
        for piece in ("I use Node", ".", "", "js for that", ".", "", None):
            fake.pieces.put(piece)
        responder.ask(1, "x")
        assert [inbox.next(), inbox.next()] == [Reply(1, "I use Node.js for that."), ReplyEnded(1)]
