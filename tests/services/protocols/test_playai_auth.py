"""PlayAI's authorization: compared with the messages of the page, then both sides connected."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.timing import Clock

from agent.services.protocols.codec import Failure, IssuedUrl
from agent.services.protocols.playai_auth import AUTHORIZATION_PATHS, Authorization, AuthorizationServer, Tokens

AUTH_URL = "https://api.play.ai/api/v1/tts/websocket-auth"
KEY = "ak-0123456789abcdef-KEY"
USER = "user-9876"
EXPIRY = "2025-01-06T05:13:04.650Z"
URL = "wss://ws.fal.run/playht-fal/playht-tts/stream?fal_jwt_token=eyJhbGciOi.TOKEN%2B.x&b=1"


def asked(model: str = "Play3.0-mini", auth_url: str = AUTH_URL) -> Authorization:
    return Authorization(auth_url, KEY, USER, model)


def answered(body: object, status: int = 200, auth_url: str = AUTH_URL) -> IssuedUrl | Failure:
    return asked(auth_url=auth_url).receive(status, {}, json.dumps(body).encode())


def test_request_is_the_post_of_the_page() -> None:
    request = asked().request()
    assert (request.method, request.url) == ("POST", AUTH_URL)
    assert dict(request.headers) == {
        "Authorization": f"Bearer {KEY}",
        "X-User-Id": USER,
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    "body",
    [
        {"webSocketUrls": {"Play3.0-mini": URL, "PlayDialog": "wss://x/"}, "expiresAt": EXPIRY},
        {"Play3.0-mini": {"httpStreamingUrl": "https://x/", "webSocketUrl": URL}, "expiresAt": EXPIRY},
        {"websocket_urls": {"Play3.0-mini": URL}, "expires_at": EXPIRY},
        {"Play3.0-mini": {"http_streaming_url": "https://x/", "websocket_url": URL}, "expires_at": EXPIRY},
    ],
)
@pytest.mark.parametrize("status", [200, 201])
def test_receive_returns_the_url_of_every_response_format(body: object, status: int) -> None:
    grant = answered(body, status)
    assert isinstance(grant, IssuedUrl)
    assert grant.url == URL
    assert grant.expires_at == datetime(2025, 1, 6, 5, 13, 4, 650000, UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-01-06T05:13:04Z", 1736140384.0),
        ("2025-01-06T05:13:04.5Z", 1736140384.5),
        ("2025-01-06T06:13:04+01:00", 1736140384.0),
        ("2025-01-06T05:13:04", 1736140384.0),
        ("tomorrow", None),
        ("", None),
        (17, None),
        (None, None),
    ],
)
def test_expiry_is_read_as_utc(text: object, expected: float | None) -> None:
    grant = answered({"webSocketUrls": {"Play3.0-mini": URL}, "expiresAt": text})
    assert isinstance(grant, IssuedUrl)
    assert grant.expires_at == expected


def test_receive_names_the_available_models_for_an_unknown_model() -> None:
    failure = answered({"webSocketUrls": {"PlayDialog": URL, "Other\x1b[31m": URL}})
    assert isinstance(failure, Failure)
    assert failure.permanent
    assert "'PlayDialog'" in str(failure) and "Play3.0-mini" in str(failure)
    assert "\x1b" not in str(failure) and "TOKEN" not in str(failure)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{",
        b"null",
        b"{}",
        b"[" * 100000,
        b'{"webSocketUrls": []}',
        b'{"webSocketUrls": {"Play3.0-mini": 7}}',
        b'{"Play3.0-mini": {"webSocketUrl": null}}',
    ],
)
def test_receive_fails_for_a_response_without_a_url(body: bytes) -> None:
    failure = asked().receive(200, {}, body)
    assert isinstance(failure, Failure) and failure.service == "playai" and failure.fatal


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 402, 403, 404, 422])
def test_refusal_is_permanent_and_hides_the_key(status: int) -> None:
    failure = asked().receive(status, {"Location": "https://evil/"}, f'{{"error":"bad key {KEY}"}}'.encode())
    assert isinstance(failure, Failure)
    assert failure.permanent and failure.status == status
    assert KEY not in repr(failure) and str(status) in str(failure)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "api_key and user_id"),
        (402, "account"),
        (403, "api_key and user_id"),
        (404, "auth_url"),
        (429, "too many"),
        (500, "internal error"),
        (503, "internal error"),
    ],
)
def test_refusal_quotes_the_body_and_names_the_remedy(status: int, advice: str) -> None:
    body = f'{{"error":"no: \\u00e9 \x1b[31m {KEY} {URL}","token":"abc","apiKey": "def"}}'
    failure = asked().receive(status, {}, body.encode())
    assert isinstance(failure, Failure)
    assert failure.received.startswith(f'HTTP {status} to its authorization, with \'{{"error":"no: ')
    assert "\\x1b[31m *** ***" in failure.received and advice in failure.expected
    for secret in (KEY, "TOKEN", "abc", "def", "\x1b"):
        assert secret not in str(failure)


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (200, b"<!DOCTYPE html><html>Log in</html>", "login page or a proxy in between"),
        (302, b"", "login page or a proxy in between"),
        (407, b"<html>Proxy</html>", "allow direct connections"),
        (511, b"<html>Log in</html>", "login page"),
    ],
)
def test_answer_of_a_network_in_between_is_named(status: int, body: bytes, advice: str) -> None:
    failure = asked().receive(status, {}, body)
    assert isinstance(failure, Failure) and advice in failure.expected


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_refusal_promises_no_retry(status: int) -> None:
    failure = asked().receive(status, {}, b"busy")
    assert isinstance(failure, Failure) and "retr" not in str(failure) and "later" not in str(failure)


def test_refusal_with_a_binary_body_shows_its_length() -> None:
    failure = asked().receive(500, {}, b"\xff\xfe\x00")
    assert isinstance(failure, Failure) and "<3 bytes: ff fe 00>" in failure.received


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_temporary_refusal_carries_retry_after(status: int) -> None:
    failure = asked().receive(status, {"retry-after": "7"}, "busy")
    assert isinstance(failure, Failure)
    assert not failure.permanent and failure.retry_after_seconds == 7.0


@pytest.mark.parametrize(
    "url",
    [
        "ws://ws.fal.run/stream?fal_jwt_token=TOKEN",
        "https://ws.fal.run/?t=TOKEN",
        "wss:///stream?t=TOKEN",
        "TOKEN",
        "",
        "wss://me:TOKEN@ws.fal.run/",
        "wss://TOKEN@ws.fal.run/",
        "wss://ws.fal.run/\r\nX: TOKEN",
        "wss://ws.fal.run /TOKEN",
        "wss://ws.fal.run\\@evil/TOKEN",
        "wss://ws.fal.run/#TOKEN",
        "wss://ws.fal.run:0/TOKEN",
        "wss://ws.fal.run:x/TOKEN",
        "wss://[::1/TOKEN",
        "wss://h\u00f6st/TOKEN",
        "wss://ws.fal.run/" + "TOKEN" * 2000,
        "wss://127.0.0.1/TOKEN",
        "wss://localhost/TOKEN",
        "wss://LOCALHOST./TOKEN",
        "wss://a.localhost/TOKEN",
        "wss://printer.local/TOKEN",
        "wss://10.0.0.7/TOKEN",
        "wss://192.168.1.1/TOKEN",
        "wss://172.16.0.1/TOKEN",
        "wss://169.254.169.254/TOKEN",
        "wss://0.0.0.0/TOKEN",
        "wss://[::1]/TOKEN",
        "wss://[fe80::1]/TOKEN",
        "wss://[fd00::1]/TOKEN",
        "wss://[::ffff:127.0.0.1]/TOKEN",
        "wss://127.1/TOKEN",
        "wss://2130706433/TOKEN",
        "wss://0x7f.1/TOKEN",
        "wss://0x7f000001/TOKEN",
        "wss://224.0.0.1/TOKEN",
        "wss://nas/TOKEN",
        "wss://nas.lan/TOKEN",
    ],
)
def test_receive_refuses_a_private_or_invalid_url_and_hides_it(url: str) -> None:
    failure = answered({"webSocketUrls": {"Play3.0-mini": url}})
    assert isinstance(failure, Failure) and failure.fatal
    assert "TOKEN" not in repr(failure)


@pytest.mark.parametrize(
    "url",
    [
        "wss://ws.fal.run/a?b",
        "wss://ws.fal.run:8443/a",
        "wss://93.184.216.34/a",
        "wss://[2606:4700::1111]/a",
    ],
)
def test_receive_accepts_a_public_url(url: str) -> None:
    assert answered({"webSocketUrls": {"Play3.0-mini": url}}) == IssuedUrl(url)


def test_private_plaintext_auth_url_may_issue_private_plaintext_urls() -> None:
    body = {"webSocketUrls": {"Play3.0-mini": "ws://127.0.0.1:8394/stream?fal_jwt_token=T"}}
    assert isinstance(answered(body, auth_url="http://127.0.0.1:8394/api/v1/tts/websocket-auth"), IssuedUrl)
    assert isinstance(answered(body, auth_url="http://api.play.ai/"), Failure)
    assert isinstance(answered(body, auth_url="https://127.0.0.1:8394/"), Failure)


@pytest.mark.parametrize("host", ["nas", "nas.lan.", "nas.local", "NAS.fritz.box", "192.168.1.5", "[fd00::5]"])
def test_private_host_name_may_issue_a_url_with_its_address(host: str) -> None:
    body = {"webSocketUrls": {"Play3.0-mini": "ws://192.168.1.5:8394/stream"}}
    assert isinstance(answered(body, auth_url=f"http://{host}:8394/api/v1/tts/websocket-auth"), IssuedUrl)


@pytest.mark.parametrize(
    ("auth_url", "key", "user"),
    [
        ("ftp://x/", KEY, USER),
        ("https:///x", KEY, USER),
        (AUTH_URL, "a\nb", USER),
        (AUTH_URL, KEY, "a\r\nb: c"),
    ],
)
def test_authorization_raises_value_error_without_the_key(auth_url: str, key: str, user: str) -> None:
    with pytest.raises(ValueError) as caught:
        Authorization(auth_url, key, user, "m")
    assert key not in str(caught.value)


def test_events_and_repr_never_contain_key_or_token() -> None:
    grant = answered({"webSocketUrls": {"Play3.0-mini": URL}})
    tokens = Tokens(lambda: 0.0)
    server = AuthorizationServer("http://h", tokens, api_key=KEY, user_id=USER)
    for thing in (asked(), asked().request(), grant, tokens, server):
        assert KEY not in repr(thing) + str(thing) and "TOKEN" not in repr(thing) + str(thing)


@given(st.integers(), st.dictionaries(st.text(), st.text()), st.binary() | st.text())
def test_receive_never_raises(status: int, headers: dict[str, str], body: bytes | str) -> None:
    assert isinstance(asked().receive(status, headers, body), Failure)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | st.from_regex(r"wss?://[\[\]:@/.%0-9a-f]{0,12}", fullmatch=True), json_values, json_values)
def test_receive_never_raises_for_any_url_and_expiry(url: str, expiry: object, other: object) -> None:
    answer = answered({"webSocketUrls": {"Play3.0-mini": url, "x": other}, "expiresAt": expiry})
    assert isinstance(answer, IssuedUrl | Failure)
    assert isinstance(
        answered({"Play3.0-mini": other, "expires_at": expiry, "webSocketUrls": other}), IssuedUrl | Failure
    )


# --- the server


HEADERS = {"authorization": f"Bearer {KEY}", "x-user-id": USER}


def test_server_answers_the_page_path_in_the_page_format() -> None:
    server = AuthorizationServer("http://127.0.0.1:8394/", Tokens(Clock(1_750_000_000.0)), api_key=KEY, user_id=USER)
    for path in ("/api/v1/websocket-auth", "/api/v1/tts/websocket-auth?x=1"):
        status, headers, body = server.receive("POST", path, HEADERS)
        answer = json.loads(body)
        assert status == 200 and headers["Content-Type"] == "application/json"
        assert set(answer) == {"webSocketUrls", "expiresAt"}
        assert answer["webSocketUrls"]["Play3.0-mini"].startswith("ws://127.0.0.1:8394/playht-fal/")


def test_server_answers_pyht_with_both_urls_and_a_fractional_expiry() -> None:
    server = AuthorizationServer("https://box", Tokens(Clock(1_750_000_000.0)))
    status, _, body = server.receive("POST", "/api/v4/sdk-auth", {})
    answer = json.loads(body)
    assert status in (200, 201)
    datetime.strptime(answer["expires_at"], "%Y-%m-%dT%H:%M:%S.%fZ")
    for model in ("Play3.0-mini", "PlayDialog", "PlayDialogMultilingual", "PlayDialogArabic"):
        assert answer[model]["http_streaming_url"].startswith("https://box/")
        assert answer[model]["websocket_url"].startswith("wss://box/")


@pytest.mark.parametrize("path", AUTHORIZATION_PATHS)
@pytest.mark.parametrize("model", ["Play3.0-mini", "PlayDialog"])
def test_client_reads_the_response_of_every_server_path(path: str, model: str) -> None:
    clock = Clock(1_750_000_000.0)
    tokens = Tokens(clock)
    server = AuthorizationServer("http://127.0.0.1:8394", tokens, api_key=KEY, user_id=USER)
    client = asked(model, "http://127.0.0.1:8394" + path)
    request = client.request()
    grant = client.receive(*server.receive(request.method, path, request.headers))
    assert isinstance(grant, IssuedUrl)
    assert grant.expires_at == pytest.approx(clock.now + 3600)
    assert tokens.accepts(parse_qs(urlsplit(grant.url).query)["fal_jwt_token"][0])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/v9", HEADERS, 404),
        ("POST", "http://[", HEADERS, 404),
        ("GET", AUTHORIZATION_PATHS[0], HEADERS, 405),
        ("POST", AUTHORIZATION_PATHS[0], {}, 401),
        ("POST", AUTHORIZATION_PATHS[0], {**HEADERS, "x-user-id": "u"}, 401),
        ("POST", AUTHORIZATION_PATHS[0], {**HEADERS, "authorization": f"Basic {KEY}"}, 401),
        ("POST", AUTHORIZATION_PATHS[0], {**HEADERS, "authorization": "Bearer x"}, 401),
    ],
)
def test_server_refuses_wrong_method_path_or_key(method: str, path: str, headers: dict[str, str], status: int) -> None:
    server = AuthorizationServer("http://h", Tokens(Clock(1_750_000_000.0)), api_key=KEY, user_id=USER)
    answer = server.receive(method, path, headers)
    assert answer[0] == status
    assert b"fal_jwt_token" not in answer[2] and KEY.encode() not in answer[2]


def test_token_is_valid_for_one_hour_and_one_server() -> None:
    clock = Clock(1_750_000_000.0)
    tokens = Tokens(clock)
    token, expires_at = tokens.issue()
    assert expires_at == clock.now + 3600 and tokens.issue()[0] != token
    assert not Tokens(clock).accepts(token)
    clock.now += 3599
    assert tokens.accepts(token)
    clock.now += 1
    assert not tokens.accepts(token)


@given(st.text())
def test_forged_token_is_refused(guess: str) -> None:
    tokens = Tokens(Clock(1_750_000_000.0))
    claim, _, signature = tokens.issue()[0].rpartition(".")
    later = f"9{claim[1:]}.{signature}"
    assert not any(map(tokens.accepts, (guess, f"{claim}.{guess}", f"{guess}.{signature}", later, ".", "")))
