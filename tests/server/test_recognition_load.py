"""Admission of transcription clients: as many as recognition serves in real time."""

from __future__ import annotations

import threading

import pytest

from agent.server.recognition_load import ClientLoad, RecognitionLoad

TIMEOUT_SECONDS = 30.0


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def admitted(load: RecognitionLoad) -> ClientLoad:
    client = load.admit(0.0)
    assert client is not None
    return client


@pytest.mark.parametrize(
    ("cores", "costs", "is_admitted"),
    [
        (1, [], True),
        (1, [0.4], True),
        (1, [0.6], False),
        (1, [0.6, 0.6], True),
        (1, [0.7, 0.7], False),
        (2, [0.9], True),
        (2, [0.9, 0.9], False),
        (2, [0.1, 1.1], False),
        (4, [1.1], False),
    ],
)
def test_a_client_is_admitted_if_all_are_then_served_in_real_time(
    cores: int, costs: list[float], is_admitted: bool
) -> None:
    load = RecognitionLoad(cores)
    clients = [admitted(load) for _ in costs]
    for client, cost in zip(clients, costs, strict=True):
        load.report(client, 4.0 * cost, 4.0)
    assert (load.admit(0.0) is not None) == is_admitted


def test_the_first_audio_of_a_client_says_nothing() -> None:
    load = RecognitionLoad(1)
    load.report(admitted(load), 5.0, 0.5)
    admitted(load)


def test_old_audio_is_forgotten() -> None:
    load = RecognitionLoad(1)
    client = admitted(load)
    load.report(client, 8.0, 4.0)
    assert load.admit(0.0) is None
    for _ in range(40):
        load.report(client, 0.1, 1.0)
    admitted(load)


def test_an_idle_client_keeps_no_other_waiting() -> None:
    clock = Time()
    load = RecognitionLoad(1, clock)
    load.report(admitted(load), 8.0, 4.0)
    clock.now += 5.0
    assert load.admit(0.0) is None
    clock.now += 6.0
    admitted(load)


@pytest.mark.parametrize("is_closed", [False, True])
def test_waiting_client_is_admitted_when_another_leaves_or_the_server_ends(is_closed: bool) -> None:
    load = RecognitionLoad(1)
    first = admitted(load)
    load.report(first, 8.0, 4.0)
    results: list[ClientLoad | None] = []
    waiting = threading.Thread(target=lambda: results.append(load.admit(TIMEOUT_SECONDS)))
    waiting.start()
    if is_closed:
        load.close()
    else:
        load.leave(first)
    waiting.join(TIMEOUT_SECONDS)
    assert results[0] is not None
