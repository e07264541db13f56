"""An MCP server over Streamable HTTP for tests: sessions, pages, JSON or event streams, and the faults of a script."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ECHO = {
    "name": "echo",
    "description": "Says it again.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


class McpServerOfTests:
    """``tools`` are listed, two on a page; ``results`` holds the result of each tool. Thread-safe enough for tests."""

    def __init__(self, *, is_stream: bool = True, has_sessions: bool = True) -> None:
        self.tools: list[dict[str, Any]] = [ECHO]
        self.results: dict[str, dict[str, Any]] = {}
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.sessions: list[str] = []
        self.ended: list[str] = []
        self.is_stream, self.has_sessions = is_stream, has_sessions
        self.answered = threading.Event()  # a ping was answered
        self.status = 200
        self.unknown_session_status = 404
        self.pings = 1  # before the result of a call
        self.released = threading.Event()
        self.released.set()
        self.abandoned = threading.Event()  # the client closed the connection of a call that is held
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 20.0

            def do_POST(self) -> None:
                self.close_connection = True
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.method = message.get("method")
                outer.messages.append(message)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                session = self.headers.get("Mcp-Session-Id", "")
                if outer.status != 200:
                    return self.reply(outer.status, "text/plain", b"not now")
                if outer.has_sessions and message.get("method") != "initialize" and session not in outer.sessions:
                    return self.reply(outer.unknown_session_status, "text/plain", b"no such session")
                if "id" not in message or "method" not in message:
                    if "result" in message:
                        outer.answered.set()
                    return self.reply(202, "", b"")
                if not outer.released.is_set() and message["method"] == "tools/call":
                    return self.hold()
                body = {"jsonrpc": "2.0", "id": message["id"], **outer.answer(message)}
                if not outer.is_stream:
                    return self.reply(200, "application/json", json.dumps(body).encode())
                events = [{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info"}}, body]
                if message["method"] == "tools/call":
                    events = [{"jsonrpc": "2.0", "id": "ping-1", "method": "ping"}] * outer.pings + events
                stream = "".join(f"event: message\ndata: {json.dumps(each)}\n\n" for each in events)
                return self.reply(200, "text/event-stream", stream.encode())

            def do_DELETE(self) -> None:
                outer.ended.append(self.headers.get("Mcp-Session-Id", ""))
                self.reply(200, "", b"")

            def hold(self) -> None:
                self.connection.settimeout(15)
                try:
                    self.connection.recv(1)
                except OSError:
                    return
                outer.abandoned.set()

            def reply(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                if kind:
                    self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if outer.sessions and self.command == "POST" and self.method == "initialize":
                    self.send_header("Mcp-Session-Id", outer.sessions[-1])
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: object) -> None: ...

        class Server(ThreadingHTTPServer):
            def handle_error(self, *arguments: object) -> None: ...

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/mcp"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        parameters = message.get("params", {})
        if message["method"] == "initialize":
            if self.has_sessions:
                self.sessions.append(f"session-{len(self.sessions) + 1}")
            version = parameters["protocolVersion"]
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "t"}}}
        if message["method"] == "tools/list":
            start = int(parameters.get("cursor", 0))
            page: dict[str, Any] = {"tools": self.tools[start : start + 2]}
            return {"result": page | ({"nextCursor": str(start + 2)} if start + 2 < len(self.tools) else {})}
        if message["method"] == "tools/call":
            name, arguments = parameters["name"], parameters["arguments"]
            default = {"content": [{"type": "text", "text": f"{name}: {arguments.get('text', '')}"}]}
            return {"result": self.results.get(name, default)}
        return {"error": {"code": -32601, "message": "no such method"}}

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def mcp_server(*, is_stream: bool = True, has_sessions: bool = True) -> Iterator[McpServerOfTests]:
    server = McpServerOfTests(is_stream=is_stream, has_sessions=has_sessions)
    try:
        yield server
    finally:
        server.close()
