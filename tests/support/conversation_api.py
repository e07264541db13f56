"""Home Assistant's conversation API over HTTP, written from its documentation.

Sources: https://developers.home-assistant.io/docs/intent_conversation_api/ for the answers; for the schema of the
request, the error codes and status 400 and 401 ``components/conversation/http.py``, ``helpers/intent.py`` and
``components/http`` of Home Assistant.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

PATH = "/api/conversation/process"
FIELDS = {"text", "conversation_id", "language", "agent_id"}


class ConversationApi:
    """A server with one lamp, in English.

    ``requests`` are the bodies of the valid requests, ``lamp`` is whether the lamp is on.
    """

    def __init__(self, token: str) -> None:
        self.requests: list[dict[str, str]] = []
        self.lamp = False
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30.0

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != PATH:
                    self._answer(404, b"404: Not Found", "text/plain")
                elif self.headers["Authorization"] != f"Bearer {token}":
                    self._answer(401, b"401: Unauthorized", "text/plain")
                else:
                    self._process(json.loads(body))

            def _process(self, data: dict[str, Any]) -> None:
                if (
                    "text" not in data
                    or data.keys() - FIELDS
                    or not all(isinstance(each, str) for each in data.values())
                ):
                    self._answer(400, b'{"message": "Message format incorrect"}')
                    return
                api.requests.append(data)
                document = {
                    "response": api._respond(data["text"], data.get("language", "en")),
                    "conversation_id": data.get("conversation_id", f"conversation-{len(api.requests)}"),
                    "continue_conversation": False,
                }
                self._answer(200, json.dumps(document).encode())

            def _answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> ConversationApi:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _respond(self, text: str, language: str) -> dict[str, Any]:
        words = text.casefold()
        lamp = {"type": "entity", "name": "Desk lamp", "id": "light.desk_lamp"}
        if "desk lamp" not in words:
            code = "no_valid_targets" if words.startswith("turn") else "no_intent_match"
            speech, kind, data = "Sorry, I am not aware of any such device", "error", {"code": code}
        elif words.startswith("is "):
            speech, kind, data = "Yes" if self.lamp else "No, off", "query_answer", {"targets": [], "success": [lamp]}
        elif words.startswith("lock"):
            speech, kind, data = "An unexpected error occurred", "error", {"code": "failed_to_handle"}
        else:
            self.lamp = " on " in f" {words} "
            speech, kind = f"Turned {'on' if self.lamp else 'off'} the light", "action_done"
            data = {"targets": [], "success": [lamp], "failed": []}
        return {
            "response_type": kind,
            "language": language,
            "data": data,
            "speech": {"plain": {"speech": speech, "extra_data": None}},
            "card": {},
        }
