from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.frontends.api.api import Api, Caller
from agent.frontends.api.caller import ProgramConnection
from agent.frontends.api.described import EVENTS
from agent.frontends.api.errors import ID_CONFLICT, UNAVAILABLE, UNKNOWN_UTTERANCE
from agent.frontends.api.hub import MAX_TEXTS, TextTimeouts
from agent.pipeline.actions import Record
from agent.pipeline.events import (
    Announce,
    Cancel,
    Event,
    Heard,
    Hush,
    Kept,
    ListenNow,
    MicrophoneMute,
    Mute,
    NearMiss,
    Reload,
    Stored,
    TextComplete,
    TextPiece,
    Volume,
)
from agent.pipeline.history import Claim, HistoryRecord
from agent.pipeline.status import CurrentUtterance, Status
from agent.pipeline.utterance import Delivery, Urgency, Utterance
from agent.system.text import MAX_TEXT_CHARACTERS

STATUS = Status("ready to speak", "idle", (), 80)


class Memory:
    """A history with given records. Ids that are claimed are remembered as queued."""

    def __init__(self, *records: HistoryRecord) -> None:
        self._records = {record.id: record for record in records}
        self.released: list[str] = []

    def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
        record = self._records.get(utterance.id)
        answer(Claim(record, record is not None and record.text != utterance.text))

    def release(self, utterance: str) -> None:
        self.released.append(utterance)

    def read_history(self, limit: int, answer: Callable[[list[HistoryRecord]], None]) -> None:
        answer([*self._records.values()][:limit])


def remembered(name: str, state: str, text: str) -> HistoryRecord:
    ended_at = None if state == "queued" else 12.5
    return HistoryRecord(name, state, "", "control", "message", 0, 10.0, 11.0, ended_at, 1.25, ("fish",), text)


