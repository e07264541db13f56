"""Work slots: never more workers than slots, and each in its turn."""

from __future__ import annotations

import threading

import pytest
from support.timing import poll_until

from agent.server.work_slots import WorkSlots


@pytest.mark.parametrize(("count", "threads"), [(1, 8), (2, 16), (4, 3)])
def test_at_most_count_threads_work_at_the_same_time(count: int, threads: int) -> None:
    slots, lock = WorkSlots(count), threading.Lock()
    working, most, total = 0, 0, 0

    def work() -> None:
        nonlocal working, most, total
        for _ in range(50):
            with slots:
                with lock:
                    working += 1
                    most = max(most, working)
                with lock:
                    working -= 1
                    total += 1

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert total == 50 * threads and most <= count


@pytest.mark.parametrize("clients", [2, 8])
def test_thread_that_returns_does_not_overtake_the_waiting_ones(clients: int) -> None:
    slots, order = WorkSlots(1), []

    def work(name: int) -> None:
        for _ in range(5):
            with slots:
                order.append(name)

    workers = [threading.Thread(target=work, args=(name,)) for name in range(clients)]
    with slots:
        for number, worker in enumerate(workers, 1):
            worker.start()
            poll_until(lambda number=number: slots.waiting == number)  # type: ignore[misc]
    for worker in workers:
        worker.join(30)
    assert order[:clients] == list(range(clients)) and len(order) == 5 * clients


def test_urgent_thread_enters_before_the_waiting_ones() -> None:
    slots, order = WorkSlots(1), []

    def work(name: str) -> None:
        with slots.urgent() if name.startswith("urgent") else slots:
            order.append(name)

    names = ("first", "second", "urgent first", "urgent second")
    workers = [threading.Thread(target=work, args=(name,)) for name in names]
    with slots:
        for number, worker in enumerate(workers, 1):
            worker.start()
            poll_until(lambda number=number: slots.waiting == number)  # type: ignore[misc]
    for worker in workers:
        worker.join(30)
    assert order == ["urgent first", "urgent second", "first", "second"]


def test_slot_is_free_again_after_an_error() -> None:
    slots = WorkSlots(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), slots:
            raise ValueError("x")
