"""The responder that asks a program on the network: one JSON POST for each turn."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from agent.config.fields import key
from agent.config.secrets import Secret
from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.responder import ReplyPieces, ResponderKind
from agent.pipeline.responders.settings import ResponderSettings
from agent.pipeline.text_splitter import SentenceSplitter
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, parse_json

SERVICE = "webhook"


class WebhookResponder:
    """Posts ``{"text": ..., "turn": ...}`` and answers with what comes back.

    That is plain text, which goes on sentence by sentence as it arrives, or JSON, ``{"text": "..."}`` or
    ``{"texts": ["...", ...]}``. An empty body, or status 204, is no answer.
    Raises ``ConfigError`` where no address is configured.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0, allow_plaintext: bool = False) -> None:
        if not settings.url:
            raise ConfigError("responder.webhook.url is empty: put the address there that is to be asked")
        self._settings = settings
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext

    def reply(self, text: str, turn: int) -> ReplyPieces:
        key = self._settings.api_key.reveal()
        payload = {"text": fix_surrogates(text), "turn": turn}
        accept = "text/plain, application/json"
        answer = post_json(
            SERVICE,
            self._settings.url,
            payload,
            key=key,
            accept=accept,
            timeout_seconds=self._timeout,
            allow_plaintext=self._allow_plaintext,
        )
        sentences = SentenceSplitter()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        json_bytes: bytearray | None = None
        try:
            for got in answer:
                if isinstance(got, ResponseHead):
                    if got.kind == "application/json":
                        json_bytes = bytearray()
                    elif got.kind not in ("text/plain", "") and got.status != 204:
                        raise ServiceError(SERVICE, f"expected text/plain or application/json, got {excerpt(got.kind)}")
                elif got is None:
                    yield ""
                elif json_bytes is not None:
                    json_bytes += got
                else:
                    yield from sentences.feed(decoder.decode(got))
            if json_bytes:
                for said in _texts(bytes(json_bytes), key):
                    yield from sentences.feed(said)
                    if rest := sentences.flush():
                        yield rest
            yield from sentences.feed(decoder.decode(b"", final=True))
            if rest := sentences.flush():
                yield rest
        finally:
            answer.close()

    def close(self) -> None:
        """Nothing is kept between answers."""


def _texts(body: bytes, key: str | None) -> list[str]:
    found = parse_json(body)
    if isinstance(found, str):
        raise ServiceError(SERVICE, f"the answer cannot be used, because {found}: {excerpt(body, key)}")
    texts = found.get("texts", [found.get("text")])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        wanted = '{"text": "..."} or {"texts": ["..."]}'
        raise ServiceError(SERVICE, f"expected {wanted}, got {excerpt(body.decode('utf-8', 'replace'), key)}")
    return [fix_surrogates(text) for text in texts]


@dataclass(frozen=True)
class Settings:
    """A program on the network."""

    url: str = key("", "URL that gets a JSON POST {text, turn} and answers with text or JSON {text}")
    api_key: Secret = key(lambda: Secret(credential="webhook"), "where the bearer token is stored, if one is needed")


def _make(responder: ResponderSettings) -> WebhookResponder:
    return WebhookResponder(responder.settings("webhook"), responder.timeout_seconds, responder.allow_plaintext)


RESPONDER = ResponderKind(_make, Settings, url_key="url", is_key_optional=True)
