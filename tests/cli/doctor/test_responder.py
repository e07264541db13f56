"""The check of the responder, against HTTP servers that answer as language models and webhooks do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.mcp_server import mcp_server

from agent.cli.doctor.config import check_keys
from agent.cli.doctor.responder import check_responder
from agent.cli.doctor.result import ERROR, OK, WARNING, CheckResult, exit_code
from agent.settings.loader import Loaded

Read = Callable[[str], Loaded]

STREAM = 'data: {"choices": [{"index": 0, "delta": {"content": "Yes."}}]}\n\ndata: [DONE]\n\n'
TOOL_CALL = (
    'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]},'
    ' "finish_reason": "tool_calls"}]}\n\ndata: [DONE]\n\n'
)


class Model(ThreadingHTTPServer):
    """Answers each POST with one response; without a status it stays silent until it is closed."""

    daemon_threads = True

    def __init__(self, status: int | None, content_type: str = "text/event-stream", body: str = "") -> None:
        self.answer = status, content_type, body
        self.requests: list[tuple[str, dict[str, object], str | None]] = []
        self.is_closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self) -> None:
        self.is_closing.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:  # noqa: N802 - http.server's name
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, document, self.headers["Authorization"]))
        status, content_type, body = self.server.answer
        if status is None:
            self.server.is_closing.wait(30)
            return
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


Serve = Callable[..., Model]


@pytest.fixture
def serve() -> Iterator[Serve]:
    models: list[Model] = []

    def start(status: int | None, *more: str) -> Model:
        models.append(Model(status, *more))
        return models[-1]

    yield start
    for model in models:
        model.close()


def of_openai(loaded: Read, url: str, more: str = "") -> Loaded:
    return loaded(f"responder:\n  kind: openai\n  openai: {{base_url: '{url}/v1'{more}}}\n")


def check(loaded: Loaded, seconds: float = 20.0) -> CheckResult:
    (result,) = check_responder(loaded, seconds)
    return result


def test_a_model_that_answers_is_ok(loaded: Read, serve: Serve) -> None:
    model = serve(200, "text/event-stream", STREAM)
    result = check(of_openai(loaded, model.url, ", model: llama, api_key: some-key"))
    assert (result.subject, result.verdict) == ("responder openai", OK) and "127.0.0.1" in result.saw
    ((path, document, key),) = model.requests
    assert (path, document["model"], key) == ("/v1/chat/completions", "llama", "Bearer some-key")


@pytest.mark.parametrize(
    ("status", "word", "cure", "code"),
    [
        (401, "401", "right key", 78),
        (403, "403", "right key", 78),
        (404, "404", "responder.openai.base_url (", 78),
        (402, "402", "account", 69),
        (429, "429", "account", 69),
        (503, "503", "status page", 69),
        (502, "502", "log of the service or its status page", 69),
        (400, "400", "the settings beside it", 69),
        (500, "500", "responder.openai.base_url (", 69),
        (302, "redirects", "responder.openai.base_url (", 78),
    ],
)
def test_a_model_that_refuses_is_an_error_with_its_cure(
    loaded: Read, serve: Serve, status: int, word: str, cure: str, code: int
) -> None:
    result = check(of_openai(loaded, serve(status, "text/plain", "no").url, ", api_key: some-key"))
    assert result.verdict == ERROR and word in result.saw, result
    assert cure in result.cure and exit_code([result]) == code, result
    assert "some-key" not in result.saw + result.cure


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("text/html", "<html>Welcome</html>"), ("application/json", "<html>"), ("application/xml", "<a/>")],
)
def test_a_web_page_in_place_of_a_model_is_an_error(loaded: Read, serve: Serve, content_type: str, body: str) -> None:
    result = check(of_openai(loaded, serve(200, content_type, body).url))
    assert result.verdict == ERROR and exit_code([result]) == 78
    assert "responder.openai.base_url (" in result.cure and "web page" in result.cure


def test_a_port_without_tls_is_an_error_with_its_cure(loaded: Read, serve: Serve) -> None:
    result = check(of_openai(loaded, serve(200).url.replace("http:", "https:")))
    assert result.verdict == ERROR and "service uses TLS there" in result.cure and exit_code([result]) == 78


def test_a_model_without_a_text_is_a_warning(loaded: Read, serve: Serve) -> None:
    result = check(of_openai(loaded, serve(200, "text/event-stream", TOOL_CALL).url))
    assert result.verdict == WARNING and "tool" in result.saw


def test_a_closed_port_is_an_error_with_the_line_of_the_url(loaded: Read) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = check(of_openai(loaded, f"http://127.0.0.1:{port}"))
    assert result.verdict == ERROR and f"127.0.0.1:{port}" in result.saw and exit_code([result]) == 69
    assert "start the service" in result.cure or "responder.openai.base_url (" in result.cure


def test_a_model_that_sends_no_word_in_time_is_a_warning(loaded: Read, serve: Serve) -> None:
    result = check(of_openai(loaded, serve(None).url), seconds=0.1)
    assert result.verdict == WARNING and "being loaded" in result.cure


@pytest.mark.parametrize(
    ("status", "content_type", "body", "verdict"),
    [
        (200, "text/plain", "Hello.", OK),
        (200, "application/json", '{"text": "Hello."}', OK),
        (204, "text/plain", "", OK),
        (200, "text/plain", "", OK),
        (401, "text/plain", "no", ERROR),
        (500, "text/plain", "no", ERROR),
        (200, "text/html", "<html></html>", ERROR),
    ],
)
def test_a_webhook_gets_a_test_sentence(
    loaded: Read, serve: Serve, status: int, content_type: str, body: str, verdict: str
) -> None:
    model = serve(status, content_type, body)
    result = check(loaded(f"responder:\n  kind: webhook\n  webhook: {{url: '{model.url}/hook'}}\n"))
    assert (result.subject, result.verdict) == ("responder webhook", verdict)
    assert "doctor" in str(model.requests[0][1]["text"])


@pytest.mark.parametrize(
    "text",
    ["", "responder: {kind: none}\n", "responder: {kind: echo}\n",
     "conversation: {mode: announce}\nresponder: {kind: openai}\n"],
)  # fmt: skip
def test_a_responder_that_needs_nothing_outside_is_not_checked(loaded: Read, text: str) -> None:
    assert check_responder(loaded(text)) == []


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("http://127.0.0.1:11434/v1", OK),
        ("http://localhost:8080/v1", OK),
        ("http://192.168.1.20:1234/v1", OK),
        ("http://llm.local/v1", OK),
        ("https://api.openai.com/v1", ERROR),
    ],
)
def test_a_missing_key_is_an_error_for_a_public_model_only(loaded: Read, url: str, verdict: str) -> None:
    text = f"responder:\n  kind: openai\n  openai: {{base_url: '{url}', api_key: {{credential: no-such-key}}}}\n"
    results = {result.subject: result for result in check_keys(loaded(text), installed=False)}
    assert results["key responder.openai"].verdict == verdict


def test_model_gets_no_tools_and_mcp_servers_are_checked(loaded: Read, serve: Serve) -> None:
    model = serve(200, "text/event-stream", STREAM)
    with mcp_server() as server:
        configuration = loaded(
            f"responder: {{kind: openai, openai: {{base_url: '{model.url}', tools: {{builtin: [volume], mcp: ["
            f"{{name: home, url: '{server.url}'}}, {{name: gone, url: 'http://127.0.0.1:9/mcp'}}]}}}}}}\n"
        )
        answer, home, gone = check_responder(configuration)
        assert server.ended == server.sessions
    assert (answer.verdict, home.verdict, gone.verdict) == (OK, OK, WARNING)
    assert home.saw == "1 tools" and "cannot be reached" in gone.saw
    assert "tools" not in model.requests[0][1]
