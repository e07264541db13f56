"""vosk-server as the transcription service: it is told the rate first, answers every frame, and knows one end mark."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.agent_fixtures import Start, write_wav
from websockets.sync.server import ServerConnection, serve


class Vosk:
    """As vosk-server behaves: config accepted without a word, one reply to each frame, a final after its end mark."""

    def __init__(self) -> None:
        self.received: list[str | int] = []
        self.server = serve(self._handle, "127.0.0.1", 0)
        self.port = self.server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def _handle(self, websocket: ServerConnection) -> None:
        for message in websocket:
            if isinstance(message, bytes):
                self.received.append(len(message))
                websocket.send(json.dumps({"partial": "hello"}))
                continue
            self.received.append(message)
            if message == '{"eof" : 1}':
                websocket.send(json.dumps({"text": "hello world"}))
                return
            if "config" not in json.loads(message):
                raise ValueError(message)  # as the real one: close 1011

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()


@pytest.fixture
def vosk() -> Iterator[Vosk]:
    server = Vosk()
    yield server
    server.stop()


def test_vosk_server_gets_the_sample_rate_and_its_end_mark(
    vosk: Vosk, agent: Start, write_config: Callable[[str], str], tmp_path: Path
) -> None:
    path = tmp_path / "asked.wav"
    write_wav(path, bytes(32000))
    config = write_config(f"transcription: {{url: 'ws://127.0.0.1:{vosk.port}/', dialect: vosk}}")
    process = agent("transcribe", "--config", config, str(path))
    assert process.end() == 0
    assert process.output.strip() == "hello world"
    assert vosk.received[0] == '{"config": {"sample_rate": 16000}}' and vosk.received[-1] == '{"eof" : 1}'
    assert sum(size for size in vosk.received if isinstance(size, int)) == 32000
