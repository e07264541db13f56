"""The responder that sends a JSON POST to a URL for each turn and replies with the response."""

from __future__ import annotations

import codecs

from agent.config.fields import key, section
from agent.config.secrets import Secret
from agent.errors import ConfigError, ServiceError
from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.responder import DeviceContext, ReplyPieces, ResponderKind, StatelessResponder
from agent.pipeline.responders.settings import ResponderSettings
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, parse_json
from agent.system.named_tuple import NamedTuple

SERVICE = "webhook"


class WebhookResponder(StatelessResponder):
    """Posts ``{"text": ..., "turn": ...}`` and replies with the response.

    The response is plain text or JSON. Plain text is passed on while it arrives. JSON is ``{"text": "..."}`` or
    ``{"texts": ["...", ...]}``. After an empty body or status 204 the device stays silent.

    Not thread-safe; owned by the responder thread.

    Raises:
        ConfigError: No URL is configured.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0, allow_plaintext: bool = False) -> None:
        if not settings.url:
            raise ConfigError("responder.webhook.url is empty: set it to the address of the program")
        self._settings = settings
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext

    def reply(self, text: str, turn: int) -> ReplyPieces:
        key = self._settings.api_key.reveal()
        payload = {"text": fix_surrogates(text), "turn": turn}
        accept = "text/plain, application/json"
        response = post_json(
            SERVICE,
            self._settings.url,
            payload,
            key=key,
            accept=accept,
            timeout_seconds=self._timeout,
            allow_plaintext=self._allow_plaintext,
        )
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        json_bytes: bytearray | None = None
        try:
            for item in response:
                if isinstance(item, ResponseHead):
                    if item.content_type == "application/json":
                        json_bytes = bytearray()
                    elif item.content_type not in ("text/plain", "") and item.status != 204:
                        raise ServiceError(
                            SERVICE, f"expected text/plain or application/json, got {excerpt(item.content_type)}"
                        )
                elif item is None:
                    yield ""
                elif json_bytes is not None:
                    json_bytes += item
                    yield ""  # while the body arrives, the worker can check for a cancel
                else:
                    yield decoder.decode(item)
            if json_bytes:
                for part in _texts(bytes(json_bytes), key):
                    yield f"{part}\n\n"
            yield decoder.decode(b"", final=True)
        finally:
            response.close()
        return None


def _texts(body: bytes, key: str | None) -> list[str]:
    document = parse_json(body)
    if isinstance(document, str):
        raise ServiceError(SERVICE, f"the response cannot be used: {document}: {excerpt(body, key)}")
    texts = document.get("texts", [document.get("text")])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        expected = '{"text": "..."} or {"texts": ["..."]}'
        raise ServiceError(SERVICE, f"expected {expected}, got {excerpt(body.decode('utf-8', 'replace'), key)}")
    return [fix_surrogates(text) for text in texts]


@section
class Settings(NamedTuple):
    """A program on the network."""

    url: str = key("", "URL that gets a JSON POST {text, turn} and answers with text or JSON {text}")
    api_key: Secret = key(
        lambda: Secret(credential="webhook"), "where the bearer token is stored; without a token none is sent"
    )


def _make(responder: ResponderSettings, device: DeviceContext) -> WebhookResponder:
    return WebhookResponder(responder.settings("webhook"), responder.timeout_seconds, responder.allow_plaintext)


RESPONDER = ResponderKind(_make, Settings, url_key="url", is_key_optional=True, has_effects=True)
