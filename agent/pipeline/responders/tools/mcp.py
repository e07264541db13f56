"""Reads the tools of an MCP server over Streamable HTTP and calls them.

The wire format is JSON-RPC 2.0 in POST requests. The server answers each one with JSON or an event stream (Model
Context Protocol, "Transports" and "Lifecycle", revisions 2025-03-26 to 2025-11-25). The GET stream of server messages
is not used.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

from agent.errors import AgentError, ServiceError
from agent.pipeline.responders.event_stream import EventStreamParser, LineTooLongError
from agent.pipeline.responders.http_post import ResponseHead, post_json
from agent.pipeline.responders.responder import MAX_SILENCE_SECONDS
from agent.pipeline.responders.tools.json_schema import schema_problem
from agent.pipeline.responders.tools.settings import SEPARATOR, McpServer
from agent.pipeline.responders.tools.tool import Tool, ToolError, ToolResult, as_json
from agent.services.connection.http import CancellableSession
from agent.services.protocols.parsing import excerpt
from agent.system.json_text import fix_surrogates, parse_json
from agent.system.log import RepeatedWarning
from agent.system.named_tuple import NamedTuple
from agent.system.text import escape
from agent.system.threads import Backoff, Deadline

log = logging.getLogger(__name__)

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
"""The supported protocol versions, the preferred version first."""
MAX_TOOLS = 128
MAX_PAGES = 20
MAX_SERVER_REQUESTS = 10
"""Limit for the requests of the server, such as a ping, that are answered during one response."""
MAX_DESCRIPTION_CHARACTERS = 2000
LEAVE_SECONDS = 0.3
"""Timeout for the request that ends the session at shutdown."""
_MAX_NAME = 64
_METHOD_NOT_FOUND = -32601

Messages = Generator[None, None, Any]


class _Session(NamedTuple):
    """A session: the protocol version and the session ID that the server has chosen. Immutable.

    ``id`` is empty if the server has no sessions.
    """

    version: str
    id: str

    @property
    def headers(self) -> dict[str, str]:
        return {"MCP-Protocol-Version": self.version, **({"Mcp-Session-Id": self.id} if self.id else {})}


class McpConnection:
    """One MCP server. ``start``, ``stop``, ``join``, ``tools`` and the calls of the tools are thread-safe.

    The thread of the connection opens a session and reads the list of tools, with backoff while the server cannot be
    reached. Then it waits for ``stop`` and ends the session. Each call of a tool is a separate request in the thread of
    the call.

    Args:
        settings: The configuration of the server.
        allow_plaintext: Whether the key may be sent unencrypted to a public address.
        backoff: The delays between attempts; ``None`` for 1 to 60 s.

    Attributes:
        tools: The tools of the server; empty until the server has listed them.
    """

    def __init__(self, settings: McpServer, allow_plaintext: bool = False, backoff: Backoff | None = None) -> None:
        self._settings, self._allow_plaintext = settings, allow_plaintext
        self._service = f"MCP server {settings.name}"
        self._backoff = backoff or Backoff(1.0, 60.0)
        self._failure = RepeatedWarning(log)
        self._numbers = itertools.count(1)
        self._session: _Session | None = None
        self._reopening = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.tools: tuple[Tool, ...] = ()

    def start(self) -> None:
        """Start the thread of the connection. If this fails, the tools are missing and a warning is logged."""
        thread = threading.Thread(target=self._run, name=f"mcp {self._settings.name}", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:
            log.warning("mcp: no thread, the tools are missing, server=%s, %s", self._settings.name, error)

    def stop(self) -> None:
        """Let the thread end the session. Does not wait; see ``join``."""
        self._stopped.set()

    def join(self, deadline: Deadline) -> None:
        """Wait until the thread has ended the session."""
        if self._thread is not None:
            self._thread.join(deadline.remaining())

    def probe(self) -> int:
        """Open a session in the calling thread, end it, and return the number of tools. Raises ``AgentError``."""
        with closing(self._open()) as opening:
            for _ in opening:
                pass
        self._leave()
        return len(self.tools)

    # --- the thread of the connection

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._connect():
                self._stopped.wait()
                self._leave()
                return
            self._stopped.wait(self._backoff.next_seconds())

    def _connect(self) -> bool:
        """Open a session and read the tools; return whether this succeeded."""
        name = self._settings.name
        try:
            with closing(self._open()) as opening:
                for _ in opening:
                    if self._stopped.is_set():
                        return False
        except AgentError as error:
            self._failure.warn("mcp: no tools yet, server=%s, %s", name, escape(str(error), 300))
            return False
        except Exception:  # noqa: BLE001 - an unexpected response must not end the attempts
            log.exception("mcp: internal error, server=%s", name)
            return False
        self._failure.resolved("mcp: reached again, server=%s", name)
        log.info("mcp: connected, server=%s, tools=%d", name, len(self.tools))
        return True

    def _leave(self) -> None:
        if self._session is not None:
            self._end_session(self._session)

    def _end_session(self, session: _Session) -> None:
        if not session.id:
            return
        exchange = CancellableSession()
        try:
            headers = {**session.headers, **self._authorization()}
            exchange.exchange("DELETE", self._settings.url, headers, Deadline(LEAVE_SECONDS), 1024)
        except Exception as error:  # noqa: BLE001 - the server may be down; its session then ends by timeout
            log.debug("mcp: the session was not ended, server=%s, %s", self._settings.name, type(error).__name__)
        finally:
            exchange.close()

    # --- requests, each a generator that yields while it waits

    def _open(self) -> Messages:
        client = {"name": "voice-agent", "version": "1"}
        request = {"protocolVersion": VERSIONS[0], "capabilities": {}, "clientInfo": client}
        head, result = yield from self._request("initialize", request, None)
        version = result.get("protocolVersion")
        if version not in VERSIONS:
            raise ToolError(f"it speaks the protocol {excerpt(str(version))}, expected one of {', '.join(VERSIONS)}")
        id = head.headers.get("mcp-session-id", "")
        session = _Session(str(version), id if id.isascii() and id.isprintable() else "")
        try:
            tools = yield from self._list_tools(session)
        except BaseException:  # also GeneratorExit, after a stop or a cancel
            self._end_session(session)
            raise
        self._session, self.tools = session, tools

    def _list_tools(self, session: _Session) -> Generator[None, None, tuple[Tool, ...]]:
        yield from self._send({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
        tools: list[Tool] = []
        cursor: Any = None
        for _ in range(MAX_PAGES):
            _, page = yield from self._request("tools/list", {} if cursor is None else {"cursor": cursor}, session)
            listed = page.get("tools")
            tools += self._tools(listed if isinstance(listed, list) else [], {tool.name for tool in tools})
            cursor = page.get("nextCursor")
            if not isinstance(cursor, str) or len(tools) >= MAX_TOOLS:
                break
        return tuple(tools[:MAX_TOOLS])

    def _call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        parameters = {"name": name, "arguments": arguments}
        session = self._session
        try:
            _, result = yield from self._request("tools/call", parameters, session)
        except ServiceError as error:
            # The status of an expired session is 404 ("Session Management"). Older servers of the Python SDK send 400
            # (modelcontextprotocol/python-sdk #1727).
            if error.status not in (400, 404) or session is None or not session.id:
                raise
            yield from self._reopen(session)
            _, result = yield from self._request("tools/call", parameters, self._session)
        text = _text(result)
        if result.get("isError") is True:
            raise ToolError(text)
        return text

    def _reopen(self, expired: _Session) -> Messages:
        """Replace an expired session, unless a concurrent call has already replaced it."""
        while not self._reopening.acquire(timeout=MAX_SILENCE_SECONDS):
            yield
        try:
            if self._session is expired:
                yield from self._open()
        finally:
            self._reopening.release()

    def _request(
        self, method: str, parameters: Mapping[str, Any], session: _Session | None
    ) -> Generator[None, None, tuple[ResponseHead, Mapping[str, Any]]]:
        number = next(self._numbers)
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": parameters}
        head = ResponseHead(0, {})
        reader: _Reader | None = None
        answered = 0
        with closing(self._post(message, session)) as response:
            for item in response:
                if isinstance(item, ResponseHead):
                    head, reader = item, _Reader(item.content_type)
                elif item is not None and reader is not None:
                    for received in reader.feed(item):
                        if (result := self._result(received, number)) is not None:
                            return head, result
                        if "method" in received and "id" in received and answered < MAX_SERVER_REQUESTS:
                            answered += 1
                            yield from self._answer(received, session)
                yield  # also while notifications arrive, so that the caller can check for a cancel
            for received in reader.feed(b"", final=True) if reader is not None else ():
                if (result := self._result(received, number)) is not None:
                    return head, result
        raise ServiceError(self._service, f"the response to {method} has no result")

    def _result(self, message: Mapping[str, Any], number: int) -> Mapping[str, Any] | None:
        if message.get("id") != number or "method" in message:
            return None
        error = message.get("error")
        if isinstance(error, dict):
            raise ServiceError(self._service, f"it reports an error: {excerpt(str(error.get('message')))}")
        result = message.get("result")
        return result if isinstance(result, dict) else {}

    def _answer(self, message: Mapping[str, Any], session: _Session | None) -> Messages:
        """Answer a request of the server: a ping with a result, any other request with an error."""
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if message["method"] == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": _METHOD_NOT_FOUND, "message": "not offered"}
        yield from self._send(answer, session)

    def _send(self, message: Mapping[str, Any], session: _Session | None) -> Messages:
        """Send a message and ignore the body of the response."""
        with closing(self._post(message, session)) as response:
            for _ in response:
                yield

    def _post(
        self, message: Mapping[str, Any], session: _Session | None
    ) -> Generator[ResponseHead | bytes | None, None, None]:
        return post_json(
            self._service,
            self._settings.url,
            message,
            key=self._settings.api_key.reveal(),
            accept="application/json, text/event-stream",
            timeout_seconds=self._settings.timeout_seconds,
            allow_plaintext=self._allow_plaintext,
            headers=None if session is None else session.headers,
            section="responder.openai.tools.mcp",
        )

    def _authorization(self) -> dict[str, str]:
        key = self._settings.api_key.reveal()
        return {} if key is None else {"Authorization": f"Bearer {key}"}

    def _tools(self, listed: list[Any], used: set[str]) -> Iterator[Tool]:
        wanted = self._settings.tools
        for item in listed:
            own = item.get("name") if isinstance(item, dict) else None
            if not isinstance(own, str) or not own or (wanted and own not in wanted):
                continue
            name = f"{self._settings.name}{SEPARATOR}{re.sub('[^A-Za-z0-9_-]', '_', own)}"
            schema = item.get("inputSchema", {"type": "object"})
            problem = schema_problem(schema, is_from_server=True)
            if len(name) > _MAX_NAME:
                problem = f"the name is longer than {_MAX_NAME} characters with that of the server"
            elif name in used:
                problem = "there is another tool of this name"
            if problem is not None:
                log.warning("mcp: tool left out, tool=%s, %s", escape(name, 100), problem)
                continue
            used.add(name)
            description = fix_surrogates(str(item.get("description") or ""))[:MAX_DESCRIPTION_CHARACTERS]
            yield Tool(name, description, schema, self._runner(own), self._settings.confirm, is_from_server=True)

    def _runner(self, name: str) -> Callable[[Mapping[str, Any]], ToolResult]:
        return lambda arguments: self._call(name, arguments)


class _Reader:
    """Parses the body of a response into JSON-RPC messages. Not thread-safe."""

    def __init__(self, content_type: str) -> None:
        self._stream = EventStreamParser() if content_type == "text/event-stream" else None
        self._body = bytearray()

    def feed(self, data: bytes, *, final: bool = False) -> Iterator[Mapping[str, Any]]:
        if self._stream is None:
            self._body += data
            documents: list[str | bytes] = [bytes(self._body)] if final and self._body.strip() else []
        else:
            try:
                documents = [event.data for event in self._stream.feed(data, final=final) if event.data.strip()]
            except LineTooLongError:
                raise ToolError("a line of the response is too long") from None
        for document in documents:
            message = parse_json(document)
            if isinstance(message, str):
                raise ToolError(f"the response cannot be used: {message}")
            yield message


def _text(result: Mapping[str, Any]) -> str:
    """Return the result of a call as text. A part without text is replaced by its type and address."""
    content = result.get("content")
    parts = [_part(each) for each in content if isinstance(each, dict)] if isinstance(content, list) else []
    if not parts and isinstance(result.get("structuredContent"), dict):
        return as_json(result["structuredContent"])
    return "\n".join(parts)


def _part(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if kind == "text":
        return str(part.get("text", ""))
    resource = part.get("resource")
    resource = resource if isinstance(resource, dict) else {}
    if kind == "resource" and isinstance(resource.get("text"), str):
        return str(resource["text"])
    where = part.get("uri") or part.get("mimeType") or resource.get("uri") or ""
    return f"[{str(kind)[:40]} {str(where)[:200]}: cannot be shown here]"
