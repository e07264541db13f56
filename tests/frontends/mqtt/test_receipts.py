"""When a message is acknowledged."""

from __future__ import annotations

from agent.frontends.mqtt.receipts import Receipts


def test_a_stored_text_is_acknowledged_at_once() -> None:
    receipts = Receipts()
    assert receipts.accept(receipts.add(7), "a", is_durable=True) == [7]


def test_a_text_in_memory_is_acknowledged_at_its_end() -> None:
    receipts = Receipts()
    assert receipts.accept(receipts.add(7), "a", is_durable=False) == []
    assert receipts.end("b") == []
    assert receipts.end("a") == [7]


def test_a_redelivery_of_a_text_in_memory_waits_as_well() -> None:
    receipts = Receipts()
    receipts.accept(receipts.add(7), "a", is_durable=False)
    receipts.forget_connection()
    assert receipts.accept(receipts.add(3), "a", is_durable=True) == []
    assert receipts.end("a") == [3]


def test_acknowledgments_have_the_order_of_the_messages() -> None:
    receipts = Receipts()
    first, second, third = receipts.add(1), receipts.add(2), receipts.add(3)
    assert receipts.finish(third) == []
    assert receipts.finish(first) == [1]
    assert receipts.finish(second) == [2, 3]


def test_messages_without_a_token_are_not_acknowledged() -> None:
    receipts = Receipts()
    assert receipts.finish(receipts.add(0)) == []


def test_messages_of_a_lost_connection_are_not_acknowledged() -> None:
    receipts = Receipts()
    number = receipts.add(7)
    receipts.forget_connection()
    assert receipts.finish(number) == []
    assert receipts.finish(receipts.add(8)) == [8]
