"""Sends requests to Home Assistant's conversation API.

Sources: https://developers.home-assistant.io/docs/intent_conversation_api/; for the types of the fields and the error
codes, ``components/conversation/http.py`` and ``helpers/intent.py`` of Home Assistant.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from typing import Any

from agent.errors import AgentError, ServiceError
from agent.pipeline.responders.http_post import post_json
from agent.pipeline.responders.settings import HomeAssistantSettings
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, parse_json
from agent.system.log import RepeatedWarning
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape

log = logging.getLogger(__name__)

SERVICE = "intents.home_assistant"
PATH = "/api/conversation/process"
TIMEOUT_SECONDS = 10.0
MAX_SPEECH_CHARACTERS = 4000
MAX_ID_CHARACTERS = 200
UNKNOWN_CODES = ("no_intent_match", "no_valid_targets")
"""The error codes for a text that is not a request, or that names no device of the house."""
UNREACHABLE, REFUSED = "home_unreachable", "home_refused"


class Answer(NamedTuple):
    """The answer of Home Assistant. Immutable.

    Attributes:
        speech: What Home Assistant says; may be empty.
        is_known: Whether the text was a request for a device of the house.
        problem: Why there is no answer: ``UNREACHABLE``, or ``REFUSED`` (the token is not accepted); otherwise empty.
    """

    speech: str = ""
    is_known: bool = True
    problem: str = ""


class HomeAssistant:
    """Home Assistant's conversation agent. Not thread-safe; owned by the responder thread.

    Args:
        settings: The URL and the token.
        language: The language of the texts, ISO 639-1.
        allow_plaintext: Whether the token may be sent unencrypted to a public address.
        timeout_seconds: The timeout for a whole answer.
    """

    def __init__(
        self,
        settings: HomeAssistantSettings,
        language: str,
        *,
        allow_plaintext: bool = False,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._settings, self._language = settings, language
        self._allow_plaintext, self._timeout = allow_plaintext, timeout_seconds
        self._conversation: str | None = None
        self._warning = RepeatedWarning(log)

    def ask(self, text: str) -> Generator[str, None, Answer]:
        """Send a text and return the answer; yield empty pieces while it is awaited. Never raises ``AgentError``."""
        try:
            answer = yield from self.request(text)
        except AgentError as error:
            self._warning.warn("intents: no answer of Home Assistant, %s", escape(str(error), 500))
            is_refused = isinstance(error, ServiceError) and error.status in (401, 403)
            return Answer(problem=REFUSED if is_refused else UNREACHABLE)
        self._warning.resolved("intents: Home Assistant answers again")
        return answer

    def request(self, text: str) -> Generator[str, None, Answer]:
        """Send a text and return the answer; yield empty pieces while it is awaited.

        Raises:
            ConfigError: The URL or the token cannot be used.
            ServiceError: The request failed, or the answer is invalid.
        """
        payload: dict[str, object] = {"text": fix_surrogates(text), "language": self._language}
        if self._conversation is not None:  # Home Assistant does not accept null
            payload["conversation_id"] = self._conversation
        document = parse_json((yield from self._post(payload)))
        if isinstance(document, str):
            raise ServiceError(SERVICE, f"the answer cannot be used: {document}")
        answer = _read(document)
        conversation = document.get("conversation_id")
        self._conversation = None
        if isinstance(conversation, str) and 0 < len(conversation) <= MAX_ID_CHARACTERS:
            self._conversation = fix_surrogates(conversation)
        return answer

    def _post(self, payload: Mapping[str, object]) -> Generator[str, None, bytes]:
        response = post_json(
            SERVICE,
            self._settings.url.rstrip("/") + PATH,
            payload,
            key=self._settings.token.reveal(),
            key_name="token",
            accept="application/json",
            timeout_seconds=self._timeout,
            allow_plaintext=self._allow_plaintext,
        )
        body = bytearray()
        try:
            for item in response:
                if isinstance(item, bytes):
                    body += item
                elif item is not None and item.content_type != "application/json":
                    raise ServiceError(SERVICE, f"expected application/json, got {excerpt(item.content_type)}")
                yield ""  # also while the body arrives, so that the worker can check for a cancel
        finally:
            response.close()
        return bytes(body)


def _read(document: Mapping[str, Any]) -> Answer:
    """Parse an answer. Raises ``ServiceError`` if the document is not an answer."""
    response = document.get("response")
    if not isinstance(response, dict) or not isinstance(response.get("response_type"), str):
        raise ServiceError(SERVICE, "the answer has no response with a response_type: check that url is Home Assistant")
    speech: Any = response
    for name in ("speech", "plain", "speech"):
        speech = speech.get(name) if isinstance(speech, dict) else None
    data = response.get("data")
    is_unknown = response["response_type"] == "error" and isinstance(data, dict) and data.get("code") in UNKNOWN_CODES
    return Answer(fix_surrogates(speech)[:MAX_SPEECH_CHARACTERS] if isinstance(speech, str) else "", not is_unknown)
