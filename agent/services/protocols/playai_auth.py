"""Implements PlayAI's authorization: a POST with the key returns one WebSocket URL for each model.

``Authorization`` is the client side and ``AuthorizationServer`` the server side, without sockets. ``Tokens`` issues the
tokens in the URLs. A URL is a credential that is valid for one hour, so it never appears in events. Sources: PlayAI's
WebSocket page, playai-showcase, and pyht 0.1.14.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import hmac
import ipaddress
import json
import math
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from agent.services.protocols.codec import Failure, HttpRequest, IssuedUrl
from agent.services.protocols.handshake import LOGIN_HINT, header, keys_match, parse_target, retry_after_seconds
from agent.services.protocols.parsing import excerpt
from agent.system.hosts import PRIVATE_SUFFIXES
from agent.system.json_text import parse_json

NAME = "playai"

URL_LIFETIME_SECONDS = 3600.0
"""How long a URL is valid, and how long a connection with this URL may stay open (PlayAI's page)."""

MODEL_PATHS = {
    "Play3.0-mini": "/playht-fal/playht-tts/stream",
    "PlayDialog": "/playht-fal/playht-tts-ldm/stream",
    "PlayDialogMultilingual": "/playht-fal/playht-tts-multilingual-ldm/stream",
    "PlayDialogArabic": "/playht-fal/playht-tts-arabic/stream",
}
"""The path of the WebSocket URL of each model."""

AUTHORIZATION_PATHS = (
    "/api/v1/websocket-auth",
    "/api/v1/tts/websocket-auth",
    "/api/v1/tts/auth",
    "/api/v4/websocket-auth",
    "/api/v4/sdk-auth",
)
"""The paths of the POST: two of PlayAI's page, an older one, and two of the play.ht API (v4, pyht)."""

_MAX_RETRY_SECONDS = 86400.0
_MAX_URL_CHARACTERS = 8192
_TEMPORARY_STATUSES = (407, 408, 425, 429)  # the 4xx statuses after which a retry may help
_MAX_MODELS_SHOWN = 8
_ADVICE = {
    401: "; check synthesis.playai.api_key and user_id",
    402: "; the account has no credit: check it in PlayAI's console",
    403: "; check synthesis.playai.api_key and user_id",
    404: "; check synthesis.playai.auth_url",
    407: "; a proxy in between requires a login: allow direct connections",
    429: "; the account has too many requests",
    511: "; log in on the network's login page",
}
# Secrets that a body may contain: WebSocket URLs; values after "Bearer", "token" or "key"; and long random strings.
_SECRET_PATTERN = re.compile(
    r"wss?://[^\s\"']+"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?i:(?<=token=)|(?<=token\": \")|(?<=token\":\")|(?<=key=)|(?<=key\": \")|(?<=key\":\"))[^\s\"'&]+"
    r"|[A-Za-z0-9_.-]{40,}"
)


class Authorization:
    """The client side for one model: send the result of ``request``, then pass the response to ``receive``.

    Thread-safe: it keeps no state between calls.

    Args:
        auth_url: The HTTP URL of the POST.
        api_key: The API key.
        user_id: The user ID of the account.
        model: The model whose URL is returned.

    Raises:
        ValueError: ``auth_url`` is not an HTTP URL, or a header value contains a control character.
    """

    service = NAME

    def __init__(self, auth_url: str, api_key: str | None, user_id: str, model: str) -> None:
        parts = urlsplit(auth_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("playai's auth_url must begin with https:// or http:// and contain a host")
        for name, value in (("api_key", api_key or ""), ("user_id", user_id)):
            if any(not " " <= character <= "~" for character in value):
                raise ValueError(f"playai's {name} contains a character that cannot be sent in a header")
        self._auth_url = auth_url
        self._api_key = api_key
        self._user_id = user_id
        self._model = model
        self._allows_plaintext = parts.scheme == "http"
        self._is_private = _is_private_address(parts.hostname)

    def request(self) -> HttpRequest:
        """Return the POST request; its body is empty."""
        headers = {"X-User-Id": self._user_id, "Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return HttpRequest("POST", self._auth_url, headers)

    def receive(self, status: int, headers: Mapping[str, str], body: bytes | str) -> IssuedUrl | Failure:
        """Return the URL, or the failure. The body is untrusted; a body of more than 8 MiB is refused."""
        if status not in (200, 201):
            return self._refusal(status, headers, body)
        answer = parse_json(body)
        if isinstance(answer, str):
            # The body is not quoted, because a damaged response may still contain a URL, which is a credential.
            hint = LOGIN_HINT if _is_html(body) else ""
            return self._failure(f"an invalid answer to its authorization: {answer}", f"a JSON object{hint}")
        urls = _urls_by_model(answer)
        if self._model not in urls:
            names = ", ".join(excerpt(name[:40]) for name in list(urls)[:_MAX_MODELS_SHOWN]) or "no model at all"
            return self._failure(
                f"URLs for {names}",
                f"one for the model {excerpt(self._model[:40])}; set synthesis.playai.model",
                permanent=True,
            )
        url = urls[self._model]
        error = self._find_url_error(url)
        if error is not None:
            return self._failure(error, "a URL wss://HOST/... on the public network")
        return IssuedUrl(url, _expiry(answer.get("expiresAt", answer.get("expires_at"))))

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes | str) -> Failure:
        permanent = 400 <= status < 500 and status not in _TEMPORARY_STATUSES
        expected = "a WebSocket URL (HTTP 200)"
        if status in _ADVICE:
            expected += _ADVICE[status]
        elif status >= 500:
            expected += "; the service has an internal error"
        elif 300 <= status < 400:
            # A redirect would send the key to another host.
            permanent = True
            expected += f" from synthesis.playai.auth_url itself, not a redirect{LOGIN_HINT}"
        quoted = self._quoted(body) if body else "no explanation"
        return Failure(
            NAME,
            f"HTTP {status} to its authorization, with {quoted}"[:200],
            expected,
            permanent=permanent,
            status=status,
            retry_after_seconds=retry_after_seconds(headers, _MAX_RETRY_SECONDS),
        )

    def _quoted(self, body: bytes | str) -> str:
        """Quote the beginning of a body without keys and URLs."""
        if isinstance(body, bytes):
            try:
                # An incremental decoder accepts a character that the truncation splits.
                body = codecs.getincrementaldecoder("utf-8")().decode(body[:4096], len(body) <= 4096)
            except UnicodeDecodeError:
                return excerpt(body[:4096], self._api_key)
        body = body[:4096].strip()
        if self._api_key:
            body = body.replace(self._api_key, "***")
        return excerpt(_SECRET_PATTERN.sub("***", body), self._api_key)

    def _failure(self, received: str, expected: str, *, permanent: bool = False) -> Failure:
        return Failure(NAME, received[:200], expected, permanent=permanent)

    def _find_url_error(self, url: str) -> str | None:
        """Return the problem with an issued URL, or ``None``.

        A forged response must not lead this device to a host in its own network, or to an unencrypted connection.
        """
        if len(url) > _MAX_URL_CHARACTERS or any(
            not "!" <= character <= "~" or character in "\\#" for character in url
        ):
            return "a URL with invalid characters"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return "an invalid URL"
        if parts.scheme != "wss" and not (parts.scheme == "ws" and self._allows_plaintext):
            return f"a URL with the scheme {excerpt(parts.scheme[:20])}"
        if not host or port == 0:
            return "a URL without a host"
        if "@" in parts.netloc:
            return "a URL with a user name"
        if _is_private_address(host) and not self._is_private:
            return "a URL on a private network"
        return None


def _is_html(body: bytes | str) -> bool:
    beginning = body[:500].lstrip().lower()
    return b"<html" in beginning if isinstance(beginning, bytes) else "<html" in beginning


def _urls_by_model(answer: Mapping[str, object]) -> dict[str, str]:
    """Return the URLs by model, from any of four response formats (play.ai, its predecessor, play.ht v4, pyht)."""
    for name in ("webSocketUrls", "websocket_urls"):
        table = answer.get(name)
        if isinstance(table, dict):
            return {model: url for model, url in table.items() if isinstance(url, str)}
    urls: dict[str, str] = {}
    for model, entry in answer.items():
        if isinstance(entry, dict):
            url = entry.get("webSocketUrl", entry.get("websocket_url"))
            if isinstance(url, str):
                urls[model] = url
    return urls


def _expiry(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text.strip()[:64])
        # The service sends UTC, also without a zone. (pyht reads such a time as local time: wrong by the UTC offset.)
        seconds = (time.replace(tzinfo=UTC) if time.tzinfo is None else time).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _is_private_address(host: str) -> bool:
    """Return whether a host belongs to this machine or a private network: a name, or an address in any notation."""
    host = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # Resolvers use inet_aton, which accepts 127.1, 0x7f.1 and 2130706433. No public name ends in a number.
        last = host.rpartition(".")[2]
        return last == host or host.endswith(PRIVATE_SUFFIXES) or last.isdigit() or last.startswith("0x")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_global or address.is_multicast


class Tokens:
    """Issues and checks the tokens in issued URLs. A token is signed and valid for one hour. Thread-safe.

    Tokens are not stored, so that clients cannot fill the memory with tokens.

    Args:
        clock: Returns seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def issue(self) -> tuple[str, float]:
        """Return a new token and its expiry in seconds since 1970."""
        expires_at = self._clock() + URL_LIFETIME_SECONDS
        claim = f"{int(expires_at * 1000)}.{secrets.token_urlsafe(16)}"
        return f"{claim}.{self._signature(claim)}", expires_at

    def accepts(self, token: str) -> bool:
        """Return whether this object has issued the token and the token has not expired. Never raises."""
        claim, _, signature = token[:256].rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(claim).encode()):
            return False
        return self._clock() * 1000 < int(claim.partition(".")[0])

    def _signature(self, claim: str) -> str:
        digest = hmac.new(self._secret, claim.encode("utf-8", "replace"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class AuthorizationServer:
    """The server side: answers the POST on each of its paths in the format of that path. Immutable; thread-safe.

    Args:
        base_url: The URL of this server for clients, ``http://HOST:PORT`` or ``https://HOST:PORT``.
        tokens: Issues the tokens.
        api_key: The key that clients must send; ``None``: no key is required.
        user_id: The user ID that clients must send; ``None``: no user ID is required.
    """

    service = NAME

    def __init__(
        self, base_url: str, tokens: Tokens, *, api_key: str | None = None, user_id: str | None = None
    ) -> None:
        self._http = base_url.rstrip("/")
        self._ws = "ws" + self._http.removeprefix("http")
        self._tokens = tokens
        self._api_key = api_key
        self._user_id = user_id

    def receive(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the response. The body of the request is ignored."""
        target = parse_target(path)
        route = target[0] if target else ""
        if route not in AUTHORIZATION_PATHS:
            return _response(404, {"error": "no such path"})
        if method.upper() != "POST":
            status, fields, body = _response(405, {"error": "this path requires POST"})
            return status, {**fields, "Allow": "POST"}, body
        if not self._is_authorized(headers):
            return _response(401, {"error": "the Authorization or X-User-Id header is not accepted"})
        token, expires_at = self._tokens.issue()
        # pyht parses only this format, which requires the fraction of the second.
        expiry = (datetime(1970, 1, 1) + timedelta(seconds=expires_at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ws = {model: f"{self._ws}{path}?fal_jwt_token={token}" for model, path in MODEL_PATHS.items()}
        http = {model: f"{self._http}{path}?fal_jwt_token={token}" for model, path in MODEL_PATHS.items()}
        if route == "/api/v4/websocket-auth":
            return _response(201, {"websocket_urls": ws, "expires_at": expiry})
        if route == "/api/v4/sdk-auth":
            pairs = {model: {"http_streaming_url": http[model], "websocket_url": ws[model]} for model in ws}
            return _response(201, {**pairs, "expires_at": expiry})
        if route == "/api/v1/tts/auth":
            older = {model: {"httpStreamingUrl": http[model], "webSocketUrl": ws[model]} for model in ws}
            return _response(200, {**older, "expiresAt": expiry})
        return _response(200, {"webSocketUrls": ws, "expiresAt": expiry})

    def _is_authorized(self, headers: Mapping[str, str]) -> bool:
        scheme, _, key = (header(headers, "Authorization") or "").partition(" ")
        user = header(headers, "X-User-Id") or ""
        key_fits = self._api_key is None or (scheme.lower() == "bearer" and keys_match(key.strip(), self._api_key))
        return key_fits and (self._user_id is None or keys_match(user.strip(), self._user_id))


def _response(status: int, body: Mapping[str, object]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json", "Cache-Control": "no-store"}, json.dumps(body).encode()