class Program:
    """A program with a lasting connection. Collects what it receives."""

    def __init__(self, **options: Any) -> None:
        self.events: list[Event] = []
        self.api = Api(self.events.append, **options)
        self.api.notify(STATUS)
        self.received: list[Any] = []
        self.woken = 0
        self.connection = self.api.connect(lambda line: self.received.append(json.loads(line)), self._wake)
        self.caller = Caller("test", True, True, self.connection)

    def _wake(self) -> None:
        self.woken += 1

    def send(self, method: str, caller: Caller | None = None, /, **params: object) -> list[Any]:
        """Send a request; return the responses so far, which a deferred response joins later."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        responses: list[Any] = []
        is_answered = self.api.call(
            json.dumps(request).encode(), caller or self.caller, lambda line: responses.append(json.loads(line))
        )
        assert is_answered
        return responses

    def result(self, method: str, caller: Caller | None = None, /, **params: object) -> Any:
        (response,) = self.send(method, caller, **params)
        assert response.keys() == {"jsonrpc", "id", "result"}, response
        return response["result"]

    def error(self, method: str, caller: Caller | None = None, /, **params: object) -> tuple[int, str]:
        (response,) = self.send(method, caller, **params)
        error = response["error"]
        return error["code"], error["message"]

    def taken(self) -> list[Any]:
        """The events of the subscription."""
        subscription = self.connection.subscription
        assert subscription is not None
        return [json.loads(line)["params"] for line in subscription.take()]


def test_say_is_reported_with_all_its_options() -> None:
    program = Program()
    options = {"ttl_seconds": 5, "volume": 40, "voice": "anna", "keep": False, "repeat_after_restart": True}
    result = program.result("say", text="hello", priority="important", id="a-1", **options)
    assert result == {"id": "a-1", "durable": False}
    (announced,) = program.events
    assert isinstance(announced, Announce)
    utterance = announced.utterance
    assert (utterance.id, utterance.text, utterance.source) == ("a-1", "hello", "test")
    assert (utterance.urgency, utterance.priority) == (Urgency.IMPORTANT, 0)
    assert utterance.delivery._asdict() == {**options, "chime": None, "service": None}


def test_priority_is_a_name_or_the_rank_of_a_message() -> None:
    program = Program()
    for priority in ("notification", "message", -100, 100):
        program.result("say", text="hello", priority=priority)
    said = [event.utterance for event in program.events if isinstance(event, Announce)]
    assert [(each.urgency.value, each.priority) for each in said] == [
        ("notification", 0),
        ("message", 0),
        ("message", -100),
        ("message", 100),
    ]


def test_say_is_answered_after_the_commit() -> None:
    program = Program(history=Memory())
    responses = program.send("say", text="hello", id="a")
    assert responses == [] and isinstance(program.events[0], Announce)
    program.api.notify(Stored("a", True))
    assert responses[0]["result"] == {"id": "a", "durable": True}
    program.api.notify(Stored("a", True))
    assert len(responses) == 1


def test_say_is_answered_if_the_utterance_ends_or_the_daemon_stops_before_the_commit() -> None:
    program = Program(history=Memory())
    ends: list[Callable[[], None]] = [
        lambda: program.api.notify(Record(Utterance("a", "hello"), "failed", "x")),
        program.api.close,
    ]
    for end in ends:
        responses = program.send("say", text="hello", id="a")
        end()
        assert responses[0]["result"] == {"id": "a", "durable": False}


def test_announcement_that_is_kept_for_the_next_start_has_no_end() -> None:
    program = Program()
    program.result("say", text="hello", id="a", wait=True)
    program.api.notify(Kept("a"))
    program.api.close()
    assert program.received == [] and not program.connection.is_waiting


def test_known_id_is_not_announced_again() -> None:
    program = Program(history=Memory(remembered("a", "played", "Dinner."), remembered("b", "queued", "Lunch.")))
    record = program.result("say", text="Dinner.", id="a", wait=True)["record"]
    assert (record["state"], record["seconds"], record["services"], record["text"]) == (
        "played",
        1.25,
        ["fish"],
        "Dinner.",
    )
    assert [each["params"]["state"] for each in program.received] == ["played"]
    assert program.result("say", text="Lunch.", id="b", wait=True)["record"]["state"] == "queued"
    assert program.connection.is_waiting
    assert program.error("say", text="Breakfast.", id="a")[0] == ID_CONFLICT
    assert program.events == []


def test_cancel_of_an_unknown_utterance_is_an_error() -> None:
    program = Program(history=Memory(remembered("a", "queued", "Dinner.")))
    program.api.notify(STATUS._replace(saying=CurrentUtterance("reply-1", "hello", 0, "reply")))
    for known in ("a", "reply-1", program.result("say.begin")["id"]):
        assert program.result("cancel", id=known) == {"id": known}
    assert program.error("cancel", id="b")[0] == UNKNOWN_UTTERANCE


def test_history_is_read_in_pages_of_bounded_size() -> None:
    program = Program(history=Memory(*(remembered(f"{number}", "played", "x" * 600) for number in range(200))))
    ids: list[str] = []
    pages = 0
    more = True
    while more:
        response = program.send("history", offset=len(ids))[0]
        assert len(json.dumps(response)) < 64 * 1024
        ids += [record["id"] for record in response["result"]["records"]]
        assert response["result"]["records"][0]["text"] == f"{'x' * 500} ..."
        more, pages = response["result"]["more"], pages + 1
    assert ids == [f"{number}" for number in range(200)] and pages > 1
    page = program.result("history", offset=3, limit=2)
    assert [record["id"] for record in page["records"]] == ["3", "4"]


def test_conflicting_id_is_not_awaited() -> None:
    program = Program(history=Memory(remembered("b", "queued", "Lunch.")))
    assert program.error("say", text="Breakfast.", id="b", wait=True)[0] == ID_CONFLICT
    assert not program.connection.is_waiting


@pytest.mark.parametrize("wait", [True, False])
def test_conflict_leaves_the_wait_of_an_earlier_request_with_the_id(wait: bool) -> None:
    program = Program(history=Memory(remembered("b", "queued", "Lunch.")))
    program.result("say", text="Lunch.", id="b", wait=True)
    assert program.error("say", text="Breakfast.", id="b", wait=wait)[0] == ID_CONFLICT
    assert program.connection.is_waiting
    program.api.notify(Record(Utterance("b", "Lunch."), "played", "", 1.0))
    assert [each["params"]["id"] for each in program.received] == ["b"]
    assert not program.connection.is_waiting


def test_history_contains_texts_for_callers_that_may_read_them() -> None:
    program = Program(history=Memory(remembered("a", "played", "Dinner."), remembered("b", "queued", "Lunch.")))
    assert [record["id"] for record in program.result("history")["records"]] == ["a", "b"]
    (record,) = program.result("history", Caller("web", False, False, None), limit=1)["records"]
    assert record["text"] is None and record["ended_at"] == 12.5


def test_end_is_sent_to_the_connection_that_waits() -> None:
    program = Program()
    program.result("say", text="hello", id="a", wait=True)
    program.result("say", text="hello", id="b")
    assert program.connection.is_waiting
    program.api.notify(Record(Utterance("b", "hello"), "played", "", 1.0))
    program.api.notify(Record(Utterance("a", "hello"), "failed", "every service is down", 0.25))
    ended = {"id": "a", "state": "failed", "reason": "every service is down", "seconds": 0.25}
    assert program.received == [{"jsonrpc": "2.0", "method": "ended", "params": ended}]
    assert not program.connection.is_waiting


def test_wait_and_subscribe_need_a_lasting_connection() -> None:
    program = Program()
    caller = program.caller._replace(connection=None)
    assert program.error("say", caller, text="hello", wait=True)[0] == -32602
    assert program.error("subscribe", caller)[0] == -32602
    assert program.events == []


def test_streamed_text_is_announced_with_its_first_words() -> None:
    program = Program()
    assert program.result("say.begin", id="a", priority=5) == {"id": "a"}
    for piece in (" \n", "One.", "", " Two."):
        assert program.result("say.append", id="a", text=piece) == {"id": "a"}
    assert program.result("say.end", id="a") == {"id": "a"}
    whole = Utterance("a", None, priority=5, source="test")
    assert program.events == [Announce(whole), TextPiece("a", "One."), TextPiece("a", " Two."), TextComplete("a")]
    assert program.error("say.append", id="a", text="more")[0] == -32003
    assert program.error("say.end", id="a")[0] == -32003


def test_streamed_text_without_words_fails_unannounced() -> None:
    program = Program()
    program.result("say.begin", id="a", wait=True)
    program.result("say.append", id="a", text=" \n")
    program.result("say.end", id="a")
    assert program.received[0]["params"]["state"] == "failed" and program.events == []


def test_streamed_text_is_completed_when_its_client_disconnects_or_sends_no_more() -> None:
    ends: list[Callable[[Program], None]] = [
        lambda program: program.api.disconnect(program.connection),
        lambda program: program.api.complete_texts(program.connection),
        lambda program: program.api.expire(),
    ]
    for end in ends:
        program = Program(timing=TextTimeouts(piece_seconds=0.0))
        program.result("say.begin", id="a")
        program.result("say.append", id="a", text="One.")
        end(program)
        assert program.events[1:] == [TextPiece("a", "One."), TextComplete("a")]
        assert not program.connection.texts


def test_streamed_text_is_cut_at_the_length_limit() -> None:
    program = Program()
    program.result("say.begin", id="a")
    for _ in range(10):
        program.result("say.append", id="a", text="x" * (MAX_TEXT_CHARACTERS // 10))
    code, message = program.error("say.append", id="a", text="y")
    assert code == -32006 and str(MAX_TEXT_CHARACTERS) in message
    assert program.events[-1] == TextComplete("a")


def test_open_texts_are_limited_and_have_distinct_ids() -> None:
    program = Program()
    program.result("say.begin", id="a")
    assert program.error("say.begin", id="a")[0] == -32001
    for _ in range(MAX_TEXTS - 1):
        program.result("say.begin")
    assert program.error("say.begin")[0] == -32006


def test_hush_and_cancel_end_a_text_without_words_at_once() -> None:
    program = Program()
    for method, params, reported in (("hush", {}, [Hush("test")]), ("cancel", {"id": "a"}, [])):
        program.events.clear()
        program.received.clear()
        program.result("say.begin", id="a", wait=True)
        program.result(method, **params)
        assert program.events == reported
        assert program.received[0]["params"] == {"id": "a", "state": "cancelled", "reason": "by test", "seconds": 0.0}


@pytest.mark.parametrize(
    ("method", "params", "event"),
    [
        ("cancel", {"id": "a"}, Cancel("a", "test")),
        ("hush", {}, Hush("test")),
        ("listen", {}, ListenNow("test")),
        ("mute", {}, Mute(True, "test")),
        ("unmute", {"device": "speaker"}, Mute(False, "test")),
        ("mute", {"device": "microphone"}, MicrophoneMute(True, "test")),
        ("unmute", {"device": "microphone"}, MicrophoneMute(False, "test")),
        ("volume", {"percent": 30}, Volume(30, "test")),
        ("reload", {}, Reload()),
    ],
)
def test_requests_are_reported_only_for_callers_with_control(
    method: str, params: dict[str, object], event: Event
) -> None:
    program = Program()
    assert program.error(method, Caller("web", True, False), **params)[0] == -32004
    assert program.events == []
    program.result(method, **params)
    assert program.events == [event]


def test_values_that_cannot_be_stored_get_a_warning() -> None:
    program = Program(storage_problem=lambda: "disk full")
    for method, params in (("volume", {"percent": 3}), ("mute", {}), ("unmute", {"device": "microphone"})):
        assert "disk full" in program.result(method, **params)["warnings"][0]


def test_text_that_is_delayed_or_not_heard_gets_the_reason() -> None:
    program = Program()
    trouble = "no speaker: waiting for any"
    program.api.notify(STATUS._replace(problems=(trouble,), muted=("speaker",)))
    for method, params in (("say", {"text": "hello"}), ("say.begin", {})):
        result = program.result(method, **params)
        assert result["troubles"] == [trouble] and "muted" in result["warnings"][0]
    program.api.notify(STATUS._replace(volume=0))
    assert "volume is 0" in program.result("say", text="hello")["warnings"][0]


def test_methods_are_refused_where_the_mode_lacks_the_device() -> None:
    program = Program()
    program.api.notify(STATUS._replace(mode="captions", volume=None))
    for method, params in (("say", {"text": "hello"}), ("say.begin", {}), ("volume", {"percent": 3}), ("mute", {})):
        assert program.error(method, **params)[0] == -32002
    program.api.notify(STATUS._replace(mode="announce", listens=False))
    for method, params in (("listen", {}), ("mute", {"device": "microphone"})):
        assert program.error(method, **params)[0] == -32002
    assert program.events == []


def test_listen_is_refused_while_the_microphone_is_muted() -> None:
    program = Program()
    program.api.notify(STATUS._replace(muted=("microphone",)))
    code, message = program.error("listen")
    assert code == UNAVAILABLE and "voice-agent unmute microphone" in message
    assert program.events == []
    program.api.notify(STATUS._replace(muted=("speaker",)))
    program.result("listen")
    assert program.events == [ListenNow("test")]


def test_options_that_cannot_be_used_are_refused() -> None:
    def problem(delivery: Delivery) -> str | None:
        return None if delivery.service == "local" else "service is one of local"

    program = Program(delivery_problem=problem)
    assert program.result("say", text="hello", service="local", chime="gong")
    assert program.error("say", text="hello", service="fish") == (-32602, "service is one of local")
    assert program.error("say.begin", service="fish") == (-32602, "service is one of local")
    assert program.error("say", text="hello", service="local", chime="file:/etc/passwd")[0] == -32602
    assert len(program.events) == 1


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"text": 3},
        {"text": ""},
        {"text": "..."},
        {"text": "\ud800"},
        {"text": "x" * (MAX_TEXT_CHARACTERS + 1)},
        {"text": "a", "loud": True},
        {"text": "a", "priority": 101},
        {"text": "a", "priority": 1.5},
        {"text": "a", "priority": True},
        {"text": "a", "priority": "urgent"},
        {"text": "a", "id": ""},
        {"text": "a", "id": "a b"},
        {"text": "a", "id": "x" * 101},
        {"text": "a", "ttl_seconds": -1},
        {"text": "a", "ttl_seconds": "soon"},
        {"text": "a", "volume": 101},
        {"text": "a", "keep": "yes"},
        {"text": "a", "wait": 1},
        {"text": "a", "voice": "a\nb"},
    ],
)
def test_invalid_parameters_of_say_are_refused(params: dict[str, object]) -> None:
    program = Program()
    code, message = program.error("say", **params)
    assert code == -32602 and message and len(message) < 300
    assert program.events == []


def test_status_counts_near_misses_by_wake_word() -> None:
    program = Program()
    assert program.result("status")["near_misses"] == {}
    for word in ("alexa", "alexa", "hey_jarvis"):
        program.api.notify(NearMiss(word, 0.6))
    assert program.result("status")["near_misses"] == {"alexa": 2, "hey_jarvis": 1}


def test_status_has_texts_only_for_a_caller_that_may_read_them() -> None:
    program = Program()
    program.api.notify(STATUS._replace(saying=CurrentUtterance("a", "a secret", 0, "test"), problems=("no speaker",)))
    answer = program.result("status")
    assert answer["saying"] == {"utterance": "a", "text": "a secret", "priority": 0, "source": "test"}
    assert (answer["status"], answer["troubles"], answer["volume"]) == ("ready to speak", ["no speaker"], 80)
    assert answer["version"] and answer["uptime_seconds"] >= 0
    assert program.result("status", Caller("web"))["saying"]["text"] == ""


def test_subscriber_receives_the_events_it_asked_for() -> None:
    program = Program()
    assert program.result("subscribe", events=["utterance", "heard"]) == {"events": ["heard", "utterance"]}
    program.api.notify(STATUS)
    program.api.notify(Announce(Utterance("a", "hello")))
    program.api.notify(Heard("what time is it"))
    assert program.woken == 1
    events = program.taken()
    assert [(event["event"], event.get("state"), event.get("words")) for event in events] == [
        ("utterance", "accepted", None),
        ("heard", None, 4),
    ]
    assert not any("text" in event for event in events)
    program.result("subscribe", events=["state"])
    program.api.notify(Heard("more"))
    program.api.notify(STATUS._replace(state="speaking"))
    assert [event["event"] for event in program.taken()] == ["state"]
    program.result("unsubscribe")
    assert program.connection.subscription is None
    assert program.error("subscribe", events=["weather"])[0] == -32602


@pytest.mark.parametrize(
    ("asks", "may", "configured", "has"),
    [
        (True, True, False, True),
        (False, True, False, False),
        (False, True, True, True),
        (False, False, True, False),
    ],
)
def test_texts_are_sent_only_to_a_caller_that_may_read_them_and_asks_or_if_configured(
    asks: bool, may: bool, configured: bool, has: bool
) -> None:
    program = Program(transcripts=lambda: configured)
    caller = program.caller._replace(may_read_texts=may)
    program.result("subscribe", caller, texts=asks)
    program.api.notify(Heard("a secret"))
    assert [event.get("text") for event in program.taken()] == ["a secret" if has else None]
    if not may:
        assert program.error("subscribe", caller, texts=True)[0] == -32004


def test_subscriber_that_does_not_read_loses_its_oldest_events_and_gets_their_number() -> None:
    program = Program()
    program.result("subscribe", events=["heard"])
    for number in range(600):
        program.api.notify(Heard("word " * number))
    events = program.taken()
    assert events[0] == {"event": "lost", "lost": 100}
    assert [event["words"] for event in events[1:]] == list(range(100, 600))
    program.api.notify(Heard("one"))
    assert [event["event"] for event in program.taken()] == ["heard"]


def test_a_disconnected_program_receives_nothing() -> None:
    program = Program()
    program.result("say", text="hello", id="a", wait=True)
    program.result("subscribe")
    subscription = program.connection.subscription
    assert subscription is not None
    program.api.disconnect(program.connection)
    program.api.notify(Record(Utterance("a", "hello"), "played", "", 1.0))
    assert program.received == [] and subscription.take() == []


def test_awaited_utterances_are_cancelled_by_the_end_of_the_daemon() -> None:
    program = Program()
    program.result("say", text="hello", id="a", wait=True)
    program.api.stop_accepting()
    assert program.error("say", text="more")[0] == -32005
    for _ in range(2):
        program.api.close()
    assert [(each["params"]["id"], each["params"]["state"]) for each in program.received] == [("a", "cancelled")]


def test_a_notification_gets_no_response_and_is_executed() -> None:
    program = Program()
    answers: list[bytes] = []
    for body in ({"method": "hush"}, {"method": "nothing"}, {"method": "say", "params": {"text": 1}}):
        request = json.dumps({"jsonrpc": "2.0", **body}).encode()
        assert not program.api.call(request, program.caller, answers.append)
    assert answers == [] and program.events == [Hush("test")]


def test_unknown_method_gets_the_standard_error() -> None:
    code, message = Program().error("speak")
    assert code == -32601 and "say" in message


def test_internal_failure_of_a_method_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> str | None:
        raise RuntimeError("a bug")

    program = Program(storage_problem=fail)
    assert program.error("mute")[0] == -32603
    assert "a bug" in caplog.text


def test_connection_without_requests_does_not_wait() -> None:
    program = Program()
    connection = program.api.connect(lambda line: None, lambda: None)
    assert isinstance(connection, ProgramConnection) and not connection.is_waiting
    assert set(EVENTS) >= {"state", "partial", "heard", "reply", "utterance", "device", "service", "underrun"}


@pytest.mark.parametrize("method", ["say.end", "cancel"])
def test_claimed_id_of_a_text_without_words_is_released(method: str) -> None:
    memory = Memory()
    program = Program(history=memory)
    program.result("say.begin", id="a")
    program.result("say.append", id="a", text="--- ")
    program.result(method, id="a")
    assert memory.released == ["a"] and [event for event in program.events if isinstance(event, Announce)] == []
    program.result("say.begin", id="b")
    program.result("say.append", id="b", text="words")
    program.result("say.end", id="b")
    assert memory.released == ["a"]


def test_claimed_id_is_released_when_too_many_texts_are_open() -> None:
    memory = Memory()
    program = Program(history=memory)
    for _ in range(MAX_TEXTS):
        program.result("say.begin")
    assert program.error("say.begin", id="a")[0] == -32006
    assert memory.released == ["a"]


def test_refused_text_in_pieces_is_not_awaited() -> None:
    program = Program(history=Memory())
    opened = [program.result("say.begin")["id"] for _ in range(MAX_TEXTS)]
    assert program.error("say.begin", id="a", wait=True)[0] == -32006
    assert program.woken == 1  # the transport may close the connection now
    for name in opened:
        program.result("say.end", id=name)
    assert not program.connection.is_waiting


def test_refused_text_in_pieces_leaves_the_wait_of_an_earlier_one_with_its_id() -> None:
    program = Program(history=Memory())
    program.result("say.begin", id="a", wait=True)
    assert program.error("say.begin", id="a", wait=True)[0] == ID_CONFLICT
    program.result("say.end", id="a")
    assert [each["params"]["id"] for each in program.received] == ["a"]


def test_end_during_a_claim_follows_the_response() -> None:
    """After a restart a program sends an announcement again while the daemon decides what becomes of it."""
    answers: list[Callable[[Claim], None]] = []

    class Slow(Memory):
        def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
            answers.append(answer)

    record = remembered("a", "interrupted", "hello")
    program = Program(history=Slow(record))
    responses = program.send("say", id="a", text="hello", wait=True)
    program.api.notify(Record(Utterance("a", "hello"), "interrupted"))
    assert program.received == [] and program.connection.is_waiting
    (answer,) = answers
    answer(Claim(record))
    assert [each["result"]["record"]["state"] for each in responses] == ["interrupted"]
    assert [each["params"]["state"] for each in program.received] == ["interrupted"]
    assert not program.connection.is_waiting


def test_program_that_leaves_while_its_end_is_held_does_not_end_the_wait_of_another_one() -> None:
    answers: list[Callable[[Claim], None]] = []

    class Slow(Memory):
        def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
            answers.append(answer)

    program = Program(history=Slow())
    ended: list[Any] = []
    other = program.api.connect(lambda line: ended.append(json.loads(line)), lambda: None)
    program.send("say", id="a", text="hello", wait=True)
    program.api.notify(Record(Utterance("a", "hello"), "played"))
    program.send("say", Caller("other", True, True, other), id="a", text="hello", wait=True)
    program.api.disconnect(program.connection)
    for answer in answers:
        answer(Claim())
    program.api.notify(Record(Utterance("a", "hello"), "cancelled"))
    assert [each["params"]["state"] for each in ended if each.get("method") == "ended"] == ["cancelled"]
    assert not program.connection.is_waiting and not other.is_waiting


@pytest.mark.parametrize("wait", [False, True])
def test_text_of_a_program_that_leaves_during_the_claim_of_its_id_is_complete(wait: bool) -> None:
    answers: list[Callable[[Claim], None]] = []

    class Slow(Memory):
        def claim(self, utterance: Utterance, answer: Callable[[Claim], None]) -> None:
            answers.append(answer)

    history = Slow()
    program = Program(history=history)
    program.send("say.begin", id="a", wait=wait)
    program.api.disconnect(program.connection)
    (answer,) = answers
    answer(Claim())
    assert history.released == ["a"] and not program.connection.is_waiting
    assert program.error("say.append", Caller("other", may_control=True), id="a", text="b")[0] == UNKNOWN_UTTERANCE
    assert program.events == []
