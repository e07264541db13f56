"""The responder that uses a chat service with the API of OpenAI's chat completions."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.config.secrets import Secret
from agent.pipeline.responders.chat_reply import ChatReply
from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.responder import ReplyPieces, ResponderKind, Shortfall
from agent.pipeline.responders.settings import ResponderSettings
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

SERVICE = "openai"
MAX_TEXT_CHARACTERS = 20_000

# Proxies pass on the finish reasons of Gemini, Anthropic and Mistral under names of their own.
_LENGTH = ("length", "max_tokens", "max_output_tokens", "model_length")
_FILTERED = ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive")
_TOOL_CALL = ("tool_calls", "function_call", "tool_use")


class OpenAIResponder:
    """Replies of a chat service, while they arrive. Not thread-safe; owned by the responder thread.

    Each request contains the last ``history_turns`` turns: only the part of a reply that was heard, and no turn
    without a reply. The reasoning of the model is no part of them.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0, allow_plaintext: bool = False) -> None:
        self._settings = settings
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext
        # One more than is sent, so that nothing is missing after the last one is forgotten.
        self._history: deque[tuple[int, str, str]] = deque(maxlen=settings.history_turns + 1)

    def reply(self, text: str, turn: int) -> ReplyPieces:
        transcript = fix_surrogates(text[:MAX_TEXT_CHARACTERS])
        key = self._settings.api_key.reveal()
        reply = ChatReply(SERVICE, key)
        received: list[str] = []
        try:
            with closing(self._stream_reply(transcript, key, reply)) as pieces:
                for piece in pieces:
                    received.append(piece)
                    yield piece
        finally:
            from agent.pipeline.text.reasoning import visible_text  # not before the first reply

            text = visible_text("".join(received)).strip()
            if text:
                self._history.append((turn, transcript, text))
        return _shortfall(reply, text)

    def warm_up(self) -> None:
        """Do nothing: the libraries are loaded while the connection is made."""

    def forget(self, turn: int) -> None:
        if self._history and self._history[-1][0] == turn:
            self._history.pop()

    def correct(self, turn: int, heard: str) -> None:
        turns = [(number, text, heard if number == turn else reply) for number, text, reply in self._history]
        self._history.clear()
        self._history.extend(each for each in turns if each[2])

    def close(self) -> None:
        """Clear the history."""
        self._history.clear()

    def _stream_reply(self, transcript: str, key: str | None, reply: ChatReply) -> Generator[str, None, None]:
        """Yield the text of the reply as it arrives, and empty pieces while it is awaited."""
        settings = self._settings
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        first = len(self._history) - settings.history_turns
        for _, question, answer in islice(self._history, max(0, first), None):
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        messages.append({"role": "user", "content": transcript})
        payload: dict[str, object] = {"model": settings.model, "messages": messages, "stream": True}
        if settings.max_tokens is not None:
            payload["max_tokens"] = settings.max_tokens
        response = post_json(
            SERVICE,
            settings.base_url.rstrip("/") + "/chat/completions",
            payload,
            key=key,
            accept="text/event-stream, application/json",
            timeout_seconds=self._timeout,
            allow_plaintext=self._allow_plaintext,
        )
        try:
            for item in response:
                if isinstance(item, ResponseHead):
                    reply.begin(item)
                elif item is None:
                    yield ""
                else:
                    has_text = False
                    for text in reply.feed(item):
                        has_text = True
                        yield text
                    if reply.is_complete:
                        return
                    if not has_text:
                        yield ""  # reasoning arrives: the worker sees a cancel meanwhile
            yield from reply.finish()
        finally:
            response.close()


def _shortfall(reply: ChatReply, text: str) -> Shortfall | None:
    """Return the shortfall of a complete reply whose visible text is ``text``; ``None`` if it has none."""
    if reply.has_refusal:
        return Shortfall("refusal", "the model refused to answer")
    reason = reply.finish_reason.lower()
    if reason in _LENGTH:
        return Shortfall("length", "the reply was cut at the limit of tokens; raise responder.openai.max_tokens")
    if reason in _FILTERED:
        return Shortfall("filtered", "the reply was withheld or cut by the content filter of the service")
    if text:
        return None
    if reply.has_tool_call or reason in _TOOL_CALL:
        return Shortfall(
            "tool_call", "the model called a tool; there are no tools, use a model or a prompt without them"
        )
    return Shortfall("empty", f"the model answered without a text, finish reason {reply.finish_reason or 'unknown'}")


@section
class Settings(NamedTuple):
    """A chat service."""

    base_url: str = key("https://api.openai.com/v1", "base URL of OpenAI or a compatible service")
    api_key: Secret = key(
        lambda: Secret(credential="openai"), "where the API key is stored; without a key none is sent"
    )
    model: str = key("gpt-4o-mini", "name of the chat model, as the service lists it")
    system: str = key(
        "You are a voice assistant. Answer in one or two short spoken sentences, without markup.",
        "instructions that come before the first turn",
    )
    history_turns: int = key(
        6, "number of earlier turns that are sent along; more keep the context and cost more tokens", low=0, high=100
    )
    max_tokens: int | None = key(
        None, "longest reply in tokens, which may cut off a sentence; null: the service's default", low=1, high=100000
    )


def _check_used(settings: Settings) -> Iterator[Finding]:
    if not settings.model.strip():
        yield Finding("model", "the model is empty, expected the name of a chat model")


def _make(responder: ResponderSettings) -> OpenAIResponder:
    return OpenAIResponder(responder.settings("openai"), responder.timeout_seconds, responder.allow_plaintext)


RESPONDER = ResponderKind(_make, Settings, _check_used, url_key="base_url")
