"""Headers, queries and keys of the upgrade request."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.protocols.upgrade import header, read_target, same_key, with_query


class Several(dict):
    def __getitem__(self, name):
        raise LookupError(name)


def test_a_header_is_found_whatever_its_case():
    assert header({"X-Api-KEY": "k"}, "x-api-key") == "k"
    assert header({"other": "k"}, "x-api-key") is None


def test_a_header_that_is_given_several_times_is_no_header():
    assert header(Several({"x-api-key": "a"}), "x-api-key") is None


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
