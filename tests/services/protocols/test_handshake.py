"""Headers, queries and keys of the upgrade request."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.services.protocols.handshake import header, read_target, retry_after_seconds, same_key, with_query


class Several(dict):
    def __getitem__(self, name):
        raise LookupError(name)


def test_a_header_is_found_whatever_its_case():
    assert header({"X-Api-KEY": "k"}, "x-api-key") == "k"
    assert header({"other": "k"}, "x-api-key") is None


def test_a_header_that_is_given_several_times_is_no_header():
    assert header(Several({"x-api-key": "a"}), "x-api-key") is None


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
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers, 86400.0) == seconds


def test_what_the_url_says_is_kept_and_not_doubled():
    assert with_query("wss://h/p?a=1&t=%2F", {"a": "2", "b": "x y"}) == "wss://h/p?a=1&t=%2F&b=x+y"
    assert with_query("wss://h/p", {}) == "wss://h/p"


@given(st.text())
def test_reading_a_target_never_raises(target):
    read_target(target)


def test_a_target_of_a_thousand_fields_is_unreadable():
    assert read_target("/p?" + "a=1&" * 1000) is None
    assert read_target("//[") is None


def test_keys_are_compared_whole():
    assert same_key("schlüssel", "schlüssel")
    assert not same_key("schlüsse", "schlüssel") and not same_key(None, "k") and not same_key("", "k")
    assert not same_key("\ud800", "k")
