"""The responder that asks a chat service: OpenAI's chat completions, which many others speak as well.

The wire is that of ``POST /chat/completions`` with ``"stream": true``: server-sent events, each ``data:`` line a JSON
object with ``choices[0].delta.content``, the last one ``data: [DONE]``. Local servers (llama.cpp, Ollama, vLLM) do it
too; one that answers in a single JSON object is understood.
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
LINE_BYTES = 1 << 18
MAX_TEXT_CHARACTERS = 20_000


class OpenAIResponder:
    """Answers from a chat service, sentence by sentence as they are written.

    The last ``history_turns`` turns are sent along; of an answer that was broken off, what had come of it. A turn that
    got no answer is forgotten. No key is sent where none is configured.
    """

    def __init__(self, settings: Settings, timeout_seconds: float = 20.0, allow_plaintext: bool = False) -> None:
        self._settings = settings
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext
        self._history: deque[tuple[str, str]] = deque(maxlen=settings.history_turns)

    def reply(self, text: str, turn: int) -> ReplyPieces:
        heard = fix_surrogates(text[:MAX_TEXT_CHARACTERS])
        key = self._settings.api_key.reveal()
        sentences = SentenceSplitter()
        said: list[str] = []
        try:
            with closing(self._written(heard, key)) as answer:
                for written in answer:
                    said.append(written)
                    yield from sentences.feed(written) or [""]
            if rest := sentences.flush():
                yield rest
        finally:
            if any(said):
                self._history.append((heard, "".join(said).strip()))

    def close(self) -> None:
        """Forgets what was said."""
        self._history.clear()

    def _written(self, heard: str, key: str | None) -> Generator[str, None, None]:
        """The answer's text as it comes, empty pieces while it is awaited."""
        settings = self._settings
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        for asked, answered in self._history:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        messages.append({"role": "user", "content": heard})
        payload: dict[str, object] = {"model": settings.model, "messages": messages, "stream": True}
        if settings.max_tokens is not None:
            payload["max_tokens"] = settings.max_tokens
        answer = post_json(
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
            for got in answer:
                if isinstance(got, ResponseHead):
                    stream.begin(got)
                elif got is None:
                    yield ""
                else:
                    yield from stream.feed(got)
                    if stream.complete:
                        return
            yield from stream.finish()
        finally:
            answer.close()


class _Stream:
    """The body of one answer: bytes in, text out. ``complete`` once the service said that it has said all."""

    def __init__(self, key: str | None) -> None:
        self.complete = False
        self._key = key
        self._events = True
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held: list[str] = []
        self._held_letters = 0
        self._finished = False

    def begin(self, head: ResponseHead) -> None:
        self._events = head.kind == "text/event-stream"
        if not self._events and head.kind != "application/json":
            raise ServiceError(SERVICE, f"expected an event stream or JSON, got {excerpt(head.kind or 'no type')}")

    def feed(self, chunk: bytes) -> Iterator[str]:
        text = self._decoder.decode(chunk)
        if self._events:
            *lines, rest = text.split("\n")
            for line in lines:
                line = "".join((*self._held, line))
                self._held, self._held_letters = [], 0
                yield from self._line(line.rstrip("\r"))
                if self.complete:
                    return
            text = rest
        self._held.append(text)
        self._held_letters += len(text)
        if self._events and self._held_letters > LINE_BYTES:
            raise ServiceError(SERVICE, f"a line of the answer is longer than {LINE_BYTES // 1024} KiB")

    def finish(self) -> Iterator[str]:
        """The body has ended."""
        rest = "".join(self._held)
        if not self._events:
            yield from self._content(self._object(rest), "message")
            return
        yield from self._line(rest.rstrip("\r"))
        if not (self.complete or self._finished):
            raise ServiceError(SERVICE, "the answer broke off before its end")

    def _line(self, line: str) -> Iterator[str]:
        name, _, value = line.partition(":")
        if name != "data":
            return  # a comment, an event's name, or the empty line after an event
        value = value.strip()
        if value == "[DONE]":
            self.complete = True
        elif value:
            yield from self._content(self._object(value), "delta")

    def _object(self, text: str) -> Mapping[str, object]:
        found = parse_json(text)
        if isinstance(found, str):
            raise ServiceError(SERVICE, f"{found}: {excerpt(text, self._key)}")
        if (error := found.get("error")) is not None:
            message = error.get("message") if isinstance(error, dict) else error
            raise ServiceError(SERVICE, f"it reports an error: {excerpt(str(message), self._key)}")
        return found

    def _content(self, found: Mapping[str, object], part: str) -> Iterator[str]:
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return  # counts of tokens come without choices
        self._finished = self._finished or choice.get("finish_reason") is not None
        message = choice.get(part)
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield fix_surrogates(content)


@dataclass(frozen=True)
class Settings:
    """A chat service."""

    base_url: str = key("https://api.openai.com/v1", "base URL of OpenAI or a compatible service")
    api_key: Secret = key(lambda: Secret(credential="openai"), "where the API key is stored, if one is needed")
    model: str = key("gpt-4o-mini", "name of the chat model")
    system: str = key(
        "You are a voice assistant. Answer in one or two short spoken sentences, without markup.",
        "instructions that come before the first turn",
    )
    history_turns: int = key(6, "number of earlier turns that are sent along", low=0, high=100)
    max_tokens: int | None = key(None, "longest reply in tokens; null: the service's default", low=1, high=100000)


def _check_used(settings: Settings) -> Iterator[Finding]:
    if not settings.model.strip():
        yield Finding("model", "the model is empty, expected the name of a chat model")


def _make(responder: ResponderSettings) -> OpenAIResponder:
    return OpenAIResponder(responder.settings("openai"), responder.timeout_seconds, responder.allow_plaintext)


RESPONDER = ResponderKind(_make, Settings, _check_used, url_key="base_url")
