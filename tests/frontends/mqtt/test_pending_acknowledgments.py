"""When a message is acknowledged."""

from __future__ import annotations

from agent.frontends.mqtt.pending_acknowledgments import PendingAcknowledgments


def test_a_stored_text_is_acknowledged_at_once() -> None:
    pending = PendingAcknowledgments()
    assert pending.accept(pending.add(7), "a", is_durable=True) == [7]


def test_a_text_in_memory_is_acknowledged_at_its_end() -> None:
    pending = PendingAcknowledgments()
    assert pending.accept(pending.add(7), "a", is_durable=False) == []
    assert pending.end("b") == []
    assert pending.end("a") == [7]


def test_a_redelivery_of_a_text_in_memory_waits_as_well() -> None:
    pending = PendingAcknowledgments()
    pending.accept(pending.add(7), "a", is_durable=False)
    pending.forget_connection()
    assert pending.accept(pending.add(3), "a", is_durable=True) == []
    assert pending.end("a") == [3]


def test_acknowledgments_have_the_order_of_the_messages() -> None:
    pending = PendingAcknowledgments()
    first, second, third = pending.add(1), pending.add(2), pending.add(3)
    assert pending.finish(third) == []
    assert pending.finish(first) == [1]
    assert pending.finish(second) == [2, 3]


def test_messages_without_a_token_are_not_acknowledged() -> None:
    pending = PendingAcknowledgments()
    assert pending.finish(pending.add(0)) == []


def test_messages_of_a_lost_connection_are_not_acknowledged() -> None:
    pending = PendingAcknowledgments()
    number = pending.add(7)
    pending.forget_connection()
    assert pending.finish(number) == []
    assert pending.finish(pending.add(8)) == [8]
