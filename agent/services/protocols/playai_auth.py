"""PlayAI's first step: a POST with the key that answers with the WebSocket addresses, one for each model.

Both halves, without sockets: ``Authorization`` asks and judges the answer, ``AuthorizationServer`` gives it, and
``Tokens`` are what the addresses carry. An address is a key for an hour and never shows.
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
from agent.services.protocols.handshake import header, keys_match, parse_target, retry_after_seconds
from agent.services.protocols.parsing import excerpt
from agent.system.hosts import PRIVATE_SUFFIXES
from agent.system.json_text import parse_json

NAME = "playai"

URL_LIFETIME_SECONDS = 3600.0
"""How long an address can be used, and how long a connection made with it lasts (PlayAI's document)."""

MODEL_PATHS = {
    "Play3.0-mini": "/playht-fal/playht-tts/stream",
    "PlayDialog": "/playht-fal/playht-tts-ldm/stream",
    "PlayDialogMultilingual": "/playht-fal/playht-tts-multilingual-ldm/stream",
    "PlayDialogArabic": "/playht-fal/playht-tts-arabic/stream",
}
"""The models there are, and the path of each one's WebSocket address."""

AUTHORIZATION_PATHS = (
    "/api/v1/websocket-auth",
    "/api/v1/tts/websocket-auth",
    "/api/v1/tts/auth",
    "/api/v4/websocket-auth",
    "/api/v4/sdk-auth",
)
"""The first two are the document's, the third an older name; the last two are those of the service's own packages."""

_RETRY_SECONDS_MAX = 86400.0
_URL_CHARACTERS = 8192
_PASSING_STATUSES = (408, 425, 429)  # the only 4xx after which asking again may help
_MODELS_NAMED = 8
_ADVICE = {
    401: "; check synthesis.playai.api_key and user_id",
    402: "; the account has nothing left to pay with: look at it in PlayAI's console",
    403: "; check synthesis.playai.api_key and user_id",
    404: "; check synthesis.playai.auth_url",
    429: "; these are too many requests for the account: it is asked again later",
}
# What a body may quote and nobody may see: addresses, what follows a word for a key, and whatever looks like one.
_KEYLIKE = re.compile(
    r"wss?://[^\s\"']+"
    r"|(?<=Bearer )[^\s\"']+"
    r"|(?i:(?<=token=)|(?<=token\": \")|(?<=token\":\")|(?<=key=)|(?<=key\": \")|(?<=key\":\"))[^\s\"'&]+"
    r"|[A-Za-z0-9_.-]{40,}"
)


class Authorization:
    """Asks for the WebSocket address of one model: send what ``request`` gives, hand the answer to ``receive``.

    Raises ``ValueError`` for an ``auth_url`` that is no http address, and for a control character in what becomes a
    header. Source: PlayAI's WebSocket document; the other shapes of the answer are those of its older interfaces.
    """

    service = NAME

    def __init__(self, auth_url: str, api_key: str | None, user_id: str, model: str) -> None:
        parts = urlsplit(auth_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("playai's auth_url must begin with https:// or http:// and name a host")
        for name, value in (("api_key", api_key or ""), ("user_id", user_id)):
            if any(ord(letter) < 32 or ord(letter) > 126 for letter in value):
                raise ValueError(f"playai's {name} holds a character that cannot be sent in a header")
        self._auth_url = auth_url
        self._api_key = api_key
        self._user_id = user_id
        self._model = model
        self._plain = parts.scheme == "http"
        self._near = _is_near(parts.hostname)

    def request(self) -> HttpRequest:
        """The POST, with an empty body."""
        headers = {"X-User-Id": self._user_id, "Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        return HttpRequest("POST", self._auth_url, headers)

    def receive(self, status: int, headers: Mapping[str, str], body: bytes | str) -> IssuedUrl | Failure:
        """The address, or why there is none. ``body`` may be anything; at most 8 MiB of it are looked at."""
        if status not in (200, 201):
            return self._refusal(status, headers, body)
        answer = parse_json(body)
        if isinstance(answer, str):
            # The body is not quoted: a mangled answer may still hold an address, which is a key.
            return self._failure(f"an answer to its authorisation that cannot be read: {answer}", "a JSON object")
        offered = _addresses(answer)
        if self._model not in offered:
            names = ", ".join(excerpt(name[:40]) for name in list(offered)[:_MODELS_NAMED]) or "no model at all"
            return self._failure(
                f"addresses for {names}",
                f"one for the model {excerpt(self._model[:40])}; set synthesis.playai.model",
                permanent=True,
            )
        url = offered[self._model]
        mistake = self._mistake(url)
        if mistake is not None:
            return self._failure(mistake, "an address wss://HOST/... on the public network")
        return IssuedUrl(url, _expiry(answer.get("expiresAt", answer.get("expires_at"))))

    def _refusal(self, status: int, headers: Mapping[str, str], body: bytes | str) -> Failure:
        permanent = 400 <= status < 500 and status not in _PASSING_STATUSES
        expected = "a WebSocket address (HTTP 200)"
        if status in _ADVICE:
            expected += _ADVICE[status]
        elif status >= 500:
            expected += "; the trouble is the service's own: it is asked again"
        elif 300 <= status < 400:
            # A redirect would carry the key to whatever host it names.
            permanent = True
            expected += " from synthesis.playai.auth_url itself, not from elsewhere"
        quoted = self._quoted(body) if body else "no explanation"
        return Failure(
            NAME,
            f"HTTP {status} to its authorisation, with {quoted}"[:200],
            expected,
            permanent=permanent,
            status=status,
            retry_after_seconds=retry_after_seconds(headers, _RETRY_SECONDS_MAX),
        )

    def _quoted(self, body: bytes | str) -> str:
        """The beginning of a body: text as text, without keys and addresses."""
        if isinstance(body, bytes):
            try:
                # A letter that the cut goes through is none of the body's mistakes.
                body = codecs.getincrementaldecoder("utf-8")().decode(body[:4096], len(body) <= 4096)
            except UnicodeDecodeError:
                return excerpt(body[:4096], self._api_key)
        body = body[:4096].strip()
        if self._api_key:
            body = body.replace(self._api_key, "***")
        return excerpt(_KEYLIKE.sub("***", body), self._api_key)

    def _failure(self, came: str, expected: str, *, permanent: bool = False) -> Failure:
        return Failure(NAME, came[:200], expected, permanent=permanent)

    def _mistake(self, url: str) -> str | None:
        """What is wrong with a granted address. Whoever forges the answer must not send this device round its own
        network, nor make it speak in the clear."""
        if len(url) > _URL_CHARACTERS or any(not 32 < ord(letter) < 127 or letter in "\\#" for letter in url):
            return "an address with characters that no address has"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            return "an address that cannot be read"
        if parts.scheme != "wss" and not (parts.scheme == "ws" and self._plain):
            return f"an address with the scheme {excerpt(parts.scheme[:20])}"
        if not host or port == 0:
            return "an address without a host"
        if "@" in parts.netloc:
            return "an address with a user's name in it"
        if _is_near(host) and not self._near:
            return "an address on a private network"
        return None


def _addresses(answer: Mapping[str, object]) -> dict[str, str]:
    """The addresses by model, in any of the four shapes in which they come."""
    for name in ("webSocketUrls", "websocket_urls"):
        table = answer.get(name)
        if isinstance(table, dict):
            return {model: url for model, url in table.items() if isinstance(url, str)}
    found: dict[str, str] = {}
    for model, entry in answer.items():
        if isinstance(entry, dict):
            url = entry.get("webSocketUrl", entry.get("websocket_url"))
            if isinstance(url, str):
                found[model] = url
    return found


def _expiry(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.strip()[:64])
        # A time without a zone is UTC here; taken for local time it would be hours off.
        seconds = (found.replace(tzinfo=UTC) if found.tzinfo is None else found).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _is_near(host: str) -> bool:
    """Whether ``host`` is, spells, or by its name alone is known for an address of this machine or its own network."""
    host = host.rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # Resolvers still read 127.1, 0x7f.1 and 2130706433 as addresses; no public name ends in a number.
        last = host.rpartition(".")[2]
        return last == host or host.endswith(PRIVATE_SUFFIXES) or last.isdigit() or last.startswith("0x")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_global or address.is_multicast


class Tokens:
    """What the granted addresses carry: unguessable, good for an hour, and kept nowhere, so that nobody can fill up
    the memory with them. One ``Tokens`` serves a whole server and may be used from any thread.

    ``clock``: seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)

    def issue(self) -> tuple[str, float]:
        """A new token, and when it expires."""
        expires_at = self._clock() + URL_LIFETIME_SECONDS
        claim = f"{int(expires_at * 1000)}.{secrets.token_urlsafe(16)}"
        return f"{claim}.{self._signature(claim)}", expires_at

    def accepts(self, token: str) -> bool:
        """Whether ``token`` came from here and has not expired. Takes anything."""
        claim, _, signature = token[:256].rpartition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._signature(claim).encode()):
            return False
        return self._clock() * 1000 < int(claim.partition(".")[0])

    def _signature(self, claim: str) -> str:
        digest = hmac.new(self._secret, claim.encode("utf-8", "replace"), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class AuthorizationServer:
    """Answers the authorisation POST on all its paths, each in its own shape.

    ``base_url``: where clients reach this server, ``http://HOST:PORT`` or ``https://HOST:PORT``. ``api_key`` and
    ``user_id``: whom it lets in; ``None`` is anybody.
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
        """Status, headers and body of the answer to one request; its own body is of no interest."""
        target = parse_target(path)
        route = target[0] if target else ""
        if route not in AUTHORIZATION_PATHS:
            return _answer(404, {"error": "no such path"})
        if method.upper() != "POST":
            status, answered, body = _answer(405, {"error": "this path wants a POST"})
            return status, {**answered, "Allow": "POST"}, body
        if not self._knows(headers):
            return _answer(401, {"error": "the Authorization or X-User-Id header is not accepted"})
        token, expires_at = self._tokens.issue()
        # Some clients read the time in this form only, with the fraction.
        expiry = (datetime(1970, 1, 1) + timedelta(seconds=expires_at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        ws = {model: f"{self._ws}{where}?fal_jwt_token={token}" for model, where in MODEL_PATHS.items()}
        http = {model: f"{self._http}{where}?fal_jwt_token={token}" for model, where in MODEL_PATHS.items()}
        if route == "/api/v4/websocket-auth":
            return _answer(201, {"websocket_urls": ws, "expires_at": expiry})
        if route == "/api/v4/sdk-auth":
            pairs = {model: {"http_streaming_url": http[model], "websocket_url": ws[model]} for model in ws}
            return _answer(201, {**pairs, "expires_at": expiry})
        if route == "/api/v1/tts/auth":
            older = {model: {"httpStreamingUrl": http[model], "webSocketUrl": ws[model]} for model in ws}
            return _answer(200, {**older, "expiresAt": expiry})
        return _answer(200, {"webSocketUrls": ws, "expiresAt": expiry})

    def _knows(self, headers: Mapping[str, str]) -> bool:
        scheme, _, key = (header(headers, "Authorization") or "").partition(" ")
        user = header(headers, "X-User-Id") or ""
        key_fits = self._api_key is None or (scheme.lower() == "bearer" and keys_match(key.strip(), self._api_key))
        return key_fits and (self._user_id is None or keys_match(user.strip(), self._user_id))


def _answer(status: int, body: Mapping[str, object]) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json", "Cache-Control": "no-store"}, json.dumps(body).encode()
