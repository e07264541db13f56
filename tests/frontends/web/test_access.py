"""Names of the host, origins, tokens, sessions, and the limit of wrong tokens."""

from __future__ import annotations

import pytest
from support.timing import Clock

from agent.frontends.web.access import (
    ATTEMPT_SECONDS,
    ATTEMPTS,
    COOKIE,
    MAX_ADDRESSES,
    SESSION_SECONDS,
    Access,
    AttemptLimit,
    hostname,
    session_of,
)

TOKEN = "0123456789abcdef0123"


@pytest.mark.parametrize(
    ("host", "admitted"),
    [
        ("127.0.0.1:8395", True),
        ("localhost:8395", True),
        ("LOCALHOST", True),
        ("[::1]:8395", True),
        ("192.168.1.20:8395", True),
        ("kiosk.example", True),
        ("kiosk.example:443", True),
        ("evil.example", False),
        ("kiosk.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
        ("127.0.0.1@evil.example", False),
        ("localhost:99999", False),
        ("localhost/", False),
        ("local host", False),
        ("[::1", False),
    ],
)
def test_host_is_an_address_localhost_or_the_name_of_an_origin(host: str, admitted: bool) -> None:
    assert Access(TOKEN, ("https://kiosk.example",)).admits_host(host) is admitted


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("http://127.0.0.1:8395", True),
        ("https://kiosk.example", True),
        ("http://kiosk.example", False),
        ("https://kiosk.example:444", False),
        ("http://127.0.0.1:8396", False),
        ("http://localhost:8395", False),
        ("https://127.0.0.1:8395", False),
        ("null", False),
        ("", False),
    ],
)
def test_origin_is_our_own_or_in_the_list(origin: str, admitted: bool) -> None:
    assert Access(TOKEN, ("https://kiosk.example",)).admits_origin(origin, "127.0.0.1:8395") is admitted


@pytest.mark.parametrize(
    ("peer", "host", "is_forwarded", "is_local"),
    [
        ("127.0.0.1", "127.0.0.1:8395", False, True),
        ("127.0.0.1", "localhost:8395", False, True),
        ("::1", "[::1]:8395", False, True),
        ("::ffff:127.0.0.1", "localhost", False, True),
        ("127.0.0.1", "kiosk.example", False, False),
        ("127.0.0.1", "192.168.1.20:8395", False, False),
        ("127.0.0.1", "localhost:8395", True, False),
        ("192.168.1.30", "localhost:8395", False, False),
    ],
)
def test_local_caller_comes_from_this_machine_without_a_proxy(
    peer: str, host: str, is_forwarded: bool, is_local: bool
) -> None:
    assert Access(None).is_local(peer, host, is_forwarded=is_forwarded) is is_local
    assert not Access(TOKEN, is_loopback=False).is_local(peer, host, is_forwarded=is_forwarded)


def test_only_the_token_is_accepted() -> None:
    access = Access(TOKEN)
    assert access.check_token(TOKEN, "10.0.0.1")
    for wrong in ("", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), "é" * 20):
        assert not access.check_token(wrong, "10.0.0.1")
    assert not Access(None).check_token("", "10.0.0.1")


def test_session_is_random_ends_and_survives_a_restart() -> None:
    clock = Clock(1_000_000.0)
    access = Access(TOKEN, clock=clock)
    session = access.new_session()
    assert session != access.new_session()
    assert Access(TOKEN, clock=clock).check_session(session)
    clock.now += SESSION_SECONDS + 1
    assert not access.check_session(session)


@pytest.mark.parametrize("change", ["", ".", "..", "9" * 400, "1e9.x.y", "é.é.é", "\ud800"])
def test_invalid_session_is_refused(change: str) -> None:
    access = Access(TOKEN)
    end, number, signature = access.new_session().split(".")
    assert not access.check_session(change)
    assert not access.check_session(f"{int(end) + 1}.{number}.{signature}")
    assert not access.check_session(f"{end}.{number}.{change}")
    assert not Access("another token 12345").check_session(f"{end}.{number}.{signature}")
    assert not Access(None).check_session(Access(None).new_session())


def test_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    proxied = Access(TOKEN, ("https://kiosk.example", "http://kiosk.local"))
    plain, secure = Access(TOKEN).cookie("S", "localhost"), Access(TOKEN, is_secure=True).cookie("S", "localhost")
    assert plain == f"{COOKIE}=S; Path=/; Max-Age={SESSION_SECONDS}; HttpOnly; SameSite=Strict"
    assert secure == proxied.cookie("S", "kiosk.example") == f"{plain}; Secure"
    assert plain == proxied.cookie("S", "kiosk.local")


@pytest.mark.parametrize(
    ("cookies", "session"),
    [
        (f"a=b; {COOKIE}=1.2.3; c=d", "1.2.3"),
        (None, None),
        ("a=b", None),
        ("=;;;=", None),
        (f'theme={{"dark": true}}; odd; path=1; name=\u00e9 \u00e9; {COOKIE}=1.2.3', "1.2.3"),
        (f"long={'x' * 5000};{COOKIE}=1.2.3", "1.2.3"),
    ],
)
def test_session_is_read_from_the_cookies(cookies: str | None, session: str | None) -> None:
    assert session_of(cookies) == session


def test_wrong_tokens_are_limited_for_each_address() -> None:
    clock = Clock(1_000_000.0)
    limit = AttemptLimit(clock)
    for _ in range(ATTEMPTS):
        assert limit.wait_seconds("10.0.0.1") == 0.0
        limit.record_failure("10.0.0.1")
    assert limit.wait_seconds("10.0.0.1") == ATTEMPT_SECONDS
    assert limit.wait_seconds("10.0.0.2") == 0.0
    clock.now += ATTEMPT_SECONDS
    assert limit.wait_seconds("10.0.0.1") == 0.0
    limit.record_failure("10.0.0.1")
    assert limit.wait_seconds("10.0.0.1") == ATTEMPT_SECONDS
    for number in range(MAX_ADDRESSES):
        limit.record_failure(f"10.1.0.{number}")
    assert limit.wait_seconds("10.0.0.1") == 0.0


def test_right_token_counts_nothing() -> None:
    access = Access(TOKEN)
    for _ in range(ATTEMPTS + 1):
        assert access.check_token(TOKEN, "10.0.0.1")
    assert access.wait_seconds("10.0.0.1") == 0.0
    for _ in range(ATTEMPTS):
        access.check_token("wrong", "10.0.0.1")
    assert access.wait_seconds("10.0.0.1") > 0.0


@pytest.mark.parametrize("host", ["a b", "a/b", "a\\b", "a?b", "a#b", "a,b", "a:x", "a:0"])
def test_invalid_host_has_no_name(host: str) -> None:
    assert hostname(host) is None
