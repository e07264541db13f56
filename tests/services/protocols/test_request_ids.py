"""Messages of another context or request never reach an utterance, in whatever order the service mixes them."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator, Sequence

import pytest

from agent.services.protocols import neuphonic, playai, vachana
from agent.services.protocols.codec import Audio, Client, End, Event, Failure, Flush, Message, Text
from agent.services.protocols.request_ids import MAX_HELD_BYTES, RequestIds

OWN, FOREIGN = "req_own", "req_foreign"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def asked(name: str, request_id: str | None = OWN) -> Client:
    """A client that has sent its only passage and its end mark."""
    codec: Client
    if name == "neuphonic":
        codec = neuphonic.Client("wss://h/speak/en")
    elif name == "vachana":
        codec = vachana.Client("wss://h/api/v1/tts")
    else:
        codec = playai.Client("wss://h/?token=t", "voice", request_ids=lambda: OWN)
    for event in (Text("Hello.", request_id), Flush(request_id), End()):
        codec.send(event)
    return codec


def neuphonic_messages(context: str | None, data: bytes) -> list[Message]:
    fields = {} if context is None else {"context_id": context}
    return [
        json.dumps({"data": {"audio": encoded(data[:2]), "stop": False, **fields}}),
        json.dumps({"data": {"audio": encoded(data[2:]), "stop": False, **fields}}),
        json.dumps({"data": {"audio": "", "stop": True, **fields}}),
    ]


def vachana_messages(request_id: str, data: bytes) -> list[Message]:
    audio = {"type": "audio", "request_id": request_id}
    return [
        json.dumps({"type": "start", "request_id": request_id, "message": "x"}),
        json.dumps({**audio, "data": {"audio": encoded(data[:2])}}),
        json.dumps({"type": "complete", "request_id": request_id, "data": {"audio": encoded(data[2:])}}),
    ]


def error(name: str, request_id: str) -> Message:
    fields = {"context_id" if name == "neuphonic" else "request_id": request_id}
    return json.dumps({"type": "error", "message": "out of memory", "status": 500, **fields})


MESSAGES: dict[str, Callable[[str, bytes], list[Message]]] = {
    "neuphonic": neuphonic_messages,
    "vachana": vachana_messages,
}


def mixed(own: Sequence[Message], foreign: Sequence[Message]) -> Iterator[list[Message]]:
    """Every order in which the messages of both can arrive."""
    for places in itertools.combinations(range(len(own) + len(foreign)), len(own)):
        order, mine, other = [], iter(own), iter(foreign)
        for place in range(len(own) + len(foreign)):
            order.append(next(mine if place in places else other))
        yield order


def receive_all(codec: Client, messages: Sequence[Message]) -> tuple[list[Event], list[Failure]]:
    """What the codec returns, with adjacent audio joined, and the refusals apart."""
    events: list[Event] = []
    refused: list[Failure] = []
    for message in messages:
        for event in codec.receive(message):
            if isinstance(event, Failure) and not event.fatal:
                refused.append(event)
            elif isinstance(event, Audio) and events and isinstance(events[-1], Audio):
                events[-1] = Audio(events[-1].data + event.data)
            else:
                events.append(Audio(event.data) if isinstance(event, Audio) else event)
    return events, refused


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("ends_with_error", [False, True], ids=["end", "error"])
def test_messages_of_two_contexts_in_every_order_leave_the_own_utterance_whole(
    name: str, ends_with_error: bool
) -> None:
    own, foreign = MESSAGES[name](OWN, b"ownown"), MESSAGES[name](FOREIGN, b"strange")
    if ends_with_error:
        foreign = [*foreign[:-1], error(name, FOREIGN)]
    for order in mixed(own, foreign):
        events, refused = receive_all(asked(name), order)
        assert events == [Audio(b"ownown"), Flush(), End()], order
        assert len(refused) == 3 and all(each.is_foreign for each in refused), order


@pytest.mark.parametrize("kind", ["end", "error"])
def test_playai_foreign_responses_at_every_place_leave_the_own_utterance_whole(kind: str) -> None:
    """Binary audio has no ID and belongs to the response that began last, so that a response stays in one piece."""
    ends = {"end": json.dumps({"type": "end", "request_id": FOREIGN}), "error": error("playai", FOREIGN)}
    foreign = [json.dumps({"type": "start", "request_id": FOREIGN}), b"strange", ends[kind]]
    own = [json.dumps({"type": "start", "request_id": OWN}), b"o1", b"o2",
           json.dumps({"type": "end", "request_id": OWN})]  # fmt: skip
    for place in range(len(own) + 1):
        for stray in ends.values():
            for at in range(len(own) + 1):
                order = [*own[:at], stray, *own[at:]]
                order[place:place] = foreign
                events, refused = receive_all(asked("playai"), order)
                assert events == [Audio(b"o1o2"), Flush(OWN), End()] and len(refused) == 4, order


@pytest.mark.parametrize("name", MESSAGES)
def test_end_of_another_context_is_ignored_if_the_client_sent_no_id(name: str) -> None:
    own, foreign = MESSAGES[name]("of-the-service", b"ownown"), MESSAGES[name](FOREIGN, b"strange")
    for place in range(1, 3):
        events, refused = receive_all(asked(name, None), [*own[:place], foreign[-1], *own[place:]])
        assert events == [Audio(b"ownown"), Flush(), End()] and len(refused) == 1


@pytest.mark.parametrize("request_id", [OWN, None])
def test_neuphonic_stop_of_a_context_is_ignored_if_the_service_names_none_for_the_own_audio(
    request_id: str | None,
) -> None:
    first, second, stop = neuphonic_messages(None, b"ownown")
    foreign = neuphonic_messages(FOREIGN, b"strange")
    events, refused = receive_all(asked("neuphonic", request_id), [first, *foreign, second, foreign[-1], stop])
    assert events == [Audio(b"ownown"), Flush(), End()] and len(refused) == 4


def test_vachana_audio_without_an_id_belongs_to_the_response_that_began_last() -> None:
    def sound(data: bytes) -> Message:
        return json.dumps({"type": "audio", "data": {"audio": encoded(data)}})

    start, _, complete = vachana_messages(OWN, b"")
    other_start, _, other_complete = vachana_messages(FOREIGN, b"")
    foreign = [other_start, sound(b"strange"), b"strange", other_complete]
    whole = [start, sound(b"o1"), b"o2", complete]
    for place in range(len(whole) + 1):
        events, _ = receive_all(asked("vachana"), [*whole[:place], *foreign, *whole[place:]])
        assert events == [Audio(b"o1o2"), Flush(), End()], place


@pytest.mark.parametrize("name", MESSAGES)
def test_a_service_that_replaces_the_ids_by_its_own_is_heard_after_a_silence(name: str) -> None:
    codec = asked(name)
    events, refused = receive_all(codec, MESSAGES[name]("of-the-service", b"ownown"))
    assert events == [] and len(refused) == 3
    assert codec.receive_timeout_seconds == 2.5
    events = [Audio(event.data) if isinstance(event, Audio) else event for event in codec.receive_timeout()]
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == b"ownown"
    assert events[-2:] == [Flush(), End()] and codec.receive_close(1000) == []


@pytest.mark.parametrize("name", MESSAGES)
def test_a_service_that_replaces_the_ids_by_its_own_may_close_at_once(name: str) -> None:
    codec = asked(name)
    receive_all(codec, MESSAGES[name]("of-the-service", b"ownown"))
    events = codec.receive_close(1000)
    assert b"".join(event.data for event in events if isinstance(event, Audio)) == b"ownown" and events[-1] == End()


@pytest.mark.parametrize("name", [*MESSAGES, "playai"])
def test_an_error_with_an_unknown_id_is_fatal_after_the_limit_for_the_first_audio(name: str) -> None:
    codec = asked(name)
    (refused,) = codec.receive(error(name, "trace-4711"))
    assert isinstance(refused, Failure) and refused.is_foreign and codec.receive_timeout_seconds is None
    (failure,) = codec.receive_timeout()
    assert isinstance(failure, Failure) and failure.fatal and "out of memory" in failure.received
    assert codec.receive_close(1006) == []


@pytest.mark.parametrize("name", [*MESSAGES, "playai"])
def test_an_error_with_an_unknown_id_before_a_close_is_fatal(name: str) -> None:
    codec = asked(name)
    codec.receive(error(name, "trace-4711"))
    failure = codec.receive_close(1000)[0]
    assert isinstance(failure, Failure) and failure.fatal and "out of memory" in failure.received


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("kind", ["end", "error"])
def test_an_end_or_error_with_an_unknown_id_leaves_later_audio_whole(name: str, kind: str) -> None:
    codec = asked(name)
    codec.receive(error(name, FOREIGN) if kind == "error" else MESSAGES[name](FOREIGN, b"")[-1])
    assert codec.receive_timeout_seconds is None  # the own audio may take longer than the silence for an adoption
    events, _ = receive_all(codec, MESSAGES[name](OWN, b"ownown"))
    assert events == [Audio(b"ownown"), Flush(), End()]


@pytest.mark.parametrize("name", MESSAGES)
def test_an_end_with_an_unknown_id_is_not_adopted(name: str) -> None:
    codec = asked(name)
    codec.receive(MESSAGES[name](FOREIGN, b"")[-1])
    assert codec.receive_timeout() == []
    (failure,) = codec.receive_close(1000)
    assert isinstance(failure, Failure) and failure.fatal and failure.status == 1000


@pytest.mark.parametrize("name", [*MESSAGES, "playai"])
def test_an_error_of_the_own_request_is_fatal_at_once(name: str) -> None:
    (failure,) = asked(name).receive(error(name, OWN))
    assert isinstance(failure, Failure) and failure.fatal and failure.status == 500


def test_held_messages_are_limited() -> None:
    ids = RequestIds()
    ids.add(OWN)
    message = "x" * (1 << 20)
    for _ in range(3 * MAX_HELD_BYTES // len(message)):
        assert ids.claim_or_reject(FOREIGN)
        ids.hold(message, FOREIGN, has_audio=True)
    assert ids.has_held and len(ids.adopt()) == MAX_HELD_BYTES // len(message)
    assert not ids.has_held and not ids.claim_or_reject(FOREIGN)


def test_only_the_first_unknown_id_with_audio_or_an_error_is_held() -> None:
    ids = RequestIds()
    ids.add(OWN)
    ids.hold("end", "a")
    assert not ids.has_held and ids.adopt() == []
    ids.hold("start", "b")
    ids.hold("audio", "b", has_audio=True)
    ids.hold("error", "c", is_error=True)
    ids.hold("rest", "b")
    assert ids.has_held_audio and not ids.has_held_error and ids.adopt() == ["start", "audio", "rest"]


@pytest.mark.parametrize("code", [1000, 1005, 1006])
@pytest.mark.parametrize("name", [*MESSAGES, "playai"])
def test_a_close_after_an_announced_start_owes_the_end(name: str, code: int) -> None:
    codec = asked(name)
    begin = (
        MESSAGES[name](OWN, b"ownown")[:2] if name in MESSAGES else [json.dumps({"type": "start", "request_id": OWN})]
    )
    receive_all(codec, begin)
    if name == "vachana" and code == 1000:
        assert codec.receive_close(code) == [End(is_marked=False)]  # as its own clients
        return
    (failure,) = codec.receive_close(code)
    assert isinstance(failure, Failure) and failure.fatal and failure.is_end_missing
