"""The responder that uses a chat service with the API of OpenAI's chat completions.

The wire: ``POST /chat/completions`` with ``"stream": true``. The response is a stream of server-sent events; each
``data:`` line holds a JSON object with ``choices[0].delta.content``, the last one is ``data: [DONE]`` (OpenAI API
reference, "Create chat completion"). llama.cpp, Ollama and vLLM implement the same. A single JSON object is accepted.
"""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from agent.config.errors import Finding
from agent.config.fields import key
from agent.config.secrets import Secret
from agent.errors import ServiceError
from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.responder import ReplyPieces, ResponderKind
from agent.pipeline.responders.settings import ResponderSettings
from agent.pipeline.text_splitter import SentenceSplitter
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, parse_json

SERVICE = "openai"
MAX_LINE_CHARACTERS = 1 << 18
MAX_TEXT_CHARACTERS = 20_000


class OpenAIResponder:
    """Replies of a chat service, in sentences while they arrive. Not thread-safe; owned by the responder thread.

    Each request contains the last ``history_turns`` turns: only the received part of a cancelled reply, and no turn
    without a reply.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0, allow_plaintext: bool = False) -> None:
        self._settings = settings
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext
        self._history: deque[tuple[str, str]] = deque(maxlen=settings.history_turns)

    def reply(self, text: str, turn: int) -> ReplyPieces:
        transcript = fix_surrogates(text[:MAX_TEXT_CHARACTERS])
        key = self._settings.api_key.reveal()
        sentences = SentenceSplitter()
        received: list[str] = []
        try:
            with closing(self._stream_reply(transcript, key)) as reply:
                for piece in reply:
                    received.append(piece)
                    yield from sentences.feed(piece) or [""]
            if rest := sentences.flush():
                yield rest
        finally:
            if any(received):
                self._history.append((transcript, "".join(received).strip()))

    def close(self) -> None:
        """Clear the history."""
        self._history.clear()

    def _stream_reply(self, transcript: str, key: str | None) -> Generator[str, None, None]:
        """Yield the text of the reply as it arrives, and empty pieces while it is awaited."""
        settings = self._settings
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        for question, reply in self._history:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
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
        stream = _Stream(key)
        try:
            for item in response:
                if isinstance(item, ResponseHead):
                    stream.begin(item)
                elif item is None:
                    yield ""
                else:
                    yield from stream.feed(item)
                    if stream.is_complete:
                        return
            yield from stream.finish()
        finally:
            response.close()


class _Stream:
    """Parses the body of one response: bytes in, text out. Not thread-safe; owned by the responder thread."""

    def __init__(self, key: str | None) -> None:
        self.is_complete = False
        self._key = key
        self._is_event_stream = True
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._buffer: list[str] = []
        self._buffered_characters = 0
        self._has_finish_reason = False

    def begin(self, head: ResponseHead) -> None:
        self._is_event_stream = head.content_type == "text/event-stream"
        if not self._is_event_stream and head.content_type != "application/json":
            raise ServiceError(
                SERVICE, f"expected an event stream or JSON, got {excerpt(head.content_type or 'no type')}"
            )

    def feed(self, chunk: bytes) -> Iterator[str]:
        text = self._decoder.decode(chunk)
        if self._is_event_stream:
            *lines, rest = text.split("\n")
            for line in lines:
                line = "".join((*self._buffer, line))
                self._buffer, self._buffered_characters = [], 0
                yield from self._line(line.rstrip("\r"))
                if self.is_complete:
                    return
            text = rest
        self._buffer.append(text)
        self._buffered_characters += len(text)
        if self._is_event_stream and self._buffered_characters > MAX_LINE_CHARACTERS:
            raise ServiceError(SERVICE, f"a line of the response is longer than {MAX_LINE_CHARACTERS // 1024} KiB")

    def finish(self) -> Iterator[str]:
        """Parse the rest after the end of the body."""
        rest = "".join(self._buffer)
        if not self._is_event_stream:
            yield from self._content(self._parse_object(rest), "message")
            return
        yield from self._line(rest.rstrip("\r"))
        if not (self.is_complete or self._has_finish_reason):
            raise ServiceError(SERVICE, "the response ended before the reply was complete")

    def _line(self, line: str) -> Iterator[str]:
        name, _, value = line.partition(":")
        if name != "data":
            return  # a comment, an event name, or the empty line after an event
        value = value.strip()
        if value == "[DONE]":
            self.is_complete = True
        elif value:
            yield from self._content(self._parse_object(value), "delta")

    def _parse_object(self, text: str) -> Mapping[str, object]:
        document = parse_json(text)
        if isinstance(document, str):
            raise ServiceError(SERVICE, f"{document}: {excerpt(text, self._key)}")
        if (error := document.get("error")) is not None:
            message = error.get("message") if isinstance(error, dict) else error
            raise ServiceError(SERVICE, f"the service reports an error: {excerpt(str(message), self._key)}")
        return document

    def _content(self, document: Mapping[str, object], part: str) -> Iterator[str]:
        choices = document.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return  # usage events have no choices
        self._has_finish_reason = self._has_finish_reason or choice.get("finish_reason") is not None
        message = choice.get(part)
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield fix_surrogates(content)


@dataclass(frozen=True)
class Settings:
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
