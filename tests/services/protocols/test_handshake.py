"""Headers, queries, keys and close codes of a WebSocket handshake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.services.protocols.handshake import (
    describe_close,
    header,
    is_permanent,
    keys_match,
    meaning_of,
    parse_target,
    retry_after_seconds,
    status_of,
    with_query,
)


class Repeated(dict):
    """Refuses to choose between repeated headers, as ``websockets.Headers`` does."""

    def __getitem__(self, name):
        raise LookupError(name)


def test_describe_close_names_the_code_its_meaning_and_the_reason_without_the_key():
    assert describe_close(1006) == "the close code 1006 (connection lost)"
    assert describe_close(1008, "bad key SESAME1\x07", "SESAME1") == (
        "the close code 1008 (policy violation) 'bad key ***\\x07'"
    )
    assert describe_close(4000) == "the close code 4000"


def test_header_ignores_the_case_of_names():
    assert header({"X-Api-KEY": "k"}, "x-api-key") == "k"
    assert header({"other": "k"}, "x-api-key") is None


def test_header_returns_nothing_for_a_repeated_header():
    assert header(Repeated({"x-api-key": "a"}), "x-api-key") is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "0"}, 0.0),
        ({"RETRY-AFTER": " 120 "}, 120.0),
        ({"Retry-After": "9" * 400}, 86400.0),
        ({"Retry-After": "Fri, 21 Nov 2025 07:28:30 GMT", "Date": "Fri, 21 Nov 2025 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Fri, 21 Nov 2025 07:27:00 GMT", "Date": "Fri, 21 Nov 2025 07:28:00 GMT"}, 0.0),
        ({"Retry-After": "Fri, 21 Nov 2025 07:28:30 GMT"}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_retry_after_seconds_reads_a_number_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, 86400.0) == seconds


def test_with_query_keeps_the_fields_of_the_url():
    assert with_query("wss://h/p?a=1&t=%2F", {"a": "2", "b": "x y"}) == "wss://h/p?a=1&t=%2F&b=x+y"
    assert with_query("wss://h/p", {}) == "wss://h/p"


@given(st.text())
def test_parse_target_never_raises(target):
    parse_target(target)


def test_parse_target_refuses_a_thousand_fields_and_an_invalid_host():
    assert parse_target("/p?" + "a=1&" * 1000) is None
    assert parse_target("//[") is None


def test_keys_match_compares_whole_keys():
    assert keys_match("schlüssel", "schlüssel")
    assert not keys_match("schlüsse", "schlüssel") and not keys_match(None, "k") and not keys_match("", "k")
    assert not keys_match("\ud800", "k")


def test_neuphonic_answers_403_for_more_than_the_key():
    meaning = meaning_of("neuphonic", 403)
    assert all(word in meaning.remedy for word in ("api_key", "voice", "language", "credit")) and meaning.is_permanent
    assert meaning_of("fish", 403).summary == "refused the key" == meaning_of("neuphonic", 401).summary
    assert meaning_of("neuphonic", 400) is None and meaning_of("neuphonic", None) is None


def test_status_of_accepts_only_integers_from_100_to_599():
    assert status_of({"status": 429}) == 429
    assert status_of({"code": 401, "message": "x"}) == 401
    assert [status_of({"status": odd}) for odd in (True, "401", 7, 1e3, None)] == [None] * 5
    assert is_permanent(401) and not is_permanent(429) and not is_permanent(None)
    assert not is_permanent(400), "it may concern one text"
