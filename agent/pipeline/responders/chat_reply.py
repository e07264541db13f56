"""Parses the response of a chat completion, streamed or whole, in the variants that servers send.

The wire format (OpenAI API reference, "Create chat completion") is either a stream of server-sent events or one JSON
object. The ``data`` of an event is a JSON object with ``choices[0].delta``; the last event is ``[DONE]``. The single
object has ``choices[0].message``. vLLM, llama.cpp, Ollama, LiteLLM, OpenRouter, Azure, Mistral and LM Studio send
variants: ``content`` as a list of parts, an additional ``reasoning_content``, events without choices, errors within the
stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.errors import ServiceError
from agent.pipeline.responders.event_stream import (
    MAX_LINE_CHARACTERS,
    EventStreamParser,
    LineTooLongError,
    ServerSentEvent,
)
from agent.pipeline.responders.http_post import ResponseHead
from agent.pipeline.responders.tool_calls import ToolCalls
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, parse_json

_EVENT_STREAM_TYPES = ("text/event-stream", "text/plain", "application/octet-stream", "application/x-ndjson", "")


class ChatReply:
    """Parses the body of one response: bytes in, text out. Not thread-safe; owned by the responder thread.

    Args:
        service: The name of the service in error messages.
        key: The API key, which is removed from error messages.

    Attributes:
        is_complete: Whether the service has marked the end of the stream.
        finish_reason: The reason that the service reports for the end of the reply; empty if unknown.
        has_tool_call: Whether the model requests a tool call.
        tool_calls: The tool calls that the model requests.
        has_refusal: Whether the model refused to answer.
    """

    def __init__(self, service: str, key: str | None) -> None:
        self.is_complete = False
        self.finish_reason = ""
        self.has_tool_call = False
        self.tool_calls = ToolCalls()
        self.has_refusal = False
        self._service, self._key = service, key
        self._stream: EventStreamParser | None = None
        self._is_json = False
        self._half = ""
        self._body = bytearray()  # all bytes of a JSON response; the first bytes of another one until its kind is known

    def begin(self, head: ResponseHead) -> None:
        """Check the content type. Raises ``ServiceError`` if it is neither that of an event stream nor JSON."""
        self._is_json = head.content_type == "application/json"
        if not self._is_json and head.content_type not in _EVENT_STREAM_TYPES:
            raise ServiceError(self._service, f"expected an event stream or JSON, got {excerpt(head.content_type)}")

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Yield the text in a part of the body.

        Raises:
            ServiceError: The service reports an error, or the body is invalid.
        """
        if self._stream is None:
            self._body += chunk
            begin = bytes(self._body).removeprefix(b"\xef\xbb\xbf").lstrip()
            # Some proxies send the wrong content type, so the first character decides between JSON and an event stream.
            if not begin or begin.startswith((b"{", b"[")) or (self._is_json and begin[:1] not in b"de:"):
                return
            self._stream, chunk = EventStreamParser(), bytes(self._body)
            self._body.clear()
        yield from self._events(self._stream, chunk, final=False)

    def finish(self) -> Iterator[str]:
        """Yield the text in the rest of the body. Raises ``ServiceError`` if the reply is incomplete."""
        if self._stream is None and self._body.strip():
            document = self._parse_object(self._body.decode("utf-8-sig", "replace"))
            yield from self._content(document)
            return
        if self._stream is not None:
            yield from self._events(self._stream, b"", final=True)
        if not (self.is_complete or self.finish_reason):
            raise ServiceError(self._service, "the response ended before the reply was complete")

    def _events(self, stream: EventStreamParser, chunk: bytes, *, final: bool) -> Iterator[str]:
        try:
            for event in stream.feed(chunk, final=final):
                yield from self._event(event)
                if self.is_complete:
                    return
        except LineTooLongError:
            limit = MAX_LINE_CHARACTERS // 1024
            raise ServiceError(self._service, f"a line of the response is longer than {limit} KiB") from None

    def _event(self, event: ServerSentEvent) -> Iterator[str]:
        if event.name not in ("message", "error") and not event.data.lstrip().startswith(("{", "[")):
            return  # such as a ping of a proxy
        for data in _documents(event.data):
            if data == "[DONE]":
                self.is_complete = True
                return
            document = self._parse_object(data)
            if event.name == "error":
                raise self._error(document.get("message", document))
            yield from self._content(document)

    def _parse_object(self, text: str) -> Mapping[str, Any]:
        document = parse_json(text)
        if isinstance(document, str):
            raise ServiceError(self._service, f"{document}: {excerpt(text, self._key)}")
        if (error := document.get("error")) is not None:
            raise self._error(error)
        if document.get("object") == "error":
            raise self._error(document.get("message"))
        return document

    def _error(self, error: Any) -> ServiceError:
        message = error.get("message", error) if isinstance(error, dict) else error
        return ServiceError(self._service, f"the service reports an error: {excerpt(str(message), self._key)}")

    def _content(self, document: Mapping[str, Any]) -> Iterator[str]:
        choice = _first_choice(document.get("choices"))
        if choice is None:
            return  # an event with the token usage, or with the filter results of the prompt
        message = choice.get("delta") or choice.get("message")
        if isinstance(message, dict):
            self.has_tool_call = self.has_tool_call or bool(message.get("tool_calls") or message.get("function_call"))
            self.tool_calls.feed(message.get("tool_calls"))
            text = _text(message.get("content"))
            refusal = message.get("refusal")
            if isinstance(refusal, str) and refusal:
                self.has_refusal = True
                text += refusal
        else:
            text = _text(choice.get("text"))  # the older completions API
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]  # the server has split a surrogate pair; the other half follows
        if text:
            yield fix_surrogates(text)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self.finish_reason = reason
            if reason == "error":
                raise self._error(choice.get("error") or "finish reason error")


def _documents(data: str) -> list[str]:
    """Return the JSON documents of an event: several if the server omits the empty lines between events."""
    data = data.strip()
    if "\n" not in data or data == "[DONE]":
        return [data] if data else []
    try:
        json.loads(data)
    except ValueError:
        return [line.strip() for line in data.split("\n") if line.strip()]
    return [data]


def _first_choice(choices: Any) -> dict[str, Any] | None:
    """Return the choice with index 0. The choices of an event may be in any order."""
    found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    return next((choice for choice in found if choice.get("index", 0) in (0, None)), None)


def _text(content: Any) -> str:
    """Return the text of ``content``, which is a string or a list of parts. Parts with reasoning are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return ""
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type", "text") in ("text", "output_text", "refusal"):
            text = part.get("text", part.get("refusal"))
            value = text.get("value") if isinstance(text, dict) else text
            texts.append(value if isinstance(value, str) else "")
    return "".join(texts)
