"""Converts the utterances of the store to rows of its table, and back."""

from __future__ import annotations

from types import UnionType
from typing import Any

from agent.pipeline.history import QUEUED, STARTED, HistoryRecord
from agent.pipeline.utterance import Delivery, Urgency

_STATES = frozenset((QUEUED, STARTED, "played", "cancelled", "failed", "expired", "dropped", "interrupted"))
_MAX_SECONDS = 1e11
"""Limit of valid times and durations. A larger value means a damaged row."""
_MAX_NUMBER = 1 << 62
_NUMBER = int | float
_ROW_TYPES: tuple[type | UnionType, ...] = (
    int,  # number
    *(str, str, str, str, str, int),  # id, state, reason, source, urgency, priority
    *(_NUMBER, _NUMBER | None, _NUMBER | None, _NUMBER),  # accepted_at, started_at, ended_at, seconds
    *(str, str | None, bytes | None, str),  # services, text, digest, delivery
    *(str, _NUMBER),  # boot_id, accepted_boot_seconds
)
_DELIVERY_TYPES = Delivery(_NUMBER | None, str | None, int | None, str | None, str | None, bool, bool)  # type: ignore[arg-type]


class Entry:
    """One utterance. Not thread-safe; owned by the thread that holds the lock of the store.

    ``digest`` is the digest of the text if a client chose the id; empty until a text that arrives in pieces is
    complete; ``None`` for other ids.
    """

    __slots__ = ("accepted_boot_seconds", "boot_id", "delivery", "digest", "number", "record")

    def __init__(
        self,
        number: int,
        record: HistoryRecord,
        digest: bytes | None,
        delivery: Delivery,
        boot_id: str,
        accepted_boot_seconds: float,
    ) -> None:
        self.number, self.record, self.digest, self.delivery = number, record, digest, delivery
        self.boot_id, self.accepted_boot_seconds = boot_id, accepted_boot_seconds


def encode_row(entry: Entry) -> tuple[Any, ...]:
    """Return the row of an entry."""
    import json  # imported late: it would delay the start

    record = entry.record
    return (
        entry.number,
        *record[:10],
        json.dumps(record.services),
        record.text,
        entry.digest,
        json.dumps(entry.delivery._asdict()),
        entry.boot_id,
        entry.accepted_boot_seconds,
    )


def decode_row(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row.

    Raises:
        ValueError: A value is damaged: this program does not write such a value.
        TypeError: A JSON value has the wrong structure, or the delivery has an unknown option.
    """
    import json

    _check(row, _ROW_TYPES)
    number, *fields, services, text, digest, delivery, boot_id, boot_seconds = row
    names = json.loads(services)
    _check(names, (str,) * len(names))
    record = HistoryRecord._make([*fields, tuple(names), text])
    options = Delivery(**json.loads(delivery))
    _check(options, _DELIVERY_TYPES)
    Urgency(record.urgency)
    if record.state not in _STATES or number > _MAX_NUMBER:
        raise ValueError(f"unknown state or number: {record.state}, {number}")
    return Entry(number, record, digest, options, boot_id, boot_seconds)


def _check(values: tuple[Any, ...], types: tuple[Any, ...]) -> None:
    for value, expected in zip(values, types, strict=True):
        if not isinstance(value, expected) or (isinstance(value, float) and not abs(value) < _MAX_SECONDS):
            raise ValueError(f"unexpected value: {value!r:.60}")
