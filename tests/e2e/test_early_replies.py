"""A reply that starts at a pause within the question is discarded without a trace."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.agent_fixtures import Start
from support.local_server import LocalServerProcess
from support.vcard import VirtualCard

from agent.audio.format import SPEECH
from agent.client import Client
from agent.server.tts import tone

TIMEOUT_SECONDS = 60.0
PAUSE = bytes(SPEECH.bytes_of(0.6))
"""Longer than the silence after which a reply starts early, and shorter than the one that ends the question."""


class ChatServer:
    """Answers each chat request with its number, after a pause. Thread-safe."""

    def __init__(self) -> None:
        self.questions: list[list[str]] = []  # the texts of each request without the system prompt
        self.closed = threading.Event()  # a client has closed its request before the end of the answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.questions.append([message["content"] for message in body["messages"][1:]])
                number = len(outer.questions)
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                try:
                    for count in range(
                        20 if number == 1 else 1
                    ):  # a slow answer, so that the speech that follows finds it unfinished
                        delta = {"content": "Yes. " if count else f"Answer {number}."}
                        self.wfile.write(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")
                        outer.closed.wait(0.1)
                    self.wfile.write(b"data: [DONE]\n\n")
                except OSError:
                    outer.closed.set()

            def log_message(self, *arguments: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


def test_reply_to_half_a_question_leaves_no_request_no_reply_and_no_history(
    agent: Start, card: VirtualCard, chat: ChatServer, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    script = tmp_path / "script.txt"
    script.write_text("alpha bravo charlie delta echo foxtrot golf hotel india juliet\n\nkilo lima mike\n")
    words = ("--speech", "tone", "--recognition", "script", "--script", str(script))
    with LocalServerProcess(tmp_path, *words) as server:
        config.write_text(
            "conversation: {mode: assistant, vad: energy, silence_seconds: 1.2}\n"
            "server: {start: false}\nlogging: {transcripts: true}\n"
            f"control: {{socket: {tmp_path}/control.sock}}\n"
            f"transcription: {{url: '{server.ws}/'}}\n"
            f"synthesis: {{services: [local], local: {{url: '{server.ws}'}}}}\n"
            f"responder: {{kind: openai, openai: {{base_url: 'http://127.0.0.1:{chat.port}/v1', model: any}}}}\n"
        )
        daemon = agent("run", "--config", str(config), env=card.env)
        daemon.stderr.await_text("daemon ready")
        card.inject(
            tone.pcm("one two three four", SPEECH.rate) + PAUSE + tone.pcm("five six seven", SPEECH.rate), SPEECH
        )
        daemon.stderr.await_text("reply-1: played")
        assert chat.closed.wait(TIMEOUT_SECONDS)
        asked = [question for question, *rest in chat.questions if not rest]
        assert len(asked) == len(chat.questions) > 1 and len(asked[-1]) > len(asked[0]), chat.questions
        history = Client(str(tmp_path / "control.sock")).history()
        assert [record["text"].strip() for record in history] == [f"Answer {len(asked)}."]
        card.inject(tone.pcm("eight nine ten", SPEECH.rate), SPEECH)
        daemon.stderr.await_text("reply-2: ")
        assert chat.questions[-1][:2] == [asked[-1], f"Answer {len(asked)}."]
