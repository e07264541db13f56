"""The responder that asks a chat service over the API of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from agent.config.errors import Finding
from agent.config.fields import key, section
from agent.config.rules import Url
from agent.config.secrets import Secret
from agent.pipeline.responders.chat_history import ChatHistory, delete_history
from agent.pipeline.responders.chat_reply import ChatReply
from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.prompt import DEVICE_FIELDS, fields_of_prompt, fill_prompt, prompt_problem
from agent.pipeline.responders.responder import DeviceContext, ReplyPieces, ResponderKind, Shortfall
from agent.pipeline.responders.settings import ResponderSettings
from agent.pipeline.responders.tools.settings import ToolSettings
from agent.system.json_text import fix_surrogates
from agent.system.named_tuple import NamedTuple

if TYPE_CHECKING:
    from agent.pipeline.responders.tools.session import ToolSession
    from agent.pipeline.responders.tools.tool import Tool
    from agent.pipeline.responders.tools.toolbox import Toolbox

SERVICE = "openai"
HISTORY_FILE = "chat-history.json"
"""The name of the history file in the state directory."""
MAX_TEXT_CHARACTERS = 20_000

# Proxies also pass on the names that Gemini, Anthropic and Mistral use for the finish reasons.
_LENGTH = ("length", "max_tokens", "max_output_tokens", "model_length")
_FILTERED = ("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii", "sensitive")
_TOOL_CALL = ("tool_calls", "function_call", "tool_use")


class OpenAIResponder:
    """Streams the replies of a chat service. Not thread-safe; owned by the responder thread.

    Each request contains the last ``history_turns`` turns. A turn contains only the part of the reply that was heard,
    without the reasoning and the tool calls of the model. A turn without a reply is left out.

    Args:
        settings: The configuration.
        timeout_seconds: The timeout for each response of the model; a reply with tool calls takes several.
        allow_plaintext: Whether keys may be sent unencrypted to a public address.
        device: The device.
    """

    def __init__(
        self,
        settings: Settings,
        timeout_seconds: float = 20.0,
        allow_plaintext: bool = False,
        device: DeviceContext | None = None,
    ) -> None:
        self._settings, self._device = settings, device or DeviceContext()
        self._timeout, self._allow_plaintext = timeout_seconds, allow_plaintext
        directory = self._device.state_directory
        self._history_path = None if directory is None else directory / HISTORY_FILE
        path = self._history_path if settings.keep_history else None
        self._history = ChatHistory(settings.history_turns, settings.forget_after_seconds, path)
        self._toolbox: Toolbox | None = None
        self._session: ToolSession | None = None
        if settings.tools.is_on:
            from agent.pipeline.responders.tools.session import ToolSession
            from agent.pipeline.responders.tools.toolbox import Toolbox

            self._toolbox = Toolbox(settings.tools, self._device, allow_plaintext)
            self._session = ToolSession(self._device, self._request)

    def reply(self, text: str, turn: int) -> ReplyPieces:
        transcript = fix_surrogates(text[:MAX_TEXT_CHARACTERS])
        received: list[str] = []
        reply: ChatReply | None = None
        try:
            pieces = self._answer(transcript, turn)
            with closing(pieces):
                while True:
                    try:
                        piece = next(pieces)
                    except StopIteration as end:
                        reply = end.value
                        break
                    received.append(piece)
                    yield piece
        finally:
            text = _visible(received)
            if text:
                self._history.append(turn, transcript, text)
        return None if reply is None else _shortfall(reply, text)

    def warm_up(self) -> None:
        """Read the history, or delete its file if it is not kept, and start to connect to the MCP servers.

        The libraries for requests are loaded by the first request.
        """
        if self._settings.keep_history:
            self._history.load()
        else:
            delete_history(self._history_path)
        if self._toolbox is not None:
            self._toolbox.connect()

    def forget(self, turn: int) -> None:
        self._history.forget(turn)

    def correct(self, turn: int, played_text: str | None) -> None:
        self._history.correct(turn, played_text)
        if self._session is not None and played_text is not None:
            self._session.cancel_question(turn)

    def close(self) -> None:
        """Clear the history in memory and end the sessions with the MCP servers."""
        self._history.clear()
        if self._toolbox is not None:
            self._toolbox.close()

    def _answer(self, transcript: str, turn: int) -> Generator[str, None, ChatReply | None]:
        system = fill_prompt(self._settings.system, self._device)
        messages: list[dict[str, object]] = [{"role": "system", "content": system}] if system else []
        messages += self._history.messages()
        if self._session is not None and self._toolbox is not None:
            return (yield from self._session.answer(messages, transcript, turn, self._toolbox.tools()))
        messages.append({"role": "user", "content": transcript})
        reply, _ = yield from self._request(messages, {}, False)
        return reply

    def _request(
        self, messages: list[dict[str, object]], tools: Mapping[str, Tool], may_call: bool
    ) -> Generator[str, None, tuple[ChatReply, str]]:
        """Send one request; yield the text of the reply as it arrives, and empty pieces while it is awaited.

        Returns:
            The reply, and its visible text; the text is empty if there are no tools.
        """
        settings = self._settings
        key = settings.api_key.reveal()
        reply = ChatReply(SERVICE, key)
        payload: dict[str, object] = {"model": settings.model, "messages": messages, "stream": True}
        if settings.max_tokens is not None:
            payload["max_tokens"] = settings.max_tokens
        if tools:
            payload["tools"] = [tool.describe() for tool in tools.values()]
            if not may_call:
                payload["tool_choice"] = "none"
        response = post_json(
            SERVICE,
            settings.base_url.rstrip("/") + "/chat/completions",
            payload,
            key=key,
            accept="text/event-stream, application/json",
            timeout_seconds=self._timeout,
            allow_plaintext=self._allow_plaintext,
        )
        received: list[str] = []
        with closing(response):
            for item in response:
                if isinstance(item, ResponseHead):
                    reply.begin(item)
                elif item is None:
                    yield ""
                else:
                    has_text = False
                    for text in reply.feed(item):
                        has_text = True
                        received.append(text)
                        yield text
                    if reply.is_complete:
                        break
                    if not has_text:
                        yield ""  # while reasoning arrives, the worker can check for a cancel
            if not reply.is_complete:
                for text in reply.finish():
                    received.append(text)
                    yield text
        return reply, _visible(received) if tools else ""


def _visible(received: list[str]) -> str:
    """Return the text of a reply without the reasoning of the model."""
    from agent.pipeline.text.reasoning import visible_text  # imported by the first reply

    return visible_text("".join(received)).strip()


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
            "tool_call",
            "the model called a tool that it may not call; use a model or a prompt without it, or set tools",
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
        "instructions before the first turn, with {now} {date} {name} {room} {volume} {timers}; {{ and }} are braces",
    )
    history_turns: int = key(
        6, "number of earlier turns that are sent along; more keep the context and cost more tokens", low=0, high=100
    )
    max_tokens: int | None = key(
        None, "longest reply in tokens, which may cut off a sentence; null: the service's default", low=1, high=100000
    )
    forget_after_seconds: float = key(
        3600.0, "age at which a turn is forgotten; less protects privacy in a shared room", low=10.0, high=2592000.0
    )
    keep_history: bool = key(False, "true: the turns survive a restart, in the state directory")
    tools: ToolSettings = key(ToolSettings, "what the model may do besides answering")


def _check_used(settings: Settings) -> Iterator[Finding]:
    if not settings.model.strip():
        yield Finding("model", "the model is empty, expected the name of a chat model")
    if (problem := prompt_problem(settings.system)) is not None:
        yield Finding("system", *problem)
    for finding in settings.tools.check():
        yield finding.below("tools")


def _make(responder: ResponderSettings, device: DeviceContext) -> OpenAIResponder:
    return OpenAIResponder(responder.settings("openai"), responder.timeout_seconds, responder.allow_plaintext, device)


def _urls(settings: Settings) -> Iterator[Url]:
    for url in settings.tools.urls():
        yield url._replace(key=f"tools.{url.key}")


def _needs_control(settings: Settings) -> bool:
    return settings.tools.is_on or any(name in DEVICE_FIELDS for name in fields_of_prompt(settings.system))


RESPONDER = ResponderKind(
    _make,
    Settings,
    _check_used,
    url_key="base_url",
    more_urls=_urls,
    runs_tools=lambda settings: settings.tools.is_on,
    needs_control=_needs_control,
)
