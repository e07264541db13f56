"""A local service that speaks the chat API and follows a script, and the device of the tests of tools."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = dict[str, Any] | str
"""A text, or ``{"text": ..., "calls": [(id, name, arguments), ...]}``."""


class ChatService:
    """Answers each request with the next step, the last one for ever. ``requests`` holds the parsed bodies."""

    def __init__(self, *steps: Step) -> None:
        self.requests: list[dict[str, Any]] = []
        self.steps = [*steps]
        self.respond: Callable[[dict[str, Any]], Step] = self._next
        self.delay = threading.Event()
        self.delay.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                step = outer.respond(body)
                outer.delay.wait(20)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for delta in deltas(step):
                        choices = [{"index": 0, "delta": delta, "finish_reason": None}]
                        self.wfile.write(b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n")
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    return

            def log_message(self, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def results(self, number: int = -1) -> list[str]:
        """The results of tools in a request."""
        return [each["content"] for each in self.requests[number]["messages"] if each["role"] == "tool"]

    def close(self) -> None:
        self.delay.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next(self, body: dict[str, Any]) -> Step:
        return self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]


@contextmanager
def chat_service(*steps: Step) -> Iterator[ChatService]:
    service = ChatService(*steps)
    try:
        yield service
    finally:
        service.close()


def calls(*each: tuple[str, Any], text: str = "") -> Step:
    """A step in which the model calls tools; arguments that are no text become JSON."""
    listed = [
        (f"call-{number}", name, given if isinstance(given, str) else json.dumps(given))
        for number, (name, given) in enumerate(each, 1)
    ]
    return {"text": text, "calls": listed}


def deltas(step: Step) -> Iterator[dict[str, Any]]:
    """The deltas of a step: texts in two pieces, arguments in pieces of five characters."""
    text = step if isinstance(step, str) else step["text"]
    for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
        if piece:
            yield {"content": piece}
    listed: Sequence[tuple[str, str, str]] = [] if isinstance(step, str) else step["calls"]
    for index, (id, name, arguments) in enumerate(listed):
        yield {"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name}}]}
        for start in range(0, len(arguments), 5):
            yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + 5]}}]}
